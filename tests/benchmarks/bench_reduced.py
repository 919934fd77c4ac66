"""What does decoding a large JPEG at a reduced size save, and how far are its pixels from those of a full decoding?

    python tests/benchmarks/bench_reduced.py [--pictures 32]

scikit-learn's two photographs, enlarged to 1024 × 1024 and 3072 × 2048 and saved as JPEGs, are decoded and
resized to 256 × 256 by `ImageDecoder`, whole and reduced, in one thread. Differences are in levels of 0–255.

    python tests/benchmarks/bench_reduced.py --train classify|detect [--scenes 600] [--epochs 10] [--work FOLDER]

says what it does to accuracy: handwritten digits on scikit-image's photographs, stored as JPEGs of 640 × 640, are
streamed to ResNet-20 at 80 × 80 or the small YOLO at 160 × 160, decoded whole and then reduced, from the same seed.
Both networks are measured on test images that are decoded whole. `make samples` installs the photographs.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TARGET, SIZES, ROUNDS = (256, 256), ((512, 512), (640, 427), (1024, 1024), (3072, 2048)), 3  # width, height
STORED, QUALITY = 640, 90  # pixels of a side of the scenes, and of their JPEGs
RECIPE = """\
# Digits on photographs, stored much larger than they are read.
task: {task}
data: {{source: coco, path: scenes, size: [{side}, {side}], memory_gb: 1.0e-6{more}}}
augment: [{{affine: {{rotate: 5, shift: 0.1, zoom: 0.2, fill: nearest}}}}]
model: {{builder: {builder}}}
train: {{epochs: {epochs}, batch_size: 16, learning_rate: 2.0e-3, schedule: cosine, weight_decay: 5.0e-4}}
evaluate: {{insight: false}}
"""
TASKS = {  # task: side, builder, more of data, what is measured
    "classify": (80, "resnet.resnet20", ", labels: multi", "mean_average_precision"),
    "detect": (160, "yolo.yolo_small", ", anchors: 4", "ap50"),
}


def jpegs(size, count):
    """Windows of at least half the photographs' sides, at `size`."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    found = []
    for number in range(count):
        photo, out = photos[number % len(photos)], io.BytesIO()
        share = rng.uniform(0.5, 1, 2)
        width, height = (int(side * part) for side, part in zip(photo.size, share, strict=True))
        left, top = (
            int(rng.integers(0, side - own + 1)) for side, own in zip(photo.size, (width, height), strict=True)
        )
        window = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        window.save(out, "JPEG", quality=int(rng.integers(60, 96)), subsampling=int(rng.integers(3)))
        found.append(out.getvalue())
    return found


def seconds(decode, files):
    """CPU time of a file, the best of ROUNDS."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for data in files:
            decode(data)
        best = min(best, (time.process_time() - started) / len(files))
    return best


def write_scenes(folder, count):
    """The scenes as a folder in COCO's format."""
    from PIL import Image

    from cnn_keras.data.formats import coco
    from cnn_keras.data.sources.synthetic import composites

    def jpeg(read):
        out = io.BytesIO()
        Image.open(io.BytesIO(read())).save(out, "JPEG", quality=QUALITY)
        return out.getvalue()

    scenes = composites.read(count=count, side=STORED, backgrounds="skimage")
    items = [item._replace(id=f"{item.id}.jpg", read=partial(jpeg, item.read)) for item in scenes.items]
    coco.write(items, folder, classes=scenes.classes)


def accuracy(task, scenes, epochs, folder):
    """Train with images decoded whole and reduced, and say what both networks come to."""
    from rich.console import Console

    from cnn_keras.data import input_pipeline
    from pipelines.engine import recipe as recipes
    from pipelines.engine import stages
    from pipelines.engine.startup import load_tensorflow

    side, builder, more, measured = TASKS[task]
    if not (folder / "scenes").is_dir():
        write_scenes(folder / "scenes", scenes)
    recipe = folder / f"{task}.yaml"
    recipe.write_text(RECIPE.format(task=task, side=side, builder=builder, more=more, epochs=epochs))
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.absolute()}/mlflow.db"
    console, decoder = Console(stderr=True), input_pipeline.ImageDecoder
    load_tensorflow(console)
    for name, reduced in (("whole", False), ("reduced", True)):
        input_pipeline.ImageDecoder = partial(_decoder, decoder, reduced)
        run = stages.Run(recipes.load(str(recipe)), console, folder / name)
        stages.run_stages(run, "evaluate")
        report = json.loads((run.finished("evaluate") / "report.json").read_text())
        low, high = report[f"{measured}_interval"]
        print(f"{task}, decoded {name:8} {measured} {report[measured]:.4f} (95 % interval {low:.4f} to {high:.4f})")


def _decoder(kind, allowed, shape, *, reduced=False):
    return kind(shape, reduced=reduced and allowed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--train", choices=TASKS)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, help="Where scenes and runs are kept; a temporary folder unless given.")
    options = parser.parse_args()
    if options.train:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.work or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            return accuracy(options.train, options.scenes, options.epochs, folder)
    import cv2
    import tensorflow as tf

    from cnn_keras.data.input_pipeline import ImageDecoder, Shape

    cv2.setNumThreads(0)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    whole, reduced = (ImageDecoder(Shape(TARGET, 3), reduced=reduced) for reduced in (False, True))
    print("width x height    whole ms    reduced ms    times    mean difference    99th percentile    largest")
    for size in SIZES:
        files = jpegs(size, options.pictures)
        pairs = [(whole.decode(data).astype(int), reduced.decode(data)) for data in files]
        differences = np.concatenate([np.abs(before - after).ravel() for before, after in pairs])
        slow, fast = seconds(whole.decode, files), seconds(reduced.decode, files)
        print(
            f"{size[0]:5} x {size[1]:<8} {1000 * slow:9.2f} {1000 * fast:13.2f} {slow / fast:8.1f} "
            f"{differences.mean():18.2f} {np.percentile(differences, 99):18.0f} {differences.max():10}"
        )


if __name__ == "__main__":
    main()
