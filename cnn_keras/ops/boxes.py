"""Boxes: overlap, coordinates, suppression, and what framing does to them.

A box is four floats, left, top, right, bottom, in one unit throughout a call: mostly [0, 1] of the picture, but pixels
do as well where nothing else is said. Functions take tensors (…, 4) and broadcast. A row whose width or height is not
positive is padding: it overlaps nothing, and keeps its place as zeros.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.ops import resize

WIDEST = math.log(1000 / 16)  # an offset grows no side more than this: an untrained network must not overflow


class Detections(NamedTuple):
    """What a detector found in each picture, the best score first, padded with zeros to a common number."""

    boxes: tf.Tensor  # float32 (batch, limit, 4)
    scores: tf.Tensor  # float32 (batch, limit), in [0, 1]
    classes: tf.Tensor  # int64 (batch, limit)
    count: tf.Tensor  # int32 (batch,): how many rows are no padding


def valid(boxes: tf.Tensor) -> tf.Tensor:
    """Which of the boxes (…, 4) are no padding: bool (…)."""
    left, top, right, bottom = tf.unstack(tf.convert_to_tensor(boxes), axis=-1)
    return (right > left) & (bottom > top)


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Width times height of boxes (…, 4): (…), in their unit squared; 0 for padding."""
    return tf.reduce_prod(_sides(boxes), axis=-1)


def xyxy_to_cxcywh(boxes: tf.Tensor) -> tf.Tensor:
    """(…, 4) as x and y of the centre, width, height."""
    low, high = _halves(boxes)
    return tf.concat([(low + high) / 2, high - low], axis=-1)


def cxcywh_to_xyxy(boxes: tf.Tensor) -> tf.Tensor:
    """(…, 4) of x and y of the centre, width, height as left, top, right, bottom: undoes `xyxy_to_cxcywh`."""
    centre, sides = _halves(boxes)
    return tf.concat([centre - sides / 2, centre + sides / 2], axis=-1)


