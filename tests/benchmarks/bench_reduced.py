"""What does decoding a large JPEG at a reduced size save, and how far are its pixels from those of a full decoding?

    python tests/benchmarks/bench_reduced.py [--pictures 32]

scikit-learn's two photographs, enlarged to 1024 × 1024 and 3072 × 2048 and saved as JPEGs, are decoded and
resized to 256 × 256 by `ImageDecoder`, whole and reduced, in one thread. Differences are in levels of 0–255.

    python tests/benchmarks/bench_reduced.py --train classify [--count 2500] [--epochs 5] [--work FOLDER]
    python tests/benchmarks/bench_reduced.py --train detect [--count 600] [--epochs 10] [--work FOLDER]

say what it does to accuracy. MNIST's digits, stored as JPEGs of 224 × 224, are streamed to LeNet-5 at 28 × 28; scenes
of scikit-learn's digits on scikit-image's photographs, of 640 × 640, to the small YOLO at 160 × 160; decoded whole and
then reduced, from the same seed. Networks are measured on test images that are decoded whole. `make samples` installs
digits and photographs.
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
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TARGET, SIZES, ROUNDS = (256, 256), ((512, 512), (640, 427), (1024, 1024), (3072, 2048)), 3  # width, height
QUALITY = 90  # of the stored JPEGs
RECIPE = """\
# Images that are stored much larger than they are read.
task: {task}
data: {{path: stored, memory_gb: 1.0e-6, {data}}}
augment: [{{affine: {{rotate: 5, shift: 0.1, zoom: 0.2, fill: nearest}}}}]
model: {{builder: {builder}}}
train: {{epochs: {epochs}, batch_size: 16, learning_rate: 2.0e-3, schedule: cosine, weight_decay: 5.0e-4}}
evaluate: {{insight: false, {evaluate}}}
"""
TASKS = {  # data, builder, evaluate, what is measured
    "classify": ("source: folder, size: [28, 28], channels: 1", "lenet.lenet5_modern", "baselines: false", "accuracy"),
    "detect": ("source: coco, size: [160, 160], anchors: 4", "yolo.yolo_small", "shown: 0.3", "ap50"),
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


def jpeg(read, side):
    """What `read` gives at `side` × `side` pixels, as a JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.open(io.BytesIO(read())).resize((side, side), Image.Resampling.BICUBIC).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def write_digits(folder, count):
    """MNIST's digits, a folder for each class."""
    from cnn_keras.data.sources import classification

    for number, item in enumerate(classification.items("mnist5k")[:: 5000 // count]):
        path = folder / item.label / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(item.read, 224))


def write_scenes(folder, count):
    """Scenes with boxes, a folder in COCO's format."""
    from cnn_keras.data.formats import coco
    from cnn_keras.data.sources.synthetic import composites

    scenes = composites.read(count=count, side=640, backgrounds="skimage")
    items = [item._replace(id=f"{item.id}.jpg", read=partial(jpeg, item.read, 640)) for item in scenes.items]
    coco.write(items, folder, classes=scenes.classes)


def accuracy(task, count, epochs, folder):
    """Train with images decoded whole and reduced, and say what both networks come to."""
    from rich.console import Console

    from cnn_keras.data import input_pipeline
    from pipelines.engine import recipe as recipes
    from pipelines.engine import stages
    from pipelines.engine.startup import load_tensorflow

    data, builder, evaluate, measured = TASKS[task]
    if not (folder / "stored").is_dir():
        (write_digits if task == "classify" else write_scenes)(folder / "stored", count)
    recipe = RECIPE.format(task=task, data=data, builder=builder, epochs=epochs, evaluate=evaluate)
    (folder / "stored.yaml").write_text(recipe)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder.absolute()}/mlflow.db"
    console, reducing = Console(stderr=True), input_pipeline.ImageDecoder
    load_tensorflow(console)
    for name, decoder in (("whole", partial(_whole, reducing)), ("reduced", reducing)):
        run = stages.Run(recipes.load(str(folder / "stored.yaml")), console, folder / name)
        with mock.patch.object(input_pipeline, "ImageDecoder", decoder):
            stages.run_stages(run, "evaluate")
        report = json.loads((run.finished("evaluate") / "report.json").read_text())
        low, high = report[f"{measured}_interval"]
        print(f"decoded {name:8} {measured} {report[measured]:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


def _whole(decoder, shape, *, reduced=False):
    return decoder(shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--train", choices=TASKS)
    parser.add_argument("--count", type=int, help="Images: 2,500 digits or 600 scenes unless given.")
    parser.add_argument("--epochs", type=int, help="5 for digits, 10 for scenes unless given.")
    parser.add_argument("--work", type=Path, help="Where images and runs are kept; a temporary folder unless given.")
    options = parser.parse_args()
    if options.train:
        count, epochs = {"classify": (2500, 5), "detect": (600, 10)}[options.train]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:  # a store is still being made
            folder = options.work or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            accuracy(options.train, options.count or count, options.epochs or epochs, folder)
        return
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
