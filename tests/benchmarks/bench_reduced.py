"""What does decoding a large JPEG at a reduced size save, and how far are its pixels from those of a full decoding?

    python tests/benchmarks/bench_reduced.py [--pictures 32]

scikit-learn's two photographs, enlarged to 1024 × 1024 and 3072 × 2048 and saved as JPEGs, are decoded and
resized to 256 × 256 by `ImageDecoder`, whole and reduced, in one thread. Differences are in levels of 0–255.
"""

import argparse
import io
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
TARGET, SIZES, ROUNDS = (256, 256), ((512, 512), (640, 427), (1024, 1024), (3072, 2048)), 3  # width, height


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=32)
    options = parser.parse_args()
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
