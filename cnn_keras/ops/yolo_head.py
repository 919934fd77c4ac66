"""Slots: the places of YOLO's grids that answer for an object, what they are asked, what they say, and what they lose.

Redmon and Farhadi, "YOLO9000", 2016, and "YOLOv3", 2018. Every cell of a grid has some anchors, and each of these slots
answers whether an object has its centre in the cell (p_c), where, how large, and of which class:

    x = (column + σ(t_x)) / columns      width = anchor's width · exp(t_w)      score = σ(p_c) · P(class)

Differs from the papers: p_c is trained by cross-entropy in v2 as in v3, and starts at 1 %; its box loss is v3's; widths
and heights start from the anchor and grow no more than exp(5) times. The objectives "ciou" and "focal" are those of
later years: Zheng et al., "Distance-IoU loss", 2020; Lin et al., "Focal loss", 2017; centres up to half a cell outside
the cell, and more than one slot for an object (Wang, Bochkovskiy and Liao, "Scaled-YOLOv4", 2021; Jocher, YOLOv5).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from cnn_keras.layers import register
from cnn_keras.ops import boxes as box

WIDEST = 5.0  # of t_w and t_h: an untrained network must not overflow
IGNORED = 0.5  # an empty slot whose box overlaps an object so much is not told that it is wrong (v3's threshold)
BOX = 5.0  # what 1 − CIoU counts beside the cross-entropies
ALIKE = 0.25  # the IoU in shape with which an anchor beside the best one takes an object too


@register
class Grid(layers.Layer):
    """The end of a scale: (batch, rows, columns, A · (5 + C)) to (batch, rows, columns, A, 5 + C), float32.

    In come t_x, t_y, t_w, t_h, t_o and C classes for each of A anchors, as Darknet orders them; out go the same numbers
    in the order of the targets: p_c, b_x, b_y, b_h, b_w and the classes, before any σ, softmax or exp. The layer keeps
    what `loss` and `decode` must know.

    Args:
        anchors: (width, height) of each, as fractions of pictures of the size `anchors_of`.
        stride: pixels of a cell's side.
        anchors_of: (height, width) in pixels. In pictures of other sizes anchors keep their pixels, as the network
            does: what it sees of an object does not change when the picture grows around it.
        objective: of OBJECTIVES.
        softmax: whether classes exclude each other (v2) or are independent (v3).
    """

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        *,
        stride: int,
        anchors_of: Sequence[int],
        objective: str,
        softmax: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.anchors = [[float(width), float(height)] for width, height in anchors]
        self.stride, self.anchors_of = stride, tuple(anchors_of)
        self.objective, self.softmax = objective, softmax

    def call(self, x: tf.Tensor) -> tf.Tensor:
        _, rows, columns, channels = (ops.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape))
        values = channels // len(self.anchors)
        x = ops.reshape(x, (-1, rows, columns, len(self.anchors), values))
        return ops.take(x, [4, 0, 1, 3, 2, *range(5, values)], axis=-1)

    @property
    def sides(self) -> np.ndarray:
        """Width and height of the anchors in cells: float32 (A, 2)."""
        height, width = self.anchors_of
        return np.array(self.anchors, "float32") * [width / self.stride, height / self.stride]

    @property
    def reach(self) -> float:
        """How many cells b_x and b_y span: 1, the cell itself, or 2, half a cell more on each side."""
        return 1.0 if self.objective == "squared" else 2.0

    def get_config(self) -> dict[str, Any]:
        own = ("anchors", "stride", "anchors_of", "objective", "softmax")
        return super().get_config() | {name: getattr(self, name) for name in own}


class Slots(NamedTuple):
    """Where slots are, all scales in a row: S = Σ rows · columns · A of them; row by row, cell by cell."""

    cell: tf.Tensor  # float32 (S, 2): column, row
    cells: tf.Tensor  # float32 (S, 2): columns, rows of the grid
    sides: tf.Tensor  # float32 (S, 2): width, height of the anchor in cells

    def boxes(self, middles: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
        """Boxes (batch, S, 4) in [0, 1] of the picture, from midpoints and sizes (batch, S, 2) in cells."""
        return box.cxcywh_to_xyxy(tf.concat([(self.cell + middles) / self.cells, sizes / self.cells], axis=-1))


def slots(sizes: Sequence[tuple[Any, Any]], sides: Sequence[np.ndarray]) -> Slots:
    """The `Slots` of grids of these (rows, columns), with anchors of these (width, height) in cells, scale by scale."""
    parts = []
    for (rows, columns), own in zip(sizes, sides, strict=True):
        row, column = tf.meshgrid(tf.range(rows), tf.range(columns), indexing="ij")
        cell = tf.repeat(tf.reshape(tf.stack([column, row], axis=-1), [-1, 2]), len(own), axis=0)
        cell = tf.cast(cell, tf.float32)
        shape = tf.tile(tf.constant(own, tf.float32), [rows * columns, 1])
        parts.append((cell, tf.zeros_like(cell) + tf.cast([columns, rows], tf.float32), shape))
    return Slots(*(tf.concat(part, axis=0) for part in zip(*parts, strict=True)))


def encode(
    boxes: tf.Tensor,
    labels: tf.Tensor,
    *,
    sizes: Sequence[tuple[Any, Any]],
    sides: Sequence[np.ndarray],
    classes: int,
    alike: float | None = None,
) -> list[tf.Tensor]:
    """Targets: which slot answers for which object, and what it should say.

    An object belongs to the cell that its midpoint is in, and there to the anchor – of all scales – whose shape has the
    highest IoU with its own. Where several objects want one slot, the first has it.

    Args:
        boxes: float32 (batch, M, 4), left, top, right, bottom in [0, 1]; rows without area are padding.
        labels: int64 (batch, M), numbers of classes.
        sizes: (rows, columns) of each scale's grid.
        sides: of each scale, width and height of its anchors in cells: float32 (A, 2).
        classes: C.
        alike: None, or the IoU in shape from which other anchors take an object too; then the nearest cell beside the
            midpoint's, and the nearest above or below, take it as well. Whoever has the better claim to a slot – its
            midpoint in the cell, then the anchor being its best – gets it.

    Returns:
        For each scale float32 (batch, rows, columns, A, 5 + C): p_c, 1 where an object is and 0 elsewhere, and behind a
        1 b_x, b_y, the midpoint in cells from the left top corner of the cell – in [0, 1), or from −0.5 to 1.5 with
        `alike` –, b_h, b_w, height and width in cells, and a 1 at its class; all zeros behind a 0.
    """
    place = slots(sizes, sides)
    middle, lengths = tf.split(box.xyxy_to_cxcywh(boxes), 2, axis=-1)
    offset = middle[:, :, None] * place.cells - place.cell  # (batch, M, S, 2)
    shape = _shape_iou(lengths[:, :, None], place.sides / place.cells)
    best = shape == tf.reduce_max(shape, axis=-1, keepdims=True)
    home = tf.reduce_all((offset >= 0) & (offset < 1), axis=-1)
    is_assigned = home & best
    if alike is not None:
        beside = tf.reduce_all((offset >= -0.5) & (offset < 1.5), axis=-1)
        in_line = tf.reduce_any((offset >= 0) & (offset < 1), axis=-1)
        is_assigned = beside & in_line & (best | (shape >= alike))
    claim = tf.where(
        is_assigned & box.valid(boxes)[..., None], 1 + 2 * tf.cast(home, tf.int32) + tf.cast(best, tf.int32), 0
    )
    owner = tf.argmax(claim, axis=1)  # (batch, S)
    objectness = tf.cast(tf.reduce_max(claim, axis=1) > 0, tf.float32)[..., None]
    own = box.xyxy_to_cxcywh(tf.gather(boxes, owner, batch_dims=1)) * tf.tile(place.cells, [1, 2])
    kind = tf.one_hot(tf.gather(labels, owner, batch_dims=1), classes)
    target = (
        tf.concat([tf.ones_like(objectness), own[..., :2] - place.cell, own[..., 3:1:-1], kind], axis=-1) * objectness
    )
    return _by_scale(target, sizes, sides)


def _shape_iou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """IoU of boxes of these widths and heights, (…, 2), that share their midpoint."""
    common = tf.reduce_prod(tf.minimum(first, second), axis=-1)
    both = tf.reduce_prod(first, axis=-1) + tf.reduce_prod(second, axis=-1)
    return tf.math.divide_no_nan(common, both - common)


def _by_scale(values: tf.Tensor, sizes: Sequence[tuple[Any, Any]], sides: Sequence[np.ndarray]) -> list[tf.Tensor]:
    """(batch, S, n) as (batch, rows, columns, A, n) of each scale."""
    counts = [rows * columns * len(own) for (rows, columns), own in zip(sizes, sides, strict=True)]
    shapes = [
        (-1, rows, columns, len(own), values.shape[-1]) for (rows, columns), own in zip(sizes, sides, strict=True)
    ]
    return [tf.reshape(part, shape) for part, shape in zip(tf.split(values, counts, axis=1), shapes, strict=True)]


class Predictions(NamedTuple):
    """What a network says: logits of p_c, boxes and logits of classes of all its slots."""

    object: tf.Tensor  # float32 (batch, S)
    middles: tf.Tensor  # float32 (batch, S, 2): b_x, b_y
    logarithms: tf.Tensor  # float32 (batch, S, 2): t_w, t_h
    sizes: tf.Tensor  # float32 (batch, S, 2): b_w, b_h
    classes: tf.Tensor  # float32 (batch, S, C)


def _answer(raw: tf.Tensor, place: Slots, reach: float) -> Predictions:
    """The `Predictions` in raw outputs, (batch, S, 5 + C)."""
    # A split, because the gradient of each slice would be as large as all of the outputs.
    objectness, middles, heights, widths, classes = tf.split(raw, [1, 2, 1, 1, raw.shape[-1] - 5], axis=-1)
    middles = reach * tf.sigmoid(middles) - (reach - 1) / 2
    logarithms = tf.concat([widths, heights], axis=-1)
    sizes = place.sides * tf.exp(tf.clip_by_value(logarithms, -WIDEST, WIDEST))
    return Predictions(tf.squeeze(objectness, -1), middles, logarithms, sizes, classes)


def _read(
    network: keras.Model, outputs: dict[str, tf.Tensor]
) -> tuple[list[Grid], list[tuple[Any, Any]], Slots, Predictions]:
    """The scales of a network, their (rows, columns), their slots and its answer, from raw outputs."""
    grids = sorted((layer for layer in network.layers if isinstance(layer, Grid)), key=lambda grid: -grid.stride)
    raw = [outputs[grid.name] for grid in grids]
    sizes = [tf.unstack(tf.shape(part)[1:3]) for part in raw]
    place = slots(sizes, [grid.sides for grid in grids])
    return grids, sizes, place, _answer(_flat(raw), place, grids[0].reach)


def _flat(scales: Sequence[tf.Tensor]) -> tf.Tensor:
    """Parts (batch, rows, columns, A, n) as one (batch, S, n)."""
    return tf.concat([tf.reshape(part, [tf.shape(part)[0], -1, part.shape[-1]]) for part in scales], axis=1)


def decode(network: keras.Model, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Every candidate: one of each slot.

    Args:
        network: what a builder of `cnn_keras.models.yolo` made.
        outputs: its raw outputs.

    Returns:
        Boxes float32 (batch, S, 4), left, top, right, bottom in [0, 1], and scores p_c · P(class), float32
        (batch, S, C): the coarsest scale first.
    """
    grids, _, place, answer = _read(network, outputs)
    activation = tf.nn.softmax if grids[0].softmax else tf.sigmoid
    # Not `[..., None]`: LiteRT has no slice that adds an axis where sizes are open.
    scores = tf.expand_dims(tf.sigmoid(answer.object), -1) * activation(answer.classes)
    return box.clip(place.boxes(answer.middles, answer.sizes)), scores


