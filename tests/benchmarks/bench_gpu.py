"""What does a GPU give? Images per second of training ResNet-50, in one run of less than ten minutes:

    python tests/benchmarks/bench_gpu.py [--builder resnet.resnet50] [--side 224] [--batch 64] [--images 2048]
                                         [--precisions float32 bfloat16] [--without-xla] [--json FILE]

In each precision, with XLA and without it, two trainings take turns. `bare` is Keras's own `fit` of the same network,
made of Keras's own layers, on a batch of random tensors that stays where it is. `cnn` is a recipe on a folder of noisy
JPEGs: read, decoded, mirrored, normalised and trained on; its input alone is measured too, and the share of the time
that the training waits for it. Memory is the peak of the GPU, or, without one, of the process so far. Without a GPU the
sizes are tiny, if not asked for otherwise: what is measured then proves only that the script works.
"""

import argparse
import gc
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

FULL = {"builder": "resnet.resnet50", "side": 224, "batch": 64, "images": 2048}
TINY = {"builder": "resnet.resnet20", "side": 32, "batch": 8, "images": 64}
CLASSES = 10
SECONDS = 5.0  # for which `bare` is timed
RECIPE = """\
task: classify
name: gpu
data:
  {{source: folder, path: photos, size: [{side}, {side}], normalize: rescale, test: 0.1, memory_gb: 0.001}}
augment: [mirror]
model: {{builder: {builder}}}
train: {{epochs: 1, batch_size: {batch}, optimizer: sgd, learning_rate: 0.01, deterministic: false}}
"""


def photos(folder, sizes):
    """Noisy JPEGs of about the size of photographs of that side."""
    from PIL import Image

    generator = np.random.default_rng(0)
    side = sizes["side"] * 8 // 7
    for number in range(sizes["images"]):
        place = folder / "photos" / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (side // 4, side // 4, 3), np.uint8))
        small.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{number}.jpg", quality=90)


def peak():
    """The most memory so far, in MB."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        found = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
        tf.config.experimental.reset_memory_stats("GPU:0")
        return found
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def bare(sizes, precision, xla):
    """Images per second of Keras's `fit`."""
    import keras
    import tensorflow as tf

    from cnn_keras import models

    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    shape = (sizes["side"], sizes["side"], 3)
    model = keras.Model.from_config(
        models.build(sizes["builder"], input_shape=shape, classes=CLASSES).get_config()
    )  # Keras's own layers
    keras.config.set_dtype_policy("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=xla)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(sizes["batch"], *shape)).astype("float32"))
    batches = tf.data.Dataset.from_tensors((images, generator.integers(0, CLASSES, sizes["batch"]))).repeat()
    model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0)  # traces and compiles
    steps, seconds = 2, 0.0
    while seconds < SECONDS:
        started = time.perf_counter()
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
        seconds = time.perf_counter() - started
        steps *= 2
    return steps // 2 * sizes["batch"] / seconds


def product(root, precision, xla):
    """What `cnn train --dry-run` measures."""
    from rich.console import Console

    from pipelines.engine import recipe, stages
    from pipelines.engine.experiments import dry_run

    settings = [f"train.precision={precision}", f"train.xla={str(xla).lower()}"]
    loaded = recipe.load(str(root / "gpu.yaml"), settings)
    return dry_run.measure(stages.Run(loaded, Console(stderr=True, quiet=True), root / "runs"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in FULL.items():
        parser.add_argument(f"--{name}", type=type(default))
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--without-xla", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    sizes = {name: getattr(arguments, name) or default for name, default in (FULL if gpus else TINY).items()}
    print(f"{gpus[0].name if gpus else 'CPU'}: {', '.join(f'{name} {value}' for name, value in sizes.items())}")
    print(f"{'':14} {'XLA':>4} {'bare':>10} {'cnn':>10} {'cnn/bare':>9} {'input':>10} {'waits':>6} {'MB':>8}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        photos(root, sizes)
        (root / "gpu.yaml").write_text(RECIPE.format(**sizes))
        for precision in arguments.precisions:
            for xla in (False, True)[: 1 if arguments.without_xla else 2]:
                peak()
                rate = bare(sizes, precision, xla)
                keras.backend.clear_session()
                gc.collect()
                measured = product(root, precision, xla)
                rows.append(
                    {
                        "precision": precision,
                        "xla": xla,
                        "bare": rate,
                        "cnn": measured["images_per_second"],
                        "input": measured["input_per_second"],
                        "waits": measured["input_share"],
                        "megabytes": peak(),
                    }
                )
                row = rows[-1]
                print(
                    f"{precision:14} {'yes' if xla else 'no':>4} {rate:10.1f} {row['cnn']:10.1f} "
                    f"{row['cnn'] / rate:9.2f} {row['input']:10.1f} {row['waits']:6.0%} {row['megabytes']:8.0f}",
                    flush=True,
                )
                if arguments.json:
                    arguments.json.write_text(json.dumps({**sizes, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
