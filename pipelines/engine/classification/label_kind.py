"""One class an example, or any number of labels: what of training and answering depends on it.

`pipelines.data.label_kind` has what of the data depends on it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import plugins
from cnn_keras.losses import multi_label
from pipelines.engine.classification.classifier_config import Train

MIXED = {"mixup", "cutmix"}  # augmentations that leave an example shares of several classes


class SingleLabel:
    """One class an example: a softmax.

    Attributes:
        metric: what the epochs are measured by.
    """

    metric = "accuracy"

    def loss(self, recipe: Any, positive_weights: Any = None) -> Any:
        """What is minimised, of labels as `shares` says and of logits (batch, classes)."""
        settings: Train = recipe.train
        if settings.loss:
            return plugins.load(settings.loss)
        if settings.focal_gamma:  # without the paper's balance α, which is `class_weights`
            return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=settings.focal_gamma, from_logits=True)
        if self.shares(recipe):
            return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def metrics(self, recipe: Any, classes: int) -> list[keras.metrics.Metric]:
        """What each epoch is measured by."""
        kind = keras.metrics.CategoricalAccuracy if self.shares(recipe) else keras.metrics.SparseCategoricalAccuracy
        return [kind(name=self.metric)]

    def shares(self, recipe: Any) -> bool:
        """Whether the loss is given a share of each class, not a number: it wants them so, or examples are mixed."""
        named = {
            entry if isinstance(entry, str) else next(iter(entry))
            for entry in recipe.augment
            if isinstance(entry, str | dict)
        }
        settings = recipe.train
        return bool(settings.loss or settings.focal_gamma or settings.label_smoothing or named & MIXED)

    def positive_weights(self, recipe: Any, data: Mapping[str, Any]) -> Any:
        """What having each label counts against not having it; None counts both the same."""
        return None

    def activation(self, logits: Any) -> Any:
        """The probabilities of logits, float32 (…, classes)."""
        return tf.nn.softmax(tf.cast(logits, tf.float32))

    def mean_logits(self, logits: Sequence[Any]) -> Any:
        """Logits whose probabilities are the mean of those of each, (batch, classes), without leaving logarithms."""
        each = keras.ops.stack([keras.ops.log_softmax(keras.ops.cast(values, "float32")) for values in logits], axis=1)
        return keras.ops.logsumexp(each, axis=1) - math.log(len(logits))

    def probabilities(self, model: keras.Model, images: Any) -> Any:
        """What a model makes of images, uint8 (N, height, width, channels): float32 (N, classes)."""
        return self.activation(model(images, training=False))


class MultiLabel(SingleLabel):
    """Any number of labels an example: a sigmoid for each class."""

    metric = "mean_average_precision"

    def loss(self, recipe: Any, positive_weights: Any = None) -> Any:
        settings: Train = recipe.train
        if settings.loss:
            return plugins.load(settings.loss)
        return multi_label.BinaryCrossentropy(
            positive_weights=positive_weights,
            focal_gamma=settings.focal_gamma or 0.0,
            label_smoothing=settings.label_smoothing,
        )

    def metrics(self, recipe: Any, classes: int) -> list[keras.metrics.Metric]:
        return [multi_label.MeanAveragePrecision(classes, self.metric)]

    def shares(self, recipe: Any) -> bool:
        return True

    def positive_weights(self, recipe: Any, data: Mapping[str, Any]) -> Any:
        """With `train.class_weights`, how many times more training examples are without a label than with it."""
        if not recipe.train.class_weights:
            return None
        total, counts = data["splits"]["train"], data["counts"]["train"]
        had = np.array([counts.get(name, 0) for name in data["classes"]], np.float32)
        return np.maximum(total - had, 1) / np.maximum(had, 1)

    def mean_logits(self, logits: Sequence[Any]) -> Any:
        ops = keras.ops
        each = ops.stack([ops.cast(values, "float32") for values in logits], axis=1)
        had, not_had = (ops.logsumexp(ops.log_sigmoid(signed), axis=1) for signed in (each, -each))
        return had - not_had

    def activation(self, logits: Any) -> Any:
        return tf.sigmoid(tf.cast(logits, tf.float32))


SINGLE, MULTI = SingleLabel(), MultiLabel()


def of(recipe: Any) -> SingleLabel:
    """The kind of labels that a recipe names."""
    return MULTI if getattr(recipe.data, "labels", "single") == "multi" else SINGLE
