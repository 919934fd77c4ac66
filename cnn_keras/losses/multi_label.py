"""Losses and a metric of images with any number of labels: a yes or no for each class.

Everywhere `labels` are float32 (batch, classes) in [0, 1] – shares where examples were mixed –, `logits` float32
(batch, classes), before the sigmoid.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class BinaryCrossentropy(keras.losses.Loss):
    """−w·y·log p − (1 − y)·log(1 − p), the mean over the classes: a number for each example.

    Args:
        positive_weights: w, float32 (classes,), what having a label counts against not having it; 1 unless given.
        focal_gamma: terms are multiplied by (1 − p of what is true)^γ (Lin, Goyal, Girshick, He and Dollár, "Focal loss
            for dense object detection", 2017); 0 is none. Differs from the paper: without its balance α, which is
            `positive_weights`.
        label_smoothing: labels are moved by half of this share towards ½.
    """

    def __init__(
        self,
        *,
        positive_weights: Sequence[float] | np.ndarray | None = None,
        focal_gamma: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name="binary_crossentropy")
        self.positive_weights = None if positive_weights is None else np.asarray(positive_weights, np.float32)
        self.focal_gamma, self.label_smoothing = focal_gamma, label_smoothing

    def call(self, labels: Any, logits: Any) -> Any:
        labels, logits = tf.cast(labels, tf.float32), tf.cast(logits, tf.float32)
        labels = labels * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        weights = 1.0 if self.positive_weights is None else self.positive_weights
        terms = tf.nn.weighted_cross_entropy_with_logits(labels, logits, weights)
        if self.focal_gamma:
            probabilities = tf.sigmoid(logits)
            true = labels * probabilities + (1 - labels) * (1 - probabilities)
            terms *= (1 - true) ** self.focal_gamma
        return tf.reduce_mean(terms, axis=-1)


class MeanAveragePrecision(keras.metrics.AUC):
    """The mean of the classes' areas under precision over recall, by 200 thresholds, of labels and logits.

    An approximation that can be added up batch by batch, for the epochs; reports compute it exactly. Labels of mixed
    examples count as had from ½ on. A class that nothing has counts 0.
    """

    def __init__(self, classes: int, name: str = "mean_average_precision") -> None:
        super().__init__(curve="PR", multi_label=True, num_labels=classes, from_logits=True, name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = tf.cast(tf.greater_equal(y_true, 0.5), tf.float32), tf.cast(y_pred, tf.float32)
        super().update_state(y_true, y_pred, sample_weight)
