"""Objects as points: the heat map that CenterNet is to say, its three losses, and boxes from its peaks.

Zhou, Wang and Krähenbühl, "Objects as points", 2019; Law and Deng, "CornerNet", 2018 (the radius). Lengths are in cells
of the map, and a box is told by four distances, from the left top corner of the cell that its midpoint is in.

Differs from the paper: size and offset of a box are read from the distances, as their sums, and as half of their
differences. Radii are the roots that the condition on the IoU has; the papers' code takes another root by mistake.
"""

import tensorflow as tf

from cnn_keras.ops import boxes as box

OVERLAP = 0.7  # the least IoU of a box whose corners are moved by the radius
ALPHA, BETA = 2.0, 4.0  # of the focal loss: how little is asked where the network is right, and near a midpoint
SIZE, OFFSET = 0.1, 1.0  # what the terms count beside the heat map's


def radius(widths: tf.Tensor, heights: tf.Tensor, *, overlap: float = OVERLAP) -> tf.Tensor:
    """How far corners may move so that the box has at least an IoU of `overlap` with the one before.

    The least of three: both corners move the same way, both inwards, both outwards.

    Args:
        widths: float32, of any shape; so are heights and what is returned.
        heights: float32.
    """
    half, area = widths + heights, widths * heights
    same = (half - tf.sqrt(tf.maximum(half**2 - 4 * area * (1 - overlap) / (1 + overlap), 0))) / 2
    inwards = (half - tf.sqrt(tf.maximum(half**2 - 4 * area * (1 - overlap), 0))) / 4
    outwards = (tf.sqrt(half**2 + 4 * area * (1 - overlap) / overlap) - half) / 4
    return tf.minimum(tf.minimum(same, inwards), outwards)


def heatmaps(boxes: tf.Tensor, labels: tf.Tensor, *, size: tuple[tf.Tensor, tf.Tensor], classes: int) -> tf.Tensor:
    """The targets: at each midpoint a 1, and around it a Gaussian as wide as the box allows; the highest counts.

    σ is a sixth of the diameter 2r + 1, with the radius r rounded down; there is nothing further off than r.

    Args:
        boxes: float32 (batch, M, 4), left, top, right, bottom in cells; rows without area are padding.
        labels: int64 (batch, M).
        size: (rows, columns) of the map.
        classes: C.

    Returns:
        float32 (batch, rows, columns, C) in [0, 1].
    """
    (rows, columns), (batch, count) = size, (tf.shape(boxes)[0], tf.shape(boxes)[1])
    centers, lengths = _centers(boxes, rows, columns)
    reach = tf.floor(radius(lengths[..., 0], lengths[..., 1]))[..., None]
    deviation = (2 * reach + 1) / 6

    def bell(places: tf.Tensor, middle: tf.Tensor) -> tf.Tensor:
        distance = tf.cast(places, tf.float32) - middle
        return tf.where(tf.abs(distance) <= reach, tf.exp(-(distance**2) / (2 * deviation**2)), 0.0)

    across, down = bell(tf.range(columns), centers[..., :1]), bell(tf.range(rows), centers[..., 1:])
    bells = down[..., None] * across[..., None, :] * tf.cast(box.valid(boxes), tf.float32)[..., None, None]
    owner = tf.cast(labels, tf.int32) + classes * tf.range(batch)[:, None]
    highest = tf.math.unsorted_segment_max(
        tf.reshape(bells, [batch * count, rows * columns]), tf.reshape(owner, [-1]), batch * classes
    )
    maps = tf.reshape(tf.maximum(highest, 0.0), [batch, classes, rows, columns])
    return tf.transpose(maps, [0, 2, 3, 1])


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
    """Focal loss of the heat map; 0.1 · L1 of width and height, L1 of the offset, both at midpoints alone.

    Args:
        logits: float32 (batch, rows, columns, C).
        distances: float32 (batch, rows, columns, 4), left, top, right, bottom, in cells.
        boxes: float32 (batch, M, 4), the truth: left, top, right, bottom in [0, 1]; rows without area are padding.
        labels: int64 (batch, M).

    Returns:
        Scalars "heatmap", "size" and "offset", each divided by the number of objects in the batch.
    """
    rows, columns = tf.shape(logits)[1], tf.shape(logits)[2]
    cells = boxes * tf.cast(tf.stack([columns, rows, columns, rows]), tf.float32)
    targets = heatmaps(cells, labels, size=(rows, columns), classes=logits.shape[-1])
    real = tf.cast(box.valid(boxes), tf.float32)[..., None]
    number = tf.maximum(tf.reduce_sum(real), 1.0)
    corners, lengths = _centers(cells, rows, columns)
    answer = tf.gather_nd(distances, tf.cast(corners[..., ::-1], tf.int32), batch_dims=1)
    expected = box.xyxy_to_cxcywh(cells)[..., :2] - corners
    offset = tf.abs((answer[..., 2:] - answer[..., :2]) / 2 - expected)
    size = tf.abs(answer[..., 2:] + answer[..., :2] - lengths)
    return {
        "heatmap": penalty_reduced_focal_loss(logits, targets) / number,
        "size": SIZE * tf.reduce_sum(size * real) / number,
        "offset": OFFSET * tf.reduce_sum(offset * real) / number,
    }


def decode(heatmap: tf.Tensor, distances: tf.Tensor, *, limit: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The highest peaks, those that no neighbour exceeds, as boxes with the score of one class each.

    Args:
        heatmap: float32 (batch, rows, columns, C), probabilities.
        distances: float32 (batch, rows, columns, 4), left, top, right, bottom, in cells.
        limit: of peaks, all classes together.

    Returns:
        Boxes float32 (batch, N, 4), left, top, right, bottom in [0, 1], and scores float32 (batch, N, C), the highest
        first; N is `limit`, or all there are.
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
    return box.clip(corners / size), tf.expand_dims(scores, -1) * tf.one_hot(label, classes)


def _centers(boxes: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Column and row of the cells that midpoints are in, and widths and heights: float32 (batch, M, 2) each."""
    middle, lengths = tf.split(box.xyxy_to_cxcywh(boxes), 2, axis=-1)
    last = tf.cast(tf.stack([columns, rows]) - 1, tf.float32)
    return tf.clip_by_value(tf.floor(middle), 0.0, last), lengths
