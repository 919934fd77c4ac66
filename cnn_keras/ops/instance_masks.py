"""Instances: which thing each pixel of a picture belongs to, as one map of numbers, and as a small mask in each box.

A map is uint8 (height, width), 0 where nothing is, else the number, from 1, of a row of boxes; where things overlap,
one of them is in front. He, Gkioxari, Dollár and Girshick, "Mask R-CNN", 2017: a network sees, and says, a mask of
some 28 × 28 places in each box, which is stretched over the box to be told in pixels.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

MOST = 255  # things in one map
SAMPLES = 2  # along each side of a place of a small mask


def label_map(masks: Sequence[np.ndarray], size: tuple[int, int], *, order: Sequence[int] | None = None) -> np.ndarray:
    """The map of masks, bool arrays of `size`: uint8 (*size).

    Args:
        order: rows, those in front first; the order of the masks unless given.

    Raises:
        ValueError: more masks than a map can number.
    """
    if len(masks) > MOST:
        raise ValueError(f"masks must be at most {MOST} in one map, got {len(masks)}")
    labels = np.zeros(size, np.uint8)
    for row in reversed(range(len(masks)) if order is None else order):
        labels[masks[row]] = row + 1
    return labels


def targets(maps: tf.Tensor, regions: tf.Tensor, rows: tf.Tensor, *, size: int) -> tf.Tensor:
    """What of each region its thing covers: float32 (batch, R, size, size), shares of each place, in [0, 1].

    Args:
        maps: uint8 (batch, height, width).
        regions: float32 (batch, R, 4), left, top, right, bottom in [0, 1].
        rows: integers (batch, R), the row of each region's thing.
        size: places along each side.
    """
    left, top, right, bottom = (edge[..., None] for edge in tf.unstack(regions, axis=-1))
    at = (tf.range(size * SAMPLES, dtype=tf.float32) + 0.5) / (size * SAMPLES)
    height, width = tf.unstack(tf.shape(maps)[1:3])
    y, x = _pixels(top + at * (bottom - top), height), _pixels(left + at * (right - left), width)
    count = tf.shape(y)[1]
    flat = tf.reshape(maps, [tf.shape(maps)[0], -1])
    places = tf.reshape(y[..., :, None] * width + x[..., None, :], [tf.shape(maps)[0], -1])
    samples = tf.reshape(tf.gather(flat, places, batch_dims=1), [-1, count, size, SAMPLES, size, SAMPLES])
    own = tf.cast(rows, tf.int32)[..., None, None, None, None] + 1
    return tf.reduce_mean(tf.cast(tf.cast(samples, tf.int32) == own, tf.float32), axis=(3, 5))


def paste_mask(mask: tf.Tensor, box: tf.Tensor, size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """A small mask stretched over its box: bool (height, width), where it is at least 0.5.

    The value of a place stands at its middle; between them it is interpolated, beyond the outermost it goes on as far
    as the box.

    Args:
        mask: float32 (side, side), in [0, 1].
        box: float32 (4,), left, top, right, bottom in pixels.
        size: (height, width).
    """
    left, top, right, bottom = tf.unstack(box)
    down = _weights(top, bottom, size[0], mask.shape[0])
    across = _weights(left, right, size[1], mask.shape[1])
    return tf.matmul(tf.matmul(down, mask), across, transpose_b=True) >= 0.5


def paste_masks(masks: tf.Tensor, boxes: tf.Tensor, count: tf.Tensor, size: Sequence[int] | tf.Tensor) -> tf.Tensor:
    """A map of the first `count` things, the earlier before the later: uint8 (*size).

    Args:
        masks: float32 (N, side, side), in [0, 1].
        boxes: float32 (N, 4), left, top, right, bottom in pixels.
        count: integer scalar, at most MOST.
        size: (height, width), two integers or an int tensor.
    """
    size = tf.convert_to_tensor(size)

    def before(row: tf.Tensor, canvas: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = tf.cast(row, tf.uint8)  # rows count from 0, and this one is painted over what comes later
        return row - 1, tf.where(paste_mask(masks[row - 1], boxes[row - 1], size), number, canvas)

    start = tf.cast(count, tf.int32), tf.zeros(size, tf.uint8)
    return tf.while_loop(lambda row, canvas: row > 0, before, start)[1]


def _pixels(shares: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """The pixels, int32, that places in [0, 1] of a side lie in."""
    return tf.clip_by_value(tf.cast(tf.floor(shares * tf.cast(side, tf.float32)), tf.int32), 0, side - 1)


def _weights(low: tf.Tensor, high: tf.Tensor, side: int | tf.Tensor, places: int) -> tf.Tensor:
    """What each place of a mask counts for each pixel of a side: float32 (side, places), rows of zeros outside."""
    middles = tf.cast(tf.range(side), tf.float32) + 0.5
    at = (middles - low) / tf.maximum(high - low, 1e-6) * places - 0.5
    near = tf.clip_by_value(at, 0.0, places - 1.0)[:, None] - tf.range(places, dtype=tf.float32)
    inside = tf.cast((middles > low) & (middles < high), tf.float32)
    return tf.nn.relu(1 - tf.abs(near)) * inside[:, None]
