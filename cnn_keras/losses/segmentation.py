"""Losses of a class at each pixel or voxel: cross-entropy, Dice, focal; U-Net's weight of the ground between things.

Long, Shelhamer and Darrell, 2015 (cross-entropy of every pixel); Milletari, Navab and Ahmadi, "V-Net", 2016 (Dice);
Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", 2017; Ronneberger, Fischer and Brox,
"U-Net", 2015 (the weights).

Everywhere `labels` are integers (batch, *sizes), the number of the class, or below 0 for a pixel that nobody knows and
that does not count; `logits` are float32 (batch, *sizes, classes). Losses are scalars, float32, 0 where no pixel is
known.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy.ndimage import distance_transform_edt, find_objects

REACH = 4.0  # standard deviations: farther than that from two things the weight is nothing


def cross_entropy(
    labels: tf.Tensor,
    logits: tf.Tensor,
    *,
    class_weights: Sequence[float] | np.ndarray | None = None,
    pixel_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """−log p of the true class, the mean over the known pixels by their weights.

    Args:
        class_weights: float32 (classes,), what a pixel of each class counts.
        pixel_weights: float32 (batch, *sizes), what each pixel counts, in addition.
    """
    terms = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    return _weighted(terms, labels, class_weights, pixel_weights)


def focal(
    labels: tf.Tensor,
    logits: tf.Tensor,
    *,
    gamma: float = 2.0,
    class_weights: Sequence[float] | np.ndarray | None = None,
    pixel_weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """(1 − p)^γ · −log p of the true class, the mean as of `cross_entropy`; γ = 0 makes it that.

    Args:
        class_weights, pixel_weights: as of `cross_entropy`.

    Differs from the paper: a softmax over all classes; the paper's α is `class_weights`.
    """
    terms = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    return _weighted((1 - tf.exp(-terms)) ** gamma * terms, labels, class_weights, pixel_weights)


def dice(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 − 2 Σ p·g / (Σ p + Σ g) of each class over all known pixels of the batch, the mean over classes that are there.

    p is the probability of the class, g is 1 where it is true.

    Differs from the paper: all classes instead of one, over the batch instead of one volume, and sums of probabilities
    instead of their squares.
    """
    classes = logits.shape[-1]
    known = tf.cast(labels >= 0, tf.float32)[..., None]
    truth = tf.reshape(tf.one_hot(labels, classes), [-1, classes])  # of −1, all zeros
    probabilities = tf.reshape(tf.nn.softmax(logits) * known, [-1, classes])
    both, all_true = tf.reduce_sum(probabilities * truth, axis=0), tf.reduce_sum(truth, axis=0)
    shares = 2 * both / tf.maximum(tf.reduce_sum(probabilities, axis=0) + all_true, 1e-6)
    there = tf.cast(all_true > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum((1 - shares) * there), tf.reduce_sum(there))


def balanced_weights(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """What a pixel of each class must count for all classes to count the same, of mean 1 over all pixels.

    Args:
        counts: pixels of each class, integers (classes,); a class without any has the weight 0.

    Returns:
        float32 (classes,).
    """
    counts = np.asarray(counts, np.float64)
    there = counts > 0
    return np.where(there, counts.sum() / (max(there.sum(), 1) * np.maximum(counts, 1)), 0.0).astype(np.float32)


def border_weights(instances: np.ndarray, *, sigma: float = 5.0) -> np.ndarray:
    """How much the ground at each pixel lies between two things: exp(−(d1 + d2)² / 2σ²), equation 2 of U-Net.

    d1 and d2 are the distances to the nearest and to the second nearest thing. A pixel weighs 1 + w0 times this; U-Net
    has w0 = 10 and σ = 5 pixels.

    Args:
        instances: integers (height, width), 0 for ground, another number for each thing.

    Returns:
        float32 (height, width), from 0 – on things, and where fewer than two are near – to almost 1.
    """
    instances = np.asarray(instances)
    reach = REACH * sigma
    first = np.full(instances.shape, np.inf)
    second = np.full(instances.shape, np.inf)
    for number, box in enumerate(find_objects(instances), start=1):
        if box is None:
            continue
        near = tuple(slice(max(0, side.start - int(reach) - 1), side.stop + int(reach) + 1) for side in box)
        distance = distance_transform_edt(instances[near] != number)
        second[near] = np.minimum(second[near], np.maximum(first[near], distance))
        first[near] = np.minimum(first[near], distance)
    weights = np.exp(-((first + second) ** 2) / (2 * sigma**2))
    return np.where((instances == 0) & (first + second < 2 * reach), weights, 0.0).astype(np.float32)


def _weighted(
    terms: tf.Tensor,
    labels: tf.Tensor,
    class_weights: Sequence[float] | np.ndarray | None,
    pixel_weights: tf.Tensor | None,
) -> tf.Tensor:
    """The mean of the terms by the weights of their pixels."""
    weights = tf.cast(labels >= 0, tf.float32)
    if class_weights is not None:
        weights *= tf.gather(tf.constant(class_weights, tf.float32), tf.maximum(labels, 0))
    if pixel_weights is not None:
        weights *= pixel_weights
    return tf.math.divide_no_nan(tf.reduce_sum(terms * weights), tf.reduce_sum(weights))
