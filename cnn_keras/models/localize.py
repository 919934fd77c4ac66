"""Localisation: what is the one thing in the picture, and where? With landmarks, where are its parts?

The answer is one vector, y = [p_c, b_x, b_y, b_h, b_w, c_1 … c_n, l_1x, l_1y …]: whether there is anything, its box by
middle, height and width, its class, its landmarks; coordinates in [0, 1] of the picture. Where nothing is, p_c = 0,
nothing else is asked of the network. Overfeat (Sermanet et al., 2013) and Szegedy, Toshev and Erhan, "Deep neural
networks for object detection", 2013, regress boxes in this way.

Differs from the form that courses teach: coordinates pass through a sigmoid, so that an untrained network points to the
middle; the box may be judged by its overlap instead of its squared error.
"""

from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.ops import boxes as geometry
from cnn_keras.ops import landmarks as points

BOX_LOSSES = ("squared", "smooth_l1", "iou", "giou", "ciou")
BOX = slice(1, 5)  # of y: b_x, b_y, b_h, b_w


class Localization(NamedTuple):
    """What is said of each picture. Where `presence` is low, the rest means nothing.

    presence: float32 (batch,), in [0, 1]. boxes: float32 (batch, 4), left, top, right, bottom in [0, 1]. classes:
    float32 (batch, classes), probabilities. landmarks: float32 (batch, landmarks, 2), x and y in [0, 1].
    """

    presence: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor
    landmarks: tf.Tensor


def localizer(
    backbone: keras.Model,
    *,
    classes: int,
    landmarks: int = 0,
    filters: int = 32,
    hidden: int = 128,
    dropout: float = 0.0,
) -> keras.Model:
    """The head on a network of the catalogue, whose own last layers are cut off behind its last map.

    Where a thing is, a dense layer says that sees all positions of the map, which a 1×1 convolution has made thin: an
    average would not know. What it is, the largest value of each channel says, wherever it is.

    Args:
        backbone: a classifier of images, (batch, height, width, channels) to a vector or a dictionary with `logits`.
        classes: how many things there are.
        landmarks: how many each has.
        filters: of the thin map; one with no more is left as it is.
        hidden: units of the dense layer that sees all positions.
        dropout: share of what y is made of that is dropped in training, in [0, 1).

    Returns:
        A model from `image` to `y`, float32 (batch, 5 + classes + 2 · landmarks), before any sigmoid or softmax.

    Raises:
        Fault: when the backbone has no map to look at.
    """
    output = backbone.output["logits"] if isinstance(backbone.output, dict) else backbone.output
    maps = [layer for layer in keras.Model(backbone.input, output).layers if len(_shape(layer)) == 4]
    if len(maps) < 2:  # the first is the picture
        raise Fault(f"backbone must be a classifier of images, got {backbone.name}; take one with convolutions")
    x = maps[-1].output
    what = layers.GlobalMaxPooling2D(name="what")(x)
    if x.shape[-1] > filters:
        x = layers.Conv2D(filters, 1, activation="relu", kernel_initializer="he_normal", name="thin")(x)
    x = layers.Flatten(name="everywhere")(x)
    where = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name="where")(x)
    x = layers.Dropout(dropout, name="head_dropout")(layers.Concatenate(name="what_and_where")([what, where]))
    size = 5 + classes + 2 * landmarks
    y = layers.Dense(size, kernel_initializer="zeros", dtype="float32", name="y")(
        x
    )  # no sigmoid starts where it is flat
    return keras.Model(backbone.input, y, name=f"{backbone.name}_localizer")


def encode(boxes: tf.Tensor, classes: tf.Tensor, landmarks: tf.Tensor | None = None, *, names: int) -> tf.Tensor:
    """The target of pictures with any number of things: the largest of each is the one to be found.

    Args:
        boxes: float32 (batch, M, 4), left, top, right, bottom in [0, 1]; rows without area are padding.
        classes: integers (batch, M).
        landmarks: float32 (batch, M, L, 3): x, y in [0, 1], and 1 for visible; None for things that have none.
        names: how many classes there are.

    Returns:
        float32 (batch, 5 + names + 3 · L): p_c, b_x, b_y, b_h, b_w, a 1 for the class, then x, y and visible of each
        landmark; all zeros where nothing is.
    """
    largest = tf.argmax(geometry.area(boxes), axis=-1)
    present = tf.reduce_any(geometry.valid(boxes), axis=-1)
    box = geometry.xyxy_to_cxcywh(tf.gather(boxes, largest, batch_dims=1))
    named = tf.one_hot(tf.gather(classes, largest, batch_dims=1), names)
    parts = [tf.ones_like(box[:, :1]), box[:, :2], box[:, 3:], box[:, 2:3], named]
    if landmarks is not None:
        parts.append(_flat(tf.gather(landmarks, largest, batch_dims=1)))
    return tf.where(present[:, None], tf.concat(parts, axis=-1), 0.0)


