"""YOLOv1: a grid whose cells answer for one object each, without anchors, read by dense layers that see it all.

Redmon, Divvala, Girshick and Farhadi, "You only look once: unified, real-time object detection", 2016. Every cell of an
S×S grid has B boxes, each with a confidence, and one distribution over the classes, whatever B:

    x = (column + t_x) / S      width = t_w²      score = confidence · P(class)

All outputs are linear, and what training makes small is a sum of squares: 5 times the errors of midpoints and of the
square roots of width and height, the confidence against the IoU of its own box, half as much where no object is. Of the
boxes of a cell, the one that overlaps the object most is responsible for it. As in Darknet, the network says the square
roots of the sides itself, and boxes that all miss the object are compared by the distance of their four numbers.

Differs from the paper: He initialisation; the last layer begins near 0, because Keras's default makes the first sum of
squares twenty times as large, and classes were hardly learnt after that; boxes begin in the middle of their cells, a
quarter of the picture wide and high; no layer is trained on ImageNet before.

A family of detectors: builders, and `loss` and `decode`.
"""

import math
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.models import require_size
from cnn_keras.models.darknet import unit
from cnn_keras.models.resnet import convolution
from cnn_keras.ops import boxes as box
from cnn_keras.ops import yolo_head

COORDINATES, EMPTY = 5.0, 0.5  # λ_coord and λ_noobj
START = (0.5, 0.5, 0.5, 0.5, 0.0)  # of t_x, t_y, t_w, t_h and the confidence
# Figure 3: filters and size of each convolution, and its stride unless 1; a max-pooling stands between the stages.
STAGES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((64, 7, 2),),
    ((192, 3),),
    ((128, 1), (256, 3), (256, 1), (512, 3)),
    (*((256, 1), (512, 3)) * 4, (512, 1), (1024, 3)),
    (*((512, 1), (1024, 3)) * 2, (1024, 3), (1024, 3, 2), (1024, 3), (1024, 3)),
)
# Fast YOLO, as the authors' `yolo-tiny.cfg` has it: the paper says "9 convolutional layers instead of 24".
FAST = (*(((16 * 2**stage, 3),) for stage in range(6)), ((1024, 3),) * 3)


