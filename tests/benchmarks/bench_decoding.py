"""Does an exported classifier decide alike on a JPEG's bytes and on the pixels that a client decodes from them?

    python tests/benchmarks/bench_decoding.py [MODEL] [--pictures 2000]

Windows of scikit-learn's two photographs, JPEGs of quality 30 to 100, are given to `serving_default` as bytes and to
`serving_tensor` as what Pillow and OpenCV decode, and as what TensorFlow's fast method would, for comparison. MODEL is
a folder that `cnn export` wrote, of pictures in colour; without one a random network of ten classes is exported. Then
the speed of both methods, in one thread.
"""

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCH = 100


def jpegs(count, size):
    """Windows of `size` (height, width), of any quality, chroma subsampling and kind."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = (rng.integers(0, side - length + 1) for side, length in zip(photo.shape, size, strict=False))
        window, out = photo[top : top + size[0], left : left + size[1]], io.BytesIO()
        options = {"quality": int(rng.integers(30, 101)), "subsampling": int(rng.integers(3))}
        Image.fromarray(window).save(out, "JPEG", progressive=bool(number % 3 == 0), **options)
        found.append(out.getvalue())
    return found


def random_network(folder, size=(32, 32)):
    """Export a network of ten classes that are about equally frequent in `jpegs`, their borders through the midst."""
    import keras

    from cnn_keras.data.input_pipeline import Shape
    from pipelines.export.savedmodel import write_classifier

    keras.utils.set_random_seed(0)
    inputs = keras.Input((*size, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    for channels in (16, 32, 64):
        x = keras.layers.Conv2D(channels, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(10, name="head")(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    logits = model.predict(np.stack([by_pillow(data) for data in jpegs(500, size)]).astype(np.float32), verbose=0)
    weights, bias = model.get_layer("head").get_weights()
    scale = logits.std(axis=0)
    model.get_layer("head").set_weights([weights / scale, (bias - logits.mean(axis=0)) / scale])
    write_classifier(model, folder, shape=Shape(size, 3), names=list("0123456789"))


def by_pillow(data):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def by_opencv(data):
    import cv2

    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def by_fast_method(data):
    import tensorflow as tf

    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_FAST").numpy()


def decisions(signature, name, values):
    import tensorflow as tf

    batches = (tf.constant(values[at : at + BATCH]) for at in range(0, len(values), BATCH))
    return np.concatenate([signature(**{name: batch})["class_id"].numpy() for batch in batches])


def speed(data, **method):
    """Pictures per second of CPU time."""
    import tensorflow as tf

    decode = tf.function(lambda one: tf.io.decode_jpeg(one, channels=3, **method))
    one, best = tf.constant(data), 0.0
    decode(one)
    for _ in range(7):
        started = time.process_time()
        for _ in range(50):
            decode(one)
        best = max(best, 50 / (time.process_time() - started))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--pictures", type=int, default=2000)
    options = parser.parse_args()
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.model
        if folder is None:
            folder = Path(temporary) / "random" / "1"
            random_network(folder)
        loaded = tf.saved_model.load(str(folder))
    of_bytes, of_pixels = loaded.signatures["serving_default"], loaded.signatures["serving_tensor"]
    size = of_pixels.structured_input_signature[1]["image"].shape[1:3]
    files = jpegs(options.pictures, tuple(size))
    answers = decisions(of_bytes, "image_bytes", files)
    print(f"{len(files)} JPEGs of {size[0]} x {size[1]}, decided for {len(set(answers.tolist()))} classes")
    print("pixels by                 largest difference in levels    decisions changed")
    pillow = np.stack([by_pillow(data) for data in files])
    for name, read in (("Pillow", by_pillow), ("OpenCV", by_opencv), ("TensorFlow's fast method", by_fast_method)):
        images = np.stack([read(data) for data in files])
        difference = np.abs(images.astype(int) - pillow).max()
        changed = (decisions(of_pixels, "image", images) != answers).sum()
        print(f"{name:24} {difference:24} {changed:20} of {len(files)}")
    for side in (32, 256, 400):
        (data,) = jpegs(1, (side, side))
        fast, accurate = (speed(data, dct_method=f"INTEGER_{kind}") for kind in ("FAST", "ACCURATE"))
        print(f"{side} x {side}: fast {fast:,.0f} img/s, accurate {accurate:,.0f} img/s, {accurate / fast:.2f}x")


if __name__ == "__main__":
    main()
