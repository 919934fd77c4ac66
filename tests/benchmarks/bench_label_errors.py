"""How many planted wrong labels does `cnn review` rank first?

    python tests/benchmarks/bench_label_errors.py [--data mnist5k] [--folds 3] [--epochs 5] [--work FOLDER]

Some of the labels of MNIST's 5,000 digits (`--data mnist5k`), or of 10,000 of Fashion-MNIST's training images (`--data
fashion`, from Debian's package dataset-fashion-mnist), are replaced by another class at random. Every image is then
answered by a network that was not trained on it, in a cross-validation, and `cnn review` ranks the labels. The last
line says how many of the planted ones are in the first tenth. `--work` keeps the run, which is resumed, and the
probabilities; without it a temporary folder is used.

    python tests/benchmarks/bench_label_errors.py --compare FOLDER/probabilities.npz

says the same of cleanlab's ranking of these; it may run in an environment that has nothing but cleanlab.
"""

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))
FIRST = 0.1  # part of the ranking that is looked at
RECIPE = """\
# Images, some of them with a wrong label.
task: classify
data: {{source: csv, path: labels.csv, size: [28, 28], channels: 1}}
model: {{builder: lenet.lenet5_modern, dropout: 0.2}}
train: {{epochs: {epochs}, batch_size: 64, learning_rate: 2e-3}}
evaluate: {{insight: false, baselines: false}}
"""


def write(folder, data, share, epochs, limit):
    """The images, their labels, some of them wrong, and the recipe; the true class of each by its path."""
    from cnn_keras.data.sources import classification

    if data == "fashion":
        items = classification.idx(Path("/usr/share/datasets/fashion-mnist"))
    else:
        items = classification.mnist5k()
    items = [item for item in items if item.split in (None, "train")][:limit]
    classes = sorted({item.label for item in items})
    generator = np.random.default_rng(0)
    is_planted = np.zeros(len(items), bool)
    is_planted[generator.choice(len(items), round(share * len(items)), replace=False)] = True
    (folder / "images").mkdir(parents=True)
    truth = {}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number, (item, wrong) in enumerate(zip(items, is_planted, strict=True)):
            name = f"images/{number:05d}.png"
            (folder / name).write_bytes(item.read())
            others = [label for label in classes if label != item.label]
            label = others[generator.integers(len(others))] if wrong else item.label
            writer.writerow([name, label])
            truth[name] = item.label
    (folder / "planted.yaml").write_text(RECIPE.format(epochs=epochs))
    with (folder / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows(truth.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("mnist5k", "fashion"), default="mnist5k")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--compare", type=Path)
    arguments = parser.parse_args()
    if arguments.compare:
        return compare(arguments.compare)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary) / "work"
        if not (folder / "truth.csv").is_file():
            write(folder, arguments.data, arguments.share, arguments.epochs, arguments.limit)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.absolute()}/mlflow.db"
        measure(folder, arguments.folds)


def measure(folder, folds):
    from rich.console import Console

    from pipelines.analysis.labelling import findings
    from pipelines.engine import recipe as recipes
    from pipelines.engine import stages
    from pipelines.engine.experiments import cross_validation
    from pipelines.engine.startup import load_tensorflow

    console = Console(stderr=True)
    load_tensorflow(console)
    run = stages.Run(recipes.load(str(folder / "planted.yaml")), console, folder / "runs")
    with stages.tracked(run):
        stages.run_stages(run, "prepare")
    cross_validation.cross_validate(run, folds)
    with (folder / "truth.csv").open(newline="") as file:
        truth = dict(csv.reader(file))
    found = findings.find(str(folder / "planted.yaml"), runs=folder / "runs", console=console)
    ids = [found.pictures[row.picture].id for row in found.rows]
    planted = np.array([row.label != truth[name] for row, name in zip(found.rows, ids, strict=True)])
    flagged = np.array([row.kind == findings.LABEL_ERROR for row in found.rows])
    say("cnn review", np.arange(len(planted)), planted, flagged)
    labels, probabilities, pictures, _ = findings.out_of_sample(run)
    planted = [found.classes[label] != truth[one.id] for label, one in zip(labels, pictures, strict=True)]
    np.savez(folder / "probabilities.npz", labels=labels, probabilities=probabilities, planted=planted)


def say(name, order, planted, flagged):
    """How many of the planted ones are in the first tenth of a ranking of rows, and among those that are flagged."""
    first = order[: round(FIRST * len(order))]
    print(
        f"{name}: {planted[first].sum() / planted.sum():.1%} of {planted.sum()} planted wrong labels are in the first "
        f"tenth of {len(order):,}; {flagged.sum()} are called errors, {planted[flagged].mean():.1%} of them planted"
    )


def compare(file):
    """cleanlab's ranking of probabilities that were kept."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    kept = np.load(file)
    scores = get_label_quality_scores(kept["labels"], kept["probabilities"], method="normalized_margin")
    issues = find_label_issues(kept["labels"], kept["probabilities"], filter_by="confident_learning")
    say("cleanlab", np.argsort(scores, kind="stable"), kept["planted"], issues)


if __name__ == "__main__":
    main()
