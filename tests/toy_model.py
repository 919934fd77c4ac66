"""A SavedModel small enough for tests: it tells dark pictures from grey and bright ones."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Shape
from pipelines.export import formats, runtimes

LABELS = ("dark", "grey", "bright")
SIZE = 8
SERVE = """
import sys
from functools import partial
from pathlib import Path, PosixPath
from pipelines.serving.archive import Settings
from pipelines.serving.server import serve
from pipelines.serving.http.limits import Limits
folder, limits, engine, workers, versions, keep = sys.argv[1:]
say, counts = partial(print, flush=True), {"workers": int(workers), "versions": int(versions), "keep": eval(keep)}
serve(Path(folder), port=0, limits=Limits(**eval(limits)), engine=engine, **counts, say=say)
print("drained", "with Keras" if "keras" in sys.modules else "without Keras")
"""


def brightness(image):
    """Logits (batch, 3) of uint8 images (batch, height, width, 1): how near the mean is to 0, 128 and 255."""
    mean = tf.reduce_mean(tf.cast(image, tf.float32), axis=(1, 2, 3)) / 255
    return -40 * (mean[:, None] - tf.constant([[0.0, 0.5, 1.0]])) ** 2


def export(folder: Path, *, network=brightness, weights=(), labels=LABELS, size=SIZE, odd=True) -> Path:
    """Write `folder` (`<name>/<N>`) with the three signatures of an exported classifier, and the odd ones."""

    def scored(image):
        return tf.nn.softmax(network(image)), tf.constant(labels)

    def answer(image):
        probabilities, names = scored(image)
        winner = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": winner, "label": tf.gather(names, winner)}

    def pictures(image_bytes):
        def one(data):
            resized = tf.image.resize(decode(data, channels=1), (size, size), antialias=True)
            return tf.saturate_cast(tf.round(resized), tf.uint8)

        return tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec((size, size, 1), tf.uint8))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def from_bytes(image_bytes):
        return answer(pictures(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None, size, size, 1], tf.uint8, name="image")])
    def from_tensor(image):
        return answer(image)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs):
        features = tf.io.parse_example(inputs, {"image_bytes": tf.io.FixedLenFeature([], tf.string)})
        probabilities, names = scored(pictures(features["image_bytes"]))
        return {"classes": tf.broadcast_to(names, tf.shape(probabilities)), "scores": probabilities}

    signatures = {"serving_default": from_bytes, "serving_tensor": from_tensor, "serving_classify": classify}
    module = tf.Module()
    module.weights = weights  # saved with it
    tf.saved_model.save(module, str(folder), signatures=signatures | (_odd() if odd else {}))
    return folder


def _odd():
    """Signatures that no classifier has and the contract still speaks of."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="a"),
            tf.TensorSpec([None], tf.int32, name="b"),
        ]
    )
    def two_inputs(a, b):
        return {"sum": tf.reduce_sum(a, axis=1) + tf.cast(b, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def scalar(x):
        return {"double": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def echo(text):
        return {"copy": text, "copy_bytes": text}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.bool, name="flag")])
    def invert(flag):
        return {"inverted": ~flag}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def root(x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x >= 0), ["x must not be negative"])]):
            return {"root": tf.sqrt(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(inputs):
        return {"outputs": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"] * 2}

    @tf.function(input_signature=[])
    def constant():
        return {"one": tf.constant([1.0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def flat_scores(inputs):
        return {"scores": tf.cast(tf.strings.length(inputs), tf.float32)}

    functions = (constant, flat_scores, two_inputs, scalar, echo, invert, root, regress)
    return {function.python_function.__name__: function for function in functions}


def convert(folder: Path, name: str) -> Path:
    """The same network in another format, as `cnn export` writes it."""
    network = formats.Convertible(
        model=None,
        answer=lambda image: {"probabilities": tf.nn.softmax(brightness(image))},
        tensor=tf.TensorSpec((None, SIZE, SIZE, 1), tf.uint8, name="image"),
        about={},
        **dict.fromkeys(("examples", "changed", "score", "measure", "metric")),
    )
    folder.mkdir(parents=True)
    formats.write(network, folder, runtimes.Target(name, "float32"))
    description = {
        "task": "classify",
        "name": "toy",
        "version": 1,
        "format": name,
        "precision": "float32",
        "input": {"name": "image", "dtype": "uint8", "shape": [None, SIZE, SIZE, 1]},
        "preprocessing": formats.image_preprocessing(Shape((SIZE, SIZE), 1)),
        "outputs": {"probabilities": ""},
        "classes": list(LABELS),
    }
    (folder / runtimes.DESCRIPTION).write_text(json.dumps(description))
    return folder


@contextmanager
def running(folder, engine="tensorflow", workers=1, versions=1, keep=None, **limits):
    """A process that serves `folder`, and its URL, once it is ready."""
    options = [repr(limits), engine, str(workers), str(versions), repr(keep)]
    command = [sys.executable, "-c", SERVE, str(folder), *options]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            if keep:
                assert str(keep.folder) in process.stdout.readline()
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()