def yolov1(
    *,
    input_shape: tuple[int, ...] = (448, 448, 3),
    classes: int = 20,
    cells: int = 7,
    boxes: int = 2,
    hidden: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """YOLOv1: 24 convolutions and two dense layers; 271,703,550 parameters and 20.285 G multiply-adds.

    The paper trains the first twenty on ImageNet before. From He's initialisation, without batch normalisation, it
    learnt a batch of four pictures by heart in 140 steps of Adam at a rate of 1e-4; at 1e-3, where `fast_yolo` learns,
    it did not.

    Args:
        input_shape: (height, width, channels), height and width at least 64.
        classes: C.
        cells: S.
        boxes: B, boxes of each cell.
        hidden: units of the dense layer before the last.
        dropout: share of those units dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats in [0, 1], to a dict of float32: "boxes" (batch,
        S, S, B, 5), row by row, t_x, t_y, t_w, t_h and the confidence; "classes" (batch, S, S, C).

    Raises:
        Fault: for smaller sides, or sides that are open.
    """
    image = _input(input_shape, 64)
    x = layers.Flatten(name="flatten")(_convolutions(image, STAGES))
    return _grid(image, _hidden(x, hidden, dropout), (cells, cells), boxes, classes, name="yolov1")


def fast_yolo(
    *,
    input_shape: tuple[int, ...] = (448, 448, 3),
    classes: int = 20,
    cells: int = 7,
    boxes: int = 2,
    hidden: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """Fast YOLO: nine convolutions and three dense layers; 45,089,374 parameters and 2.419 G multiply-adds.

    Arguments, result and errors are those of `yolov1`.
    """
    image = _input(input_shape, 64)
    x = layers.Flatten(name="flatten")(_convolutions(image, FAST))
    x = layers.Dense(256, kernel_initializer="he_normal", name="bottleneck")(x)
    return _grid(image, _hidden(x, hidden, dropout), (cells, cells), boxes, classes, name="fast_yolo")


def yolov1_small(
    *,
    input_shape: tuple[int, ...] = (160, 160, 3),
    classes: int = 20,
    boxes: int = 2,
    filters: int = 12,
) -> keras.Model:
    """Ours, for two cores of a CPU: its last layers are 1×1 convolutions, so that cells share them.

    663,306 trained parameters and 175 M multiply-adds for 20 classes at 160. Dense layers, whose cells learn apart,
    need more pictures than small data sets have.

    Args:
        filters: of the first convolution; every later stage has twice as many.

    The others, result and errors are those of `yolov1`; height and width are at least 16, and cells have 16 pixels.
    """
    image, numbers = _input(input_shape, 16), count(1)
    x = image
    for stage in range(5):
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage}")(x) if stage else x
        for _ in range(1 + (stage > 1)):
            x = unit(x, numbers, filters * 2**stage, 3)
    return _grid(image, x, tuple(x.shape[1:3]), boxes, classes, name="yolov1_small")


def _input(input_shape: tuple[int, ...], smallest: int) -> keras.KerasTensor:
    if None in input_shape:
        raise Fault(f"input_shape must have sides of one size, got {input_shape}; dense layers read no other")
    require_size(input_shape, smallest)
    return keras.Input(input_shape, name="image")


def _convolutions(x: keras.KerasTensor, stages: Sequence[Sequence[tuple[int, ...]]]) -> keras.KerasTensor:
    """Convolutions with biases and leaky ReLUs, numbered, a max-pooling between stages."""
    numbers = count(1)
    for stage, filters in enumerate(stages):
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage}")(x) if stage else x
        for layer in filters:
            name = f"conv{next(numbers)}"
            x = _leaky(convolution(x, *layer, bias=True, name=name), name)
    return x