def loss(
    network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
) -> dict[str, tf.Tensor]:
    """What training makes small, by the `objective` of the network's scales; the mean over the batch.

    Args:
        network: what a builder of `cnn_keras.models.yolo` made.
        outputs: its raw outputs.
        boxes: float32 (batch, M, 4), the truth: left, top, right, bottom in [0, 1]; rows without area are padding.
        classes: int64 (batch, M), their classes.

    Returns:
        Scalars float32 "box", "object" and "class", whose sum is the objective.
    """
    grids, sizes, place, answer = _read(network, outputs)
    objective, sides = grids[0].objective, [grid.sides for grid in grids]
    several = None if objective == "squared" else ALIKE
    count = answer.classes.shape[-1]
    target = _flat(encode(boxes, classes, sizes=sizes, sides=sides, classes=count, alike=several))
    objectness = target[..., 0]
    predicted = tf.stop_gradient(place.boxes(answer.middles, answer.sizes))
    near = tf.reduce_max(box.pairwise_iou(predicted, boxes), axis=-1) >= IGNORED
    # Empty slots whose box lies on an object are not wrong enough to be told that they are empty.
    weight = tf.maximum(objectness, tf.cast(~near, tf.float32))
    where, what = OBJECTIVES[objective](answer, target, place)
    kind = _class_loss(answer.classes, target[..., 5:], softmax=grids[0].softmax)
    share = tf.cast(tf.shape(objectness)[0], tf.float32)
    if objective != "squared":
        share = tf.maximum(tf.reduce_sum(objectness), 1.0)
    terms = {"box": where * objectness, "object": what * weight, "class": kind * objectness}
    return {name: tf.reduce_sum(term) / share for name, term in terms.items()}


