"""Landmarks: points with names and a consistent order, how far they are missed, and what framing does to them.

A landmark is x, y and whether it is visible, float32 (…, 3), or, where a network says it, x and y, (…, 2). Coordinates
are in one unit throughout a call: [0, 1] of the picture for networks, pixels where distances are measured.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cnn_keras.ops import resize

WIDTH, CURVATURE = 10 / 256, 2 / 256  # w and ε of the wing loss: pixels of the paper's 256, as shares of the picture
BEND = 0.02  # of the picture: errors below it count by their square


def smooth_l1(errors: tf.Tensor, *, bend: float = BEND) -> tf.Tensor:
    """|x|, rounded off at zero: x² / 2b below b, |x| − b / 2 beyond. Floats of any shape, in and out.

    Girshick, "Fast R-CNN", 2015, equation 3, with b for its 1 and divided by b, so that far off the slope is 1.
    """
    far = tf.abs(errors)
    return tf.where(far < bend, errors**2 / (2 * bend), far - bend / 2)


def wing(errors: tf.Tensor, *, width: float = WIDTH, curvature: float = CURVATURE) -> tf.Tensor:
    """The wing loss: w · ln(1 + |x| / ε) below w, |x| − C beyond, so that small errors weigh more. Floats, any shape.

    Feng et al., "Wing loss for robust facial landmark localisation", 2018, equation 5.
    """
    far = tf.abs(errors)
    constant = width - width * math.log(1 + width / curvature)
    return tf.where(far < width, width * tf.math.log(1 + far / curvature), far - constant)


LOSSES: dict[str, Callable[..., tf.Tensor]] = {"smooth_l1": smooth_l1, "wing": wing}


def mean_loss(truth: tf.Tensor, points: tf.Tensor, *, kind: str = "smooth_l1") -> tf.Tensor:
    """What an example's landmarks are missed by, x and y added, the mean over the visible ones: float32 (batch,).

    Args:
        truth: float32 (batch, L, 3), x and y in [0, 1] and 1 for visible.
        points: float32 (batch, L, 2).
        kind: one of LOSSES. An example of which nothing is visible loses nothing.
    """
    visible = truth[..., 2]
    each = tf.reduce_sum(LOSSES[kind](points - truth[..., :2]), axis=-1)
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(visible > 0, each, 0.0), axis=-1), tf.reduce_sum(visible, axis=-1)
    )


def letterbox(points: tf.Tensor, extent: tf.Tensor, size: tf.Tensor, *, fit: str = "pad") -> tf.Tensor:
    """Points (…, L, 2 or 3) in [0, 1] of a picture, as points of the frame that `resize.resize_image` makes of it.

    Args:
        points: floats; what stands behind x and y is left alone.
        extent: (height, width) of the picture in pixels: (2,), or (batch, 2) where each has its own.
        size: (height, width) of the frame.
        fit: of `resize.resize_image`.
    """
    scale, move = _frame_transform(extent, size, fit, points)
    return tf.concat([points[..., :2] * scale + move, points[..., 2:]], axis=-1)


def unletterbox(points: tf.Tensor, extent: tf.Tensor, size: tf.Tensor, *, fit: str = "pad") -> tf.Tensor:
    """Points (…, 2 or 3) of the frame as points of the picture that it was made of: undoes `letterbox`."""
    scale, move = _frame_transform(extent, size, fit, points)
    return tf.concat([(points[..., :2] - move) / scale, points[..., 2:]], axis=-1)


def _frame_transform(extent: tf.Tensor, frame: tf.Tensor, fit: str, points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    extent, frame = (tf.cast(size, tf.float32) for size in (extent, frame))
    scaled, start = resize.placement(extent, frame, fit)
    scale, move = ((part / frame)[..., ::-1] for part in (scaled, start))
    if scale.shape.rank == 1:
        return scale, move
    between = [1] * (points.shape.rank - scale.shape.rank)
    return tuple(tf.reshape(part, [-1, *between, 2]) for part in (scale, move))


def distances(truth: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Euclidean distances, float64 (N, L), in the unit of both; NaN where a landmark is not visible.

    Args:
        truth: float (N, L, 3), and points: float (N, L, 2).
    """
    truth = np.asarray(truth, np.float64)
    far = np.linalg.norm(truth[..., :2] - np.asarray(points, np.float64), axis=-1)
    return np.where(truth[..., 2] > 0, far, np.nan)


def pck(far: np.ndarray, boxes: np.ndarray, *, alpha: float = 0.1) -> float:
    """Percentage of correct keypoints, in [0, 1]: the share of visible ones that are missed by at most α · max(w, h).

    Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", 2013, section 7.

    Args:
        far: distances, (N, L), NaN where nothing is to be seen.
        boxes: of the things, (N, 4), in the same unit.

    Returns:
        A float; NaN where no landmark is visible.
    """
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    visible = ~np.isnan(far)
    return float((far <= alpha * longer[:, None])[visible].mean()) if visible.any() else math.nan


def nme(far: np.ndarray, boxes: np.ndarray) -> float:
    """Normalised mean error: distances over √(w · h) of the thing's box, the mean over all visible landmarks.

    Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D face alignment problem?", 2017, section 3.

    Args and result as of `pck`.
    """
    size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    visible = ~np.isnan(far)
    return float((far / np.maximum(size, 1e-12)[:, None])[visible].mean()) if visible.any() else math.nan
