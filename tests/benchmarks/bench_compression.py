"""What do pruning, int8 and distillation cost and keep?

    python tests/benchmarks/bench_compression.py [--runs FOLDER] [--epochs N] [--seeds N] [--plot FILE]

LeNet-5 learns 1,500 of MNIST's digits (`make samples`) and is measured on 3,000. Its smallest weights are made zero,
and what is left is measured at once and after as many epochs again (`train.prune`); the row without zeros is trained
again as long. In int8 it is that of `cnn export --format litert --precision int8`. A student of two small convolutions
learns from the labels alone and from LeNet-5 (`train.distill`), each with several seeds. Intervals of 95 % are those of
other images: Wilson's, and for the student's gain the paired bootstrap, each image counted by its mean over the seeds.
Bytes are those of the weights in float32 and of the LiteRT file, as they are and compressed by gzip, where zeros save.
Han et al., 2015; Hinton et al., 2015. Runs that are there are not run again; all together takes three minutes of CPU.
"""

import argparse
import gzip
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.metrics.classification import wilson_interval
from pipelines.engine import formats, stages
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import compression, ensemble_gain
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.export.runtimes import Target

RECIPE, FIRST = "classify/mnist5k-lenet5", "lenet5"
SETTINGS = ("data.test=0.6", "evaluate.baselines=false", "evaluate.beat=[]", "evaluate.require={}")
SHARES = (0.5, 0.8, 0.9, 0.95)
STUDENT = "model={builder: tests.benchmarks.bench_compression:student}"


def student(*, input_shape, classes):
    """Two convolutions of four and eight filters: 2,202 parameters for 32×32 pixels and ten classes."""
    x = image = keras.Input(input_shape, name="image")
    for filters, pool in ((4, 4), (8, 2)):
        x = layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(pool)(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(layers.Flatten()(x)), name="student")


class Runs:
    """Trainings of one recipe, each by its name, on the same prepared data."""

    def __init__(self, folder, epochs):
        self.folder, self.settings = folder, (*SETTINGS, f"train.epochs={epochs}")
        self.test = None

    def path(self, name):
        return self.folder / "classify" / name

    def run(self, name, *settings, stage="train"):
        """The run of that name, finished as far as a stage; what is there is not run again."""
        recipe = recipes.load(RECIPE, [f"name={name}", *self.settings, *settings])
        if name != FIRST and not (self.path(name) / "prepare").is_dir():
            shutil.copytree(self.path(FIRST) / "prepare", self.path(name) / "prepare")
        run = Run(recipe, Console(stderr=True), self.folder)
        stages.run_stages(run, stage)
        return run

    def train(self, name, *settings):
        """The model of a run."""
        return savedmodel.load_keras(self.run(name, *settings).finished("train") / "model.keras")

    def right(self, model):
        """Whether each image of the test split is recognised: bool (N,)."""
        if self.test is None:
            self.test = input_pipeline.arrays(self.path(FIRST) / "prepare", "test", Shape((32, 32), 1, "stretch"))
        return model.predict(self.test.images, batch_size=256, verbose=0).argmax(axis=1) == self.test.labels


def sizes(model):
    """Bytes of the weights in float32, as they are and compressed."""
    weights = b"".join(weight.numpy().tobytes() for weight in model.weights)
    return len(weights), len(gzip.compress(weights))


def pruning(runs):
    """Rows of (share of zeros, right at once, right after more training, bytes, bytes compressed)."""
    whole = runs.train(FIRST)
    file = runs.path(FIRST) / "train" / "model.keras"
    rows = [(0.0, runs.right(whole), runs.right(runs.train("longer", f"model.weights={file}")), *sizes(whole))]
    for share in SHARES:
        cut = savedmodel.load_keras(file)
        compression.prune(cut, share)
        trained = runs.train(f"pruned-{share * 100:g}", f"model.weights={file}", f"train.prune={share}")
        rows.append((compression.zeros(trained), runs.right(cut), runs.right(trained), *sizes(trained)))
    return rows


def int8(runs):
    """Accuracy and interval on the test split, and the bytes of the file, as it is and compressed."""
    (description,) = formats.export(runs.run(FIRST, stage="export"), [Target("litert", "int8")])
    (file,) = (runs.path(FIRST) / "formats" / "litert-int8").glob("*.tflite")
    proof = description["proof"]
    return proof["value"], proof["interval"], file.stat().st_size, len(gzip.compress(file.read_bytes()))


def distillation(runs, seeds):
    """A student's sizes, and for each image the share of students that are right: of labels alone, and of LeNet-5."""

    def students(name, *settings):
        folder = runs.run(name, STUDENT, f"train.ensemble={seeds}", *settings).finished("train")
        return [savedmodel.load_keras(folder / f"member-{seed}" / "model.keras") for seed in range(seeds)]

    alone, taught = students("student"), students("distilled", f"train.distill.path={runs.path(FIRST)}")
    return sizes(alone[0]), *(np.mean([runs.right(model) for model in models], axis=0) for models in (alone, taught))


def line(name, accuracy, interval, size, compressed, before=None):
    cells = (f"{interval[0]:.2%} to {interval[1]:.2%}", f"{size:,}", f"{compressed:,}")
    at_once = "" if before is None else f"{before:.2%}"
    print(f"{name:<22}{at_once:>9}{accuracy:>10.2%}{cells[0]:>20}{cells[1]:>10}{cells[2]:>9}")


def table(rows, quantized, students):
    print(f"\n{'':<22}{'at once':>9}{'accuracy':>10}{'95 % interval':>20}{'bytes':>10}{'gzip':>9}")
    for zeros, before, right, *size in rows:
        line(
            f"LeNet-5, {zeros:.0%} zeros", right.mean(), wilson_interval(right.sum(), len(right)), *size, before.mean()
        )
    line("LeNet-5 in int8", *quantized)
    size, *both = students
    for name, right in zip(("student, labels alone", "student, distilled"), both, strict=True):
        line(name, right.mean(), wilson_interval(round(right.sum()), len(right)), *size)
    gain = ensemble_gain.gain(*both)
    points, low, high = (100 * value for value in (gain["gain"], *gain["gain_interval"]))
    print(f"\ndistilled over labels alone: {points:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})")


def plot(path, rows):
    from matplotlib.figure import Figure

    figure = Figure((6, 4), layout="constrained")
    axis = figure.subplots()
    zeros = [100 * row[0] for row in rows]
    for column, label, style in ((1, "at once", "o--"), (2, "trained further", "o-")):
        shares = [100 * row[column].mean() for row in rows]
        bounds = [wilson_interval(row[column].sum(), len(row[column])) for row in rows]
        (drawn,) = axis.plot(zeros, shares, style, label=label)
        axis.fill_between(zeros, *(100 * np.transpose(bounds)), color=drawn.get_color(), alpha=0.2, linewidth=0)
    axis.set(xlabel="zeros among the weights of kernels, %", ylabel="accuracy, %", title="LeNet-5 on MNIST, pruned")
    axis.legend(loc="lower left")
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/compression"), help="where the runs are kept")
    parser.add_argument("--epochs", type=int, default=15, help="of every training")
    parser.add_argument("--seeds", type=int, default=3, help="of the student, alone and distilled")
    parser.add_argument("--plot", type=Path, help="draw the accuracy over the share of zeros")
    options = parser.parse_args()
    runs = Runs(options.runs.resolve(), options.epochs)
    rows = pruning(runs)
    table(rows, int8(runs), distillation(runs, options.seeds))
    if options.plot:
        plot(options.plot, rows)


if __name__ == "__main__":
    main()
