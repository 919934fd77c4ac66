"""Objects as points: the heat map that CenterNet is to say, the boxes around its peaks, and the losses of both.

Zhou, Wang and Krähenbühl, "Objects as points", 2019 (heat map, focal loss, peaks); Liu et al., "Training-time-friendly
network for real-time object detection", 2020 (TTFNet: Gaussians of a box's own shape, and distances that are learnt
wherever a Gaussian is, not at the midpoint alone). Lengths are in cells of the map, and a box is told by four
distances, from the left top corner of a cell near its midpoint.

Differs from the papers: areas are counted in cells, and by log(1 + area), which is never negative.
"""

from typing import NamedTuple

import tensorflow as tf

from cnn_keras.ops import boxes as box

REACH = 0.54  # of a box's half sides: how far its Gaussian goes
ALPHA, BETA = 2.0, 4.0  # of the focal loss: how little is asked where the network is right, and near a midpoint
SIZE = 5.0  # what the boxes count beside the heat map


class Targets(NamedTuple):
    """What is learnt at each position of the map."""

    heatmap: tf.Tensor  # float32 (batch, rows, columns, C) in [0, 1]: 1 at a midpoint
    boxes: tf.Tensor  # float32 (batch, rows, columns, 4), left, top, right, bottom in cells
    weights: tf.Tensor  # float32 (batch, rows, columns): how much the box counts there, 0 outside all Gaussians


def targets(boxes: tf.Tensor, labels: tf.Tensor, *, size: tuple[tf.Tensor, tf.Tensor], classes: int) -> Targets:
    """A Gaussian around each midpoint, over 0.54 of the box; the highest of a class counts, and the smallest box.

    It goes r = ⌊0.54 · side / 2⌋ cells from the midpoint's, with σ = (2r + 1) / 6, across and down. The weights of a
    box sum to the logarithm of its area, less what smaller boxes on it take.

    Args:
        boxes: float32 (batch, M, 4), left, top, right, bottom in cells; rows without area are padding.
        labels: int64 (batch, M).
        size: (rows, columns) of the map.
        classes: C.
    """
    (rows, columns), (batch, count) = size, (tf.shape(boxes)[0], tf.shape(boxes)[1])
    middle, lengths = tf.split(box.xyxy_to_cxcywh(boxes), 2, axis=-1)
    cells = tf.clip_by_value(tf.floor(middle), 0.0, tf.cast(tf.stack([columns, rows]) - 1, tf.float32))
    reach = tf.floor(REACH * lengths / 2)

    def bell(axis: int, places: tf.Tensor) -> tf.Tensor:
        distance = tf.cast(tf.range(places), tf.float32) - cells[..., axis, None]
        limit = reach[..., axis, None]
        return tf.where(tf.abs(distance) <= limit, tf.exp(-(distance**2) / (2 * ((2 * limit + 1) / 6) ** 2)), 0.0)

    bells = bell(1, rows)[..., None] * bell(0, columns)[..., None, :]
    bells *= tf.cast(box.valid(boxes), tf.float32)[..., None, None]
    owner = tf.cast(labels, tf.int32) + classes * tf.range(batch)[:, None]
    highest = tf.math.unsorted_segment_max(
        tf.reshape(bells, [batch * count, rows * columns]), tf.reshape(owner, [-1]), batch * classes
    )
    heatmap = tf.reshape(tf.maximum(highest, 0.0), [batch, classes, rows, columns])
    area = tf.reduce_prod(lengths, axis=-1)[..., None, None]
    smallest = tf.argmin(tf.where(bells > 0, area, tf.float32.max), axis=1)
    weights = tf.math.log1p(area) * tf.math.divide_no_nan(bells, tf.reduce_sum(bells, axis=[-2, -1], keepdims=True))
    own = tf.one_hot(smallest, count, axis=1)
    return Targets(
        tf.transpose(heatmap, [0, 2, 3, 1]),
        tf.gather(boxes, smallest, batch_dims=1),
        tf.reduce_sum(weights * own, axis=1),
    )