def _class_loss(logits: tf.Tensor, labels: tf.Tensor, *, softmax: bool) -> tf.Tensor:
    if softmax:
        return tf.nn.softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1)


def _squared(answer: Predictions, target: tf.Tensor, place: Slots) -> tuple[tf.Tensor, tf.Tensor]:
    """Of YOLOv3, for each slot: squares, which count up to twice for small objects; cross-entropy of p_c."""
    objectness, sizes = target[..., :1], target[..., 4:2:-1]
    target_sizes = tf.math.log(tf.where(objectness > 0, sizes / place.sides, 1.0))
    errors = (answer.middles - target[..., 1:3]) ** 2 + (answer.logarithms - target_sizes) ** 2
    weight = 2 - tf.reduce_prod(sizes / place.cells, axis=-1)
    return weight * tf.reduce_sum(errors, axis=-1), tf.nn.sigmoid_cross_entropy_with_logits(
        objectness[..., 0], answer.object
    )


def _overlapping(
    answer: Predictions, target: tf.Tensor, place: Slots, *, gamma: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """1 − CIoU, and the cross-entropy of p_c, which is to be the IoU of the box; with γ, less where p_c is right."""
    objectness, unit = target[..., :1], tf.constant([0.5, 0.5, 1.0, 1.0])
    target_boxes = box.cxcywh_to_xyxy(tf.where(objectness > 0, tf.gather(target, [1, 2, 4, 3], axis=-1), unit))
    predicted_boxes = box.cxcywh_to_xyxy(tf.concat([answer.middles, answer.sizes], axis=-1))
    quality = tf.stop_gradient(box.iou(predicted_boxes, target_boxes)) * objectness[..., 0]
    doubt = tf.nn.sigmoid_cross_entropy_with_logits(quality, answer.object)
    if gamma:
        doubt *= tf.abs(quality - tf.sigmoid(answer.object)) ** gamma
    return BOX * (1 - box.ciou(predicted_boxes, target_boxes)), doubt


OBJECTIVES: dict[str, Callable[..., tuple[tf.Tensor, tf.Tensor]]] = {
    "squared": _squared,
    "ciou": _overlapping,
    "focal": partial(_overlapping, gamma=2.0),
}
