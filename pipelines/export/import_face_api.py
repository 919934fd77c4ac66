"""face-api.js' networks, brought in as models of ours: what finds faces, describes one, and finds its landmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.files import durable
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import faceapi, ssd
from cnn_keras.ops import boxes, landmarks
from cnn_keras.weights import face_api
from pipelines.data import run_files
from pipelines.export import savedmodel

NOTICE = """\
The weights are those of @vladmandic/face-api, whose licence is below. Its descriptor is dlib's
dlib_face_recognition_resnet_model_v1, which Davis King has put into the public domain (CC0).

"""
SURE, OVERLAP, MOST = 0.5, 0.5, 100  # face-api.js' own least score, greatest IoU and number of faces


def import_weights(path: Path, output: Path) -> list[str]:
    """Write the networks of the npm package into a folder: `descriptor.keras`, `landmarks/1/`, `faces/1/`, `LICENSE`.

    `descriptor.keras` and `landmarks.keras` are networks to start from, `model.weights` of a recipe; `landmarks/1/` and
    `faces/1/` are exported models, which find landmarks and faces in pictures of any size: see `write_landmarks` and
    `write_faces`.

    Returns:
        What was done, in sentences; the licence is among them.

    Raises:
        Fault: PATH is not the package, or damaged.
    """
    *networks, licence = face_api.load(path)
    detector = face_api.load_detector(path)
    output.mkdir(parents=True, exist_ok=True)
    for network, name in zip(networks, ("descriptor", "landmarks"), strict=True):
        image = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
        scaled = keras.layers.Normalization(mean=faceapi.MEAN, variance=[255.0**2] * 3, name="normalization")(image)
        model = keras.Model(image, network(scaled), name=name)
        savedmodel.save_keras(model, output / f"{name}.keras")
    version = _published(output / "landmarks", model, write_landmarks)
    faces = _published(output / "faces", detector, write_faces)
    durable.write_text(output / "LICENSE", NOTICE + licence)
    heading = next((line.strip() for line in licence.splitlines() if line.strip()), "no licence in the package")
    owner = next((line.strip() for line in licence.splitlines() if line.startswith("Copyright")), "")
    return [
        f"{output / 'descriptor.keras'}: faceapi.descriptor, {networks[0].count_params():,} parameters, faces of "
        "150×150 to 128 numbers",
        f"{version}: {len(faceapi.NAMES)} landmarks of a face, {networks[1].count_params():,} parameters",
        f"{faces}: the faces of a picture, ssd.ssd_mobilenet_v1, {detector.count_params():,} parameters",
        f"{output / 'LICENSE'}: {heading}{', ' + owner if owner else ''}",
    ]


def _published(folder: Path, model: keras.Model, write: Callable[[keras.Model, Path], None]) -> Path:
    """The next version below a folder, whole or not there."""
    version = folder / str(savedmodel.next_version(folder))
    partial = version.with_name(".partial")
    write(model, partial)
    run_files.publish(partial, version, keep=False)
    return version


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


def write_faces(network: keras.Model, folder: Path) -> None:
    """Write the detector of faces as `detect` exports a model, without proposals.

    Both signatures give `boxes` float32 (N, 100, 4), left, top, right, bottom in pixels of the picture as it came, the
    surest face first, cut at its border, `scores` float32 (N, 100), in (0.5, 1], `label` string (N, 100), "face", and
    `count` int32 (N,); beyond `count` stand zeros and empty strings. Pictures are framed in the middle of a square,
    where face-api.js puts them at its top left.
    """
    size = network.input.shape[1:3]
    known = tf.constant(ssd.anchors(size))

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        outputs = network(tf.cast(images, tf.float32) / 127.5 - 1, training=False)
        corners = boxes.decode(outputs["offsets"], known, variances=ssd.VARIANCES)
        scores = tf.sigmoid(outputs["logits"])
        kept = boxes.non_max_suppression(corners, scores, threshold=SURE, overlap=OVERLAP, limit=MOST)
        real = tf.sequence_mask(kept.count, MOST)
        extent = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        places = tf.clip_by_value(boxes.unletterbox(kept.boxes, sizes, size, fit="pad"), 0, 1) * extent
        return {
            "boxes": tf.where(real[..., None], places, 0),
            "scores": tf.where(real, kept.scores, 0),
            "label": tf.where(real, "face", ""),
            "count": kept.count,
        }

    savedmodel.write_seer(network, folder, shape=Shape(tuple(size), 3, "pad"), answer=answer)