def decode(y: tf.Tensor, *, classes: int) -> Localization:
    """The vectors of a network, float (batch, numbers), as a `Localization`, for this number of classes."""
    return Localization(
        tf.sigmoid(y[:, 0]),
        geometry.clip(_box(tf.sigmoid(y[:, BOX]))),
        tf.nn.softmax(y[:, 5 : 5 + classes]),
        _points(tf.sigmoid(y[:, 5 + classes :]), 2),
    )


def decode_target(target: tf.Tensor, *, classes: int) -> Localization:
    """What `encode` made, as `Localization`; landmarks are (batch, L, 3), with 1 for visible."""
    return Localization(
        target[:, 0], _box(target[:, BOX]), target[:, 5 : 5 + classes], _points(target[:, 5 + classes :], 3)
    )


def loss(
    target: tf.Tensor,
    y: tf.Tensor,
    *,
    classes: int,
    box: str = "smooth_l1",
    landmark: str = "wing",
    box_weight: float = 5.0,
    landmark_weight: float = 5.0,
) -> dict[str, tf.Tensor]:
    """What each example loses: nothing for its box, class and landmarks where its p_c is 0.

    Args:
        target: of `encode`, float32 (batch, 5 + classes + 3 · L).
        y: of the network, float32 (batch, 5 + classes + 2 · L).
        box: "squared", the sum of the four squared errors; "smooth_l1", that of `landmarks.smooth_l1`; or 1 minus
            "iou", "giou" or "ciou".
        landmark: "smooth_l1" or "wing", of `landmarks.mean_loss`.
        box_weight, landmark_weight: of those terms, against 1 for the logistic loss of p_c and the cross-entropy of the
            class.

    Returns:
        A dictionary of float32 (batch,): `presence`, `box`, `class`, and `landmark` where there are any. Their sum is
        the objective.
    """
    present, where = target[:, 0], tf.sigmoid(y[:, BOX])
    named = slice(5, 5 + classes)
    terms = {
        "presence": tf.nn.sigmoid_cross_entropy_with_logits(labels=present, logits=y[:, 0]),
        "box": box_weight * present * _box_loss(target[:, BOX], where, box),
        "class": present * tf.nn.softmax_cross_entropy_with_logits(labels=target[:, named], logits=y[:, named]),
    }
    if y.shape[-1] > named.stop:
        true_points, predicted_points = _points(target[:, named.stop :], 3), _points(tf.sigmoid(y[:, named.stop :]), 2)
        terms["landmark"] = landmark_weight * present * points.mean_loss(true_points, predicted_points, kind=landmark)
    return terms


def iou(target: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """IoU of the box with the one wanted, float32 (batch,); 0 where nothing is."""
    return geometry.iou(_box(target[:, BOX]), geometry.clip(_box(tf.sigmoid(y[:, BOX]))))


def _box_loss(target: tf.Tensor, where: tf.Tensor, kind: str) -> tf.Tensor:
    match kind:
        case "squared":
            return tf.reduce_sum((where - target) ** 2, axis=-1)
        case "smooth_l1":
            return tf.reduce_sum(points.smooth_l1(where - target), axis=-1)
        case "iou" | "giou" | "ciou":
            return 1 - getattr(geometry, kind)(_box(target), _box(where))
    raise Fault(f"box must be one of {', '.join(BOX_LOSSES)}, got {kind!r}")


def _box(y: tf.Tensor) -> tf.Tensor:
    """Left, top, right, bottom of b_x, b_y, b_h, b_w: the course's order of the sides is not the usual one."""
    return geometry.cxcywh_to_xyxy(tf.gather(y, [0, 1, 3, 2], axis=-1))


def _points(values: tf.Tensor, size: int) -> tf.Tensor:
    return tf.reshape(values, [tf.shape(values)[0], values.shape[-1] // size, size])


def _flat(values: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, [tf.shape(values)[0], values.shape[-2] * values.shape[-1]])


def _shape(layer: layers.Layer) -> tuple[int | None, ...]:
    """Of the layer's output; () where it has several."""
    return getattr(layer.output, "shape", ())
