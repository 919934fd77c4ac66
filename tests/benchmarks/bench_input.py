"""How fast is the input pipeline, against the same augmentations in other libraries? Run it on a quiet machine:

    python tests/benchmarks/bench_input.py [--rounds 5] [--seconds 2] [--threads 2] [--json FILE]

JPEGs of 256 × 256 are decoded and become batches of 32 uint8 pictures of 224 × 224: a random-resized crop, a flip,
brightness, contrast and saturation, with a rotation by up to 15° or without. The peers are measured where they are
installed: Keras's preprocessing layers, albumentations (2.0.8) and torchvision (transforms v2), those in as many
threads. All take turns in every round; the median round counts. CPU time is of all threads together and hardly
depends on what else the machine does. FILE holds the same figures.
"""

import argparse
import importlib.util
import itertools
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks import results

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SOURCE, SIZE, BATCH = (256, 256), (224, 224), 32
CROP = {"resized_crop": {"source": list(SOURCE), "area": [0.25, 1.0]}}
COLOUR = [{"brighten": {"brightness": 0.1, "contrast": 0.3}}, {"saturate": {"saturation": 0.3}}]
ROTATE = {"rotate": {"degrees": 15}}


def jpegs(count=128):
    """Windows of scikit-learn's two photographs, as JPEGs."""
    import tensorflow as tf
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = (rng.integers(0, side - 256) for side in photo.shape[:2])
        found.append(tf.io.encode_jpeg(photo[top : top + 256, left : left + 256], quality=90).numpy())
    return found


def ours(files, threads, recipe):
    """The pipeline of `cnn_keras.data.input_pipeline`, from memory: decoding of records, resizing, augmentation."""
    import tensorflow as tf

    from cnn_keras.data.input_pipeline import ImageDecoder, Shape
    from cnn_keras.data.transforms import augment

    seeds = tf.random.experimental.stateless_split((0, 1), len(files))
    source = tf.data.Dataset.from_tensor_slices((files, seeds)).repeat()
    steps, decoder = augment.compose(recipe, size=SIZE), ImageDecoder(Shape(SOURCE, 3))
    batches = augment.augmented_batches(source, lambda *row: ({"image": row[0]}, row[1]), steps, BATCH, decoder)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    return batches.map(lambda batch: batch["image"]).prefetch(2).with_options(options).as_numpy_iterator()


def naive(files, threads, rotate):
    """The chain that TensorFlow's documentation suggests, one operation after the other."""
    import tensorflow as tf

    def example(encoded, seed):
        image = tf.io.decode_jpeg(encoded, channels=3)
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image), tf.zeros([1, 0, 4]), seed, area_range=(0.25, 1), use_image_if_no_bounding_boxes=True
        )
        image = tf.image.resize(tf.slice(image, begin, size), SIZE)
        image = tf.image.stateless_random_flip_left_right(image, seed)
        image = tf.image.stateless_random_brightness(image, 25.5, seed)
        image = tf.image.stateless_random_contrast(image, 0.7, 1.3, seed)
        image = tf.image.stateless_random_saturation(image / 255, 0.7, 1.3, seed) * 255
        if rotate:
            from cnn_keras import addons

            angle = tf.random.stateless_uniform((), seed, -0.26, 0.26)
            image = addons.image.rotate(image, angle, interpolation="bilinear")
        return tf.saturate_cast(image, tf.uint8)

    seeds = tf.random.experimental.stateless_split((0, 1), len(files))
    source = tf.data.Dataset.from_tensor_slices((files, seeds)).repeat()
    return source.map(example, num_parallel_calls=threads).batch(BATCH).prefetch(2).as_numpy_iterator()