def _leaky(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.LeakyReLU(0.1, name=f"{name}_leaky")(x)


def _hidden(x: keras.KerasTensor, hidden: int, dropout: float) -> keras.KerasTensor:
    x = _leaky(layers.Dense(hidden, kernel_initializer="he_normal", name="hidden")(x), "hidden")
    return layers.Dropout(dropout, name="dropout")(x)


def _grid(
    image: keras.KerasTensor, x: keras.KerasTensor, cells: tuple[int, int], boxes: int, classes: int, *, name: str
) -> keras.Model:
    """The last layer in two parts, boxes and classes: of flat features for all cells, of a map for each of them."""
    outputs, small = {}, keras.initializers.RandomNormal(stddev=0.01)
    for part, values in {"boxes": (boxes, 5), "classes": (classes,)}.items():
        units, settings = math.prod(values), {"dtype": "float32", "kernel_initializer": small, "name": f"{part}_values"}
        last: layers.Layer = layers.Conv2D(units, 1, **settings)
        if len(x.shape) == 2:
            last = layers.Dense(math.prod(cells) * units, **settings)
        outputs[part] = layers.Reshape((*cells, *values), dtype="float32", name=part)(last(x))
    network = keras.Model(image, outputs, name=name)
    bias = network.get_layer("boxes_values").bias
    bias.assign(np.tile(START, math.prod(bias.shape) // len(START)))
    return network


class Predictions(NamedTuple):
    """What all boxes of a grid say, in the picture's unit [0, 1]; of S×S cells, or rows and columns of them."""

    boxes: tf.Tensor  # float32 (batch, S, S, B, 4): left, top, right, bottom
    roots: tf.Tensor  # float32 (batch, S, S, B, 4): t_x, t_y and the square roots of width and height
    confidence: tf.Tensor  # float32 (batch, S, S, B)


def _read(raw: tf.Tensor) -> Predictions:
    """The `Predictions` in "boxes" of the outputs."""
    roots, confidence = tf.split(raw, [4, 1], axis=-1)
    middles, sides = tf.split(roots, 2, axis=-1)
    rows, columns = raw.shape[1:3]
    row, column = tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
    corner = tf.cast(tf.stack([column, row], axis=-1)[:, :, None], tf.float32)
    boxes = box.cxcywh_to_xyxy(tf.concat([(corner + middles) / [columns, rows], sides**2], axis=-1))
    return Predictions(boxes, roots, tf.squeeze(confidence, -1))


def decode(network: keras.Model, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Every candidate: B boxes of each cell.

    Args:
        network: what a builder of this file made.
        outputs: its raw outputs.

    Returns:
        Boxes float32 (batch, S·S·B, 4), left, top, right, bottom in [0, 1], and scores, confidence · P(class), cut to
        [0, 1], float32 (batch, S·S·B, C).
    """
    del network  # everything stands in the shapes of the outputs
    answer, classes = _read(outputs["boxes"]), outputs["classes"]
    count = math.prod(answer.confidence.shape[1:])
    scores = tf.expand_dims(answer.confidence, -1) * tf.expand_dims(classes, -2)
    scores = tf.reshape(tf.clip_by_value(scores, 0.0, 1.0), (-1, count, classes.shape[-1]))
    return box.clip(tf.reshape(answer.boxes, (-1, count, 4))), scores


def loss(
    network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The sum of squares of the paper's equation 3; the mean over the batch.

    An object belongs to the cell that its midpoint is in; of several in one cell, the first is learnt.

    Args:
        network: what a builder of this file made.
        outputs: its raw outputs.
        boxes: float32 (batch, M, 4), the truth: left, top, right, bottom in [0, 1]; rows without area are padding.
        classes: int64 (batch, M), their classes.

    Returns:
        Scalars float32 "box", "object" and "class", whose sum is the objective.
    """
    del network  # everything stands in the shapes of the outputs
    answer, (rows, columns) = _read(outputs["boxes"]), outputs["boxes"].shape[1:3]
    one = [np.ones((1, 2), "float32")]  # of each cell, whatever the shape of the object
    (target,) = yolo_head.encode(
        boxes, classes, sizes=[(rows, columns)], sides=one, classes=outputs["classes"].shape[-1]
    )
    occupied, middles, heights, widths, kinds = tf.split(target, [1, 2, 1, 1, target.shape[-1] - 5], axis=-1)
    true_roots = tf.concat([middles, tf.sqrt(tf.concat([widths / columns, heights / rows], axis=-1))], axis=-1)
    true_boxes = _read(tf.concat([true_roots, occupied], axis=-1)).boxes
    overlap, is_responsible = _responsible(answer.boxes, true_boxes, occupied)
    squares = tf.reduce_sum((answer.roots - true_roots) ** 2, axis=-1)
    certain = is_responsible * (overlap - answer.confidence) ** 2
    empty = (1 - is_responsible) * answer.confidence**2
    wrong = tf.reduce_sum(occupied * (outputs["classes"][..., None, :] - kinds) ** 2, axis=-1)
    terms = {"box": COORDINATES * is_responsible * squares, "object": certain + EMPTY * empty, "class": wrong}
    batch = tf.cast(tf.shape(target)[0], tf.float32)
    return {name: tf.reduce_sum(term) / batch for name, term in terms.items()}


def _responsible(boxes: tf.Tensor, true_boxes: tf.Tensor, occupied: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The IoU of each box with the object of its cell, and 1 where it is responsible for one: (batch, S, S, B)."""
    overlap = tf.stop_gradient(box.iou(boxes, true_boxes))
    distance = tf.norm(box.xyxy_to_cxcywh(boxes) - box.xyxy_to_cxcywh(true_boxes), axis=-1)
    some = tf.reduce_any(overlap > 0, axis=-1, keepdims=True)
    best = tf.argmax(tf.where(some, overlap, -distance), axis=-1)
    return overlap, tf.one_hot(best, boxes.shape[3]) * occupied[..., 0]
