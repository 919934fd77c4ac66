"""Smaller networks: weights that stay zero, and a network that learns from a larger one.

`prune` is that of Han, Pool, Tran and Dally, "Learning both weights and connections for efficient neural networks",
2015: the smallest weights of a trained network become zero, and the others are trained further. Differs from the paper:
every kernel loses the same share, where its thresholds are by standard deviation.

`distill` is that of Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2: beside
the labels, the network learns the probabilities of a teacher, both softened by a temperature T. The cross-entropy with
them is multiplied by T², as in the paper, because its gradients scale with 1/T².
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.engine.classification.classifier_config import Distill
from pipelines.export import savedmodel


class KeepZeros(keras.constraints.Constraint):
    """What is zero in `values` stays zero."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.mask = (values != 0).astype(np.float32)

    def __call__(self, weight: Any) -> Any:
        return weight * self.mask


def kernels(model: keras.Model) -> list[Any]:
    """The variables that convolutions and dense layers multiply by."""
    return [variable for variable in model.variables if variable.name.endswith("kernel")]


def prune(model: keras.Model, share: float) -> None:
    """Make the smallest weights of every kernel zero, this share of them."""
    for kernel in kernels(model):
        values = kernel.numpy()
        least = np.argsort(np.abs(values), axis=None, kind="stable")[: round(share * values.size)]
        values.ravel()[least] = 0
        kernel.assign(values)


def keep_zeros(model: keras.Model) -> None:
    """Have every optimizer leave at zero what is zero now."""
    for kernel in kernels(model):
        kernel.constraint = KeepZeros(kernel.numpy())


def zeros(model: keras.Model) -> float:
    """The share of zeros among the weights of all kernels."""
    values = np.concatenate([kernel.numpy().ravel() for kernel in kernels(model)])
    return float(np.mean(values == 0))


def load_teacher(settings: Distill, classes: list[str], student: keras.Model) -> keras.Model:
    """The trained classifier of the run that `settings.path` names, for a student of these classes.

    Raises:
        Fault: it is no finished run, or one of other classes or another size.
    """
    file, manifest = settings.file, run_files.kept_json(settings.path / "prepare" / run_files.MANIFEST)
    if manifest is None or not file.is_file():
        raise Fault(f"train.distill.path must be the folder of a trained classifier, got {settings.path}")
    model = savedmodel.load_keras(file)
    for noun, theirs, ours in (
        ("classes", manifest["facts"].get("classes"), classes),
        ("inputs", model.input.shape[1:], student.input.shape[1:]),
    ):
        if theirs != ours:
            raise Fault(f"train.distill.path must be a run of the same {noun}, got {theirs} instead of {ours}")
    model.trainable = False
    return model


def distill(model: keras.Model, teacher: keras.Model, settings: Distill) -> None:
    """Give the model a training loss that is, by `settings.weight`, that of a teacher's probabilities.

    What validates is the loss of the labels alone. The teacher sees what the model sees, augmented alike.
    """
    temperature, weight = settings.temperature, settings.weight

    def compute_loss(
        x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        hard = type(model).compute_loss(model, x, y, y_pred, sample_weight, training)
        if not training:
            return hard
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        targets = tf.nn.softmax(tf.cast(teacher(x, training=False), tf.float32) / temperature)
        soft = tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(logits, tf.float32) / temperature)
        return (1 - weight) * hard + weight * temperature**2 * tf.reduce_mean(soft)

    model.compute_loss = compute_loss