def keras_layers(files, threads, rotate):
    """Keras's layers on batches. They have no random-resized crop: a zoom and a crop stand for it."""
    import keras
    import tensorflow as tf

    layers = [
        keras.layers.RandomZoom((-0.5, 0.0), fill_mode="constant"),
        keras.layers.RandomCrop(*SIZE),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomBrightness(0.1),
        keras.layers.RandomContrast(0.3),
        keras.layers.RandomSaturation((0.35, 0.65)),
        *([keras.layers.RandomRotation(15 / 360, fill_mode="constant")] if rotate else []),
    ]

    def augmented(batch):
        for layer in layers:
            batch = layer(batch, training=True)
        return tf.saturate_cast(batch, tf.uint8)

    source = tf.data.Dataset.from_tensor_slices(files).repeat()
    decoded = source.map(lambda encoded: tf.ensure_shape(tf.io.decode_jpeg(encoded, channels=3), (*SOURCE, 3)), threads)
    return decoded.batch(BATCH).map(augmented, threads).prefetch(2).as_numpy_iterator()


def albumentations(files, threads, rotate):
    import albumentations
    import cv2

    cv2.setNumThreads(0)
    steps = albumentations.Compose(
        [
            albumentations.RandomResizedCrop(SIZE, scale=(0.25, 1)),
            albumentations.HorizontalFlip(),
            *([albumentations.Rotate(15, border_mode=cv2.BORDER_CONSTANT, p=1)] if rotate else []),
            albumentations.ColorJitter(0.1, 0.3, 0.3, 0, p=1),
        ]
    )

    def example(encoded):
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return steps(image=image)["image"]

    return threaded(example, files, threads)


def torchvision(files, threads, rotate):
    import torch
    from torchvision.io import decode_jpeg
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    steps = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.25, 1)),
            v2.RandomHorizontalFlip(),
            *([v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR)] if rotate else []),
            v2.ColorJitter(0.1, 0.3, 0.3),
        ]
    )

    def example(encoded):
        return steps(decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8))).permute(1, 2, 0).numpy()

    return threaded(example, files, threads)


def threaded(example, files, threads):
    """Batches from a pool of threads, which the peers' kernels leave Python's lock for."""
    with ThreadPoolExecutor(threads) as pool:
        endless = itertools.cycle(files)
        while True:
            yield np.stack(list(pool.map(example, itertools.islice(endless, BATCH))))


def contestants(files, threads):
    """Name: iterator of batches, for everything that is installed."""
    found = {
        "decode only": ours(files, threads, []),
        "ours: flip, crop, colour": ours(files, threads, [CROP, "mirror", *COLOUR]),
        "ours: and rotation": ours(files, threads, [CROP, "mirror", ROTATE, *COLOUR]),
    }
    peers = {
        "tf.image": naive,
        "keras layers": keras_layers,
        "albumentations": albumentations,
        "torchvision": torchvision,
    }
    for name, peer in peers.items():
        if name in ("albumentations", "torchvision") and importlib.util.find_spec(name) is None:
            print(f"{name}: not installed, left out")
            continue
        found[f"{name}: flip, crop, colour"] = peer(files, threads, False)
        found[f"{name}: and rotation"] = peer(files, threads, True)
    return found


def measure(batches, seconds):
    """Images per second of wall time, and milliseconds of CPU time per image."""
    images, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        images += len(next(batches))
    return images / (time.perf_counter() - wall), 1000 * (time.process_time() - cpu) / images


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if importlib.util.find_spec("torchvision") is not None:
        import torchvision  # noqa: F401 - the first of all: after TensorFlow its library crashes as it is loaded

    found = contestants(jpegs(), arguments.threads)
    for name, batches in found.items():
        assert next(batches).shape == (BATCH, *(SOURCE if name == "decode only" else SIZE), 3)
    measured = {name: [] for name in found}
    for _, (name, batches) in itertools.product(range(arguments.rounds), found.items()):
        next(batches)
        measured[name].append(measure(batches, arguments.seconds))
        time.sleep(0.3)  # what it has begun to prefetch is not the next one's
    base = statistics.median(cpu for _, cpu in measured["decode only"])
    print(f"{'':34} images/s   CPU ms   of decoding's speed, by CPU time")
    rows = []
    for name, rounds in measured.items():
        speed, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:34} {speed:8.0f} {cpu:8.2f} {base / cpu:8.0%}")
        figures = {"images_per_second": speed, "cpu_ms_per_image": cpu, "of_decoding": base / cpu}
        rows.append({"pipeline": name, **figures})
    if arguments.json:
        results.write(arguments.json, rows, by="pipeline")


if __name__ == "__main__":
    main()