def clip(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes (…, 4) in [0, 1], cut at the border of the picture; one wholly outside becomes padding without area."""
    return tf.clip_by_value(boxes, 0.0, 1.0)


def iou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Intersection over union of boxes that stand at the same place: (…), in [0, 1]; 0 where one is padding."""
    return _overlap(first, second)[0]


def giou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Generalised IoU, (…), in [−1, 1]: less the share of the hull that neither covers (Rezatofighi et al., 2019)."""
    overlap, union = _overlap(first, second)
    hull = tf.reduce_prod(_hull(first, second), axis=-1)
    return overlap - tf.math.divide_no_nan(hull - union, hull)


def diou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Distance IoU, (…), in [−1, 1]: less the squared distance of the centres over the squared diagonal of the hull.

    Zheng et al., "Distance-IoU loss", 2020, equation 7.
    """
    diagonal = tf.reduce_sum(_hull(first, second) ** 2, axis=-1)
    apart = tf.reduce_sum((xyxy_to_cxcywh(first)[..., :2] - xyxy_to_cxcywh(second)[..., :2]) ** 2, axis=-1)
    return iou(first, second) - tf.math.divide_no_nan(apart, diagonal)


def ciou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Complete IoU, (…), at most 1: distance IoU less α · v, v the difference of aspect ratios.

    Zheng et al., 2020, equations 8–11; α is a constant to the gradient, as in the authors' code.
    """
    angles = [tf.atan(tf.math.divide_no_nan(*tf.unstack(_sides(boxes), axis=-1))) for boxes in (first, second)]
    aspect = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    weight = tf.stop_gradient(tf.math.divide_no_nan(aspect, 1 - iou(first, second) + aspect))
    return diou(first, second) - weight * aspect


def pairwise_iou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """IoU of every box of (…, A, 4) with every box of (…, B, 4): (…, A, B), in [0, 1]."""
    return iou(first[..., :, None, :], second[..., None, :, :])


def encode(boxes: tf.Tensor, anchors: tf.Tensor, *, variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """What moves anchors to boxes: (…, 4) of t_x, t_y, t_w, t_h; zeros where either is padding.

    Girshick et al., "Rich feature hierarchies", 2014, appendix C.

    Args:
        boxes, anchors: (…, 4), in one unit.
        variances: what each of the four is divided by, so that a network has targets of about one size; (0.1, 0.1,
            0.2, 0.2) is usual.
    """
    real = (valid(boxes) & valid(anchors))[..., None]
    unit = tf.constant([0.0, 0.0, 1.0, 1.0], boxes.dtype)  # stands in for padding, whose logarithm is none
    x = xyxy_to_cxcywh(tf.where(real, boxes, unit))
    a = xyxy_to_cxcywh(tf.where(real, anchors, unit))
    offsets = tf.concat([(x[..., :2] - a[..., :2]) / a[..., 2:], tf.math.log(x[..., 2:] / a[..., 2:])], axis=-1)
    return offsets / tf.constant(variances, boxes.dtype)


def decode(offsets: tf.Tensor, anchors: tf.Tensor, *, variances: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> tf.Tensor:
    """Anchors moved by offsets, (…, 4): undoes `encode`. No side grows more than exp(WIDEST) = 62.5 times."""
    steps, a = offsets * tf.constant(variances, offsets.dtype), xyxy_to_cxcywh(anchors)
    sides = tf.exp(tf.minimum(steps[..., 2:], WIDEST)) * a[..., 2:]
    return cxcywh_to_xyxy(tf.concat([a[..., :2] + steps[..., :2] * a[..., 2:], sides], axis=-1))


def non_max_suppression(
    boxes: tf.Tensor, scores: tf.Tensor, *, threshold: float = 0.05, overlap: float = 0.5, limit: int = 100
) -> Detections:
    """Non-maximum suppression, class by class, by TensorFlow's operation.

    Args:
        boxes: float32 (batch, A, 4), any unit; every candidate stands for every class. None is cut at the border.
        scores: float32 (batch, A, classes), in [0, 1].
        threshold: candidates with a score of at most this are left out.
        overlap: of two candidates of a class with an IoU above this, the one with the lower score is left out.
        limit: the most that is kept of one picture, over all classes.
    """
    corners, best, classes, count = tf.image.combined_non_max_suppression(
        boxes[:, :, None, :],
        scores,
        max_output_size_per_class=limit,
        max_total_size=limit,
        iou_threshold=overlap,
        score_threshold=threshold,
        clip_boxes=False,
    )
    return Detections(corners, best, tf.cast(classes, tf.int64), count)


def soft_non_max_suppression(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    threshold: float = 0.05,
    overlap: float = 1.0,
    limit: int = 100,
    sigma: float = 0.5,
) -> Detections:
    """Soft suppression: a candidate's score falls by exp(−IoU² / sigma) for each better one, class by class.

    Bodla et al., "Soft-NMS", 2017, figure 2 with the Gaussian penalty. Arguments as of `non_max_suppression`;
    `overlap` below 1 leaves out what overlaps a better candidate by more. TensorFlow's own operation does not: its
    `iou_threshold` says nothing as soon as there is a penalty.
    """

    def suppress(picture: tuple[tf.Tensor, tf.Tensor]) -> Detections:
        places, likely = picture[0], tf.where(picture[1] > threshold)  # rows of candidate and class
        places, classes = tf.gather(places, likely[:, 0]), likely[:, 1]

        def take(left: tf.Tensor, selected: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            """Take the best of all classes; what is left of its own is the less for it."""
            best = tf.argmax(left)
            common = iou(places, places[best])
            share = tf.where(common > overlap, 0.0, tf.exp(-(common**2) / sigma))
            is_best = tf.range(tf.size(left, tf.int64)) == best
            left, selected = tf.where(classes == classes[best], left * share, left), tf.where(is_best, left, selected)
            return tf.where(is_best, 0.0, left), selected

        scores_ = tf.gather_nd(picture[1], likely)
        _, selected = tf.while_loop(
            lambda left, _: tf.reduce_max(left) > threshold,  # of nothing it is −∞
            take,
            (scores_, tf.zeros_like(scores_)),
            maximum_iterations=limit,
        )
        count = tf.math.count_nonzero(selected, dtype=tf.int32)
        best, order = tf.math.top_k(selected, count)
        rows = tf.gather(places, order), best, tf.gather(classes, order)
        boxes_, scored, named = (tf.pad(row, [[0, limit - count], *[[0, 0]] * (row.shape.rank - 1)]) for row in rows)
        return Detections(boxes_, scored, named, count)

    signature = Detections(
        tf.TensorSpec((limit, 4)),
        tf.TensorSpec((limit,)),
        tf.TensorSpec((limit,), tf.int64),
        tf.TensorSpec((), tf.int32),
    )
    return tf.map_fn(suppress, (boxes, scores), fn_output_signature=signature)


def letterbox(boxes: tf.Tensor, extent: tf.Tensor, size: tf.Tensor, *, fit: str = "pad") -> tf.Tensor:
    """Boxes of a picture, as boxes of the frame that `resize.resize_image` makes of it; padding stays zeros.

    Args:
        boxes: float32 (…, M, 4), in [0, 1] of the picture.
        extent: (height, width) of the picture in pixels: (2,), or (…, 2) where each picture has its own.
        size: (height, width) of the frame.
        fit: of `resize.resize_image`; "stretch" leaves boxes as they are, "crop" may leave them partly outside [0, 1].
    """
    boxes = tf.convert_to_tensor(boxes, tf.float32)
    scale, move = _frame_transform(extent, size, fit)
    return tf.where(valid(boxes)[..., None], boxes * scale + move, 0)


def unletterbox(boxes: tf.Tensor, extent: tf.Tensor, size: tf.Tensor, *, fit: str = "pad") -> tf.Tensor:
    """Boxes (…, 4) of the frame as boxes of the picture that it was made of: undoes `letterbox`, and clips nothing."""
    boxes = tf.convert_to_tensor(boxes, tf.float32)
    scale, move = _frame_transform(extent, size, fit)
    return tf.where(valid(boxes)[..., None], (boxes - move) / scale, 0)


def _frame_transform(extent: tf.Tensor, frame: tf.Tensor, fit: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Factor and summand, (…, 1, 4) or (4,), from [0, 1] of a picture to [0, 1] of its frame."""
    if fit not in resize.FITS:
        raise Fault(f"fit must be one of {', '.join(resize.FITS)}, got {fit!r}")
    extent, frame = (tf.cast(size, tf.float32) for size in (extent, frame))
    scaled, start = resize.placement(extent, frame, fit)
    scale, move = (tf.tile((part / frame)[..., ::-1], [1] * (extent.shape.rank - 1) + [2]) for part in (scaled, start))
    return (scale, move) if extent.shape.rank == 1 else (scale[..., None, :], move[..., None, :])


def _overlap(first: tf.Tensor, second: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Intersection over union, and the union."""
    (first_low, first_high), (second_low, second_high) = _halves(first), _halves(second)
    low, high = tf.maximum(first_low, second_low), tf.minimum(first_high, second_high)
    common = tf.reduce_prod(tf.maximum(high - low, 0), axis=-1)
    union = area(first) + area(second) - common
    return tf.math.divide_no_nan(common, union), union


def _hull(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Width and height, (…, 2), of the smallest box around both."""
    (first_low, first_high), (second_low, second_high) = _halves(first), _halves(second)
    return tf.maximum(first_high, second_high) - tf.minimum(first_low, second_low)


def _sides(boxes: tf.Tensor) -> tf.Tensor:
    low, high = _halves(boxes)
    return tf.maximum(high - low, 0)


def _halves(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The first and the last two values of boxes (…, 4).

    A split, because the gradient of each slice would be as large as all of the boxes.
    """
    first, last = tf.split(tf.convert_to_tensor(boxes), 2, axis=-1)
    return first, last
