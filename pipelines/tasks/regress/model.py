"""The network that answers with numbers, its objective, and one way to read its answers.

Inside, numbers have the mean 0 and the deviation 1 of the training split; whoever asks gets them in their own units.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import plugins
from cnn_keras.losses import mixture_density
from pipelines.engine.regression import network
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.regress.config import Head, Recipe


class Standard(NamedTuple):
    """Mean and deviation of each number in the training split, float32 (values,)."""

    mean: Any
    deviation: Any


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    network.check(recipe, outputs(recipe.head, 1), lambda recipe: assemble(recipe, 1), noun="number")


def outputs(head: Head, values: int) -> int:
    """How many numbers the network says of so many values."""
    return int(values * mixture_density.outputs(_components(head)))


def assemble(recipe: Recipe, values: int) -> keras.Model:
    """The network of the recipe: `image`, uint8 (batch, *data.size, channels), 0–255, to (batch, outputs)."""
    return network.assemble(recipe, outputs(recipe.head, values))


def standard(data: dict[str, Any]) -> Standard:
    """What the facts of prepare say of the training numbers."""
    rows = [data["values"]["train"][name] for name in data["names"]]
    mean, deviation = (np.array([row[key] for row in rows], np.float32) for key in ("mean", "deviation"))
    return Standard(mean, deviation)


def decode(y: tf.Tensor, head: Head, values: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The answers (batch, outputs) of a network as standardised numbers and deviations, float32 (batch, values).

    They are those of the distribution that the network says; where it says none, the deviation is 1.
    """
    if _components(head) is None:
        number = tf.cast(y, tf.float32)
        return number, tf.ones_like(number)
    mixture = mixture_density.decode(_rows(y, head))
    mean = mixture_density.mean(mixture)
    second = tf.reduce_sum(mixture.weights * (mixture.means**2 + mixture.scales**2), axis=-1)
    return tf.reshape(mean, (-1, values)), tf.reshape(tf.sqrt(second - mean**2), (-1, values))


def objective(head: Head, data: dict[str, Any], own: str | None = None) -> dict[str, Any]:
    """The loss and the metrics that Keras compiles with, of true numbers (batch, values) and answers.

    The loss is of standardised numbers, the mean over them; `own` names one of the user's own, of numbers in their
    units. `mae` is in the number's unit where there is one, else the mean over the numbers, each in its deviation.
    """
    mean, deviation = standard(data)
    values, measure = len(data["names"]), plugins.load(own) if own else None
    unit = deviation if values == 1 else np.ones_like(deviation)

    def standardised(truth: tf.Tensor) -> tf.Tensor:
        return (tf.reshape(tf.cast(truth, tf.float32), (-1, values)) - mean) / deviation

    def loss(truth: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        if measure:
            return measure(tf.reshape(truth, (-1, values)), tf.cast(y, tf.float32) * deviation + mean)
        target = standardised(truth)
        if _components(head) is not None:
            costs = mixture_density.negative_log_likelihood(_rows(y, head), tf.reshape(target, [-1]))
            return tf.reduce_mean(tf.reshape(costs, (-1, values)), axis=-1)
        if head.kind == "huber":
            return keras.losses.huber(target, tf.cast(y, tf.float32), delta=head.delta)
        return keras.losses.mean_squared_error(target, tf.cast(y, tf.float32))

    def mae(truth: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.abs(decode(y, head, values)[0] - standardised(truth)) * unit, axis=-1)

    return {"loss": loss, "metrics": [keras.metrics.MeanMetricWrapper(mae, name="mae")]}


class Regressor:
    """Reads a network's answers: numbers and the ends of their intervals, in the numbers' own units.

    Attributes:
        names, units: of the numbers.
        margins: how many deviations an interval reaches to either side, (values,); see
        `cnn_keras.metrics.regression.conformal_margins`.
    """

    def __init__(self, model: keras.Model, head: Head, data: dict[str, Any], margins: Any) -> None:
        self.model, self.head = model, head
        self.names, self.units = list(data["names"]), list(data["units"])
        self.standard, self.margins = standard(data), np.asarray(margins, np.float32)

    def read(self, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """`values`, `low` and `high`, float32 (batch, values), of what the network says."""
        number, deviation = decode(y, self.head, len(self.names))
        (mean, unit), margin = self.standard, deviation * self.margins
        ends = {"values": number, "low": number - margin, "high": number + margin}
        return {name: value * unit + mean for name, value in ends.items()}

    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same of pictures, uint8 (batch, *data.size, channels)."""
        return self.read(self.model(images, training=False))


def regressor(run: Run) -> Regressor:
    """What reads the answers of the model that the stage train left."""
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    return Regressor(model, run.recipe.head, run.facts("prepare"), run.facts("train")["margins"])


def _components(head: Head) -> int | None:
    """Of the mixture that the network says; None where it says a number alone."""
    return {"gaussian": 1, "mixture": head.components}.get(head.kind)


def _rows(y: tf.Tensor, head: Head) -> tf.Tensor:
    """A row for each number of each example."""
    return tf.reshape(tf.cast(y, tf.float32), (-1, mixture_density.outputs(_components(head))))