def penalty_reduced_focal_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The paper's first equation, summed over everything: cross-entropy, less where the network is right already.

    Where the target y is 1, (1 − p)² log p; elsewhere (1 − y)⁴ p² log(1 − p), which asks little near a midpoint.

    Args:
        logits: float32, of any shape.
        targets: float32, of the same shape, in [0, 1].

    Returns:
        A scalar, not divided by anything.
    """
    probabilities = tf.sigmoid(logits)
    at_center = (1 - probabilities) ** ALPHA * tf.math.log_sigmoid(logits)
    elsewhere = (1 - targets) ** BETA * probabilities**ALPHA * tf.math.log_sigmoid(-logits)
    return -tf.reduce_sum(tf.where(targets >= 1, at_center, elsewhere))


def loss(logits: tf.Tensor, distances: tf.Tensor, boxes: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Focal loss of the heat map, and five times the generalised IoU's loss of the boxes wherever there is a Gaussian.

    Args:
        logits: float32 (batch, rows, columns, C).
        distances: float32 (batch, rows, columns, 4), left, top, right, bottom, in cells.
        boxes: float32 (batch, M, 4), the truth: left, top, right, bottom in [0, 1]; rows without area are padding.
        labels: int64 (batch, M).

    Returns:
        Scalars "heatmap", divided by the number of objects in the batch, and "size", by the sum of the weights.
    """
    rows, columns = tf.shape(logits)[1], tf.shape(logits)[2]
    cells = boxes * tf.cast(tf.stack([columns, rows, columns, rows]), tf.float32)
    truth = targets(cells, labels, size=(rows, columns), classes=logits.shape[-1])
    number = tf.maximum(tf.reduce_sum(tf.cast(box.valid(boxes), tf.float32)), 1.0)
    corner = tf.cast(tf.stack(tf.meshgrid(tf.range(columns), tf.range(rows)), axis=-1), tf.float32)
    found = tf.concat([corner - distances[..., :2], corner + distances[..., 2:]], axis=-1)
    wrong = tf.reduce_sum(truth.weights * (1 - box.giou(found, truth.boxes)))
    return {
        "heatmap": penalty_reduced_focal_loss(logits, truth.heatmap) / number,
        "size": SIZE * tf.math.divide_no_nan(wrong, tf.reduce_sum(truth.weights)),
    }


def decode(heatmap: tf.Tensor, distances: tf.Tensor, *, limit: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The highest peaks, those that no neighbour exceeds, as boxes with the score of one class each.

    Args:
        heatmap: float32 (batch, rows, columns, C), probabilities.
        distances: float32 (batch, rows, columns, 4), left, top, right, bottom, in cells.
        limit: of peaks, all classes together.

    Returns:
        Boxes float32 (batch, N, 4), left, top, right, bottom in [0, 1], and scores float32 (batch, N, C), the highest
        first; N is `limit`, or all there are. Beyond the last peak both are 0.
    """
    rows, columns, classes = tf.shape(heatmap)[1], tf.shape(heatmap)[2], heatmap.shape[-1]
    peaks = tf.where(heatmap >= tf.nn.max_pool2d(heatmap, 3, 1, "SAME"), heatmap, 0.0)
    flat = tf.reshape(peaks, [-1, rows * columns * classes])
    scores, place = tf.math.top_k(flat, tf.minimum(limit, rows * columns * classes))
    cell, label = place // classes, place % classes
    own = tf.gather(tf.reshape(distances, [-1, rows * columns, 4]), cell, batch_dims=1)
    corner = tf.cast(tf.stack([cell % columns, cell // columns], axis=-1), tf.float32)
    corners = tf.concat([corner - own[..., :2], corner + own[..., 2:]], axis=-1)
    size = tf.cast(tf.stack([columns, rows, columns, rows]), tf.float32)
    scores = tf.expand_dims(scores, -1)
    return tf.where(scores > 0, box.clip(corners / size), 0.0), scores * tf.one_hot(label, classes)
