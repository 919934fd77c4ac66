"""The network that steers, its objective, and one way to read its answers.

Evaluation, prediction, the closed loop and the exported graph all read a network's numbers through `Steerer`, which
knows the unit of the angles and how far the network's own certainty is to be trusted.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference, plugins
from cnn_keras.errors import Fault
from cnn_keras.losses import mixture_density
from cnn_keras.losses.mixture_density import Mixture
from pipelines.engine.regression import network
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.steer.config import Head, Recipe

STRAIGHT = 1e-3  # a root mean square of training angles below this is no driving
TURNED = {"flip"}  # augmentations after which the picture is no road


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    network.check(recipe, outputs(recipe.head), assemble, noun="angle")
    names = {entry if isinstance(entry, str) else next(iter(entry), "") for entry in recipe.augment}
    if wrong := sorted(names & TURNED):
        raise Fault(f"augment must not list {wrong[0]}, which turns the road upside down; use mirror")


def outputs(head: Head) -> int:
    """How many numbers the network says."""
    return int(mixture_density.outputs(head.components if head.kind == "mixture" else None))


def assemble(recipe: Recipe) -> keras.Model:
    """The network of the recipe, with its crop; see `pipelines.engine.regression.network`, which says what it takes."""
    return network.assemble(recipe, outputs(recipe.head), crop=recipe.model.crop)


def unit(data: dict[str, Any]) -> float:
    """What angles are measured in inside: the root mean square of the training angles, so that straight stays 0.

    Raises:
        Fault: nobody steered in the training split.
    """
    rms = float(data["angles"]["train"]["rms"])
    if rms < STRAIGHT:
        raise Fault(f"the training angles must differ from straight ahead, got {rms:.2g} of full lock on average")
    return rms


def objective(unit: float, own: str | None = None) -> dict[str, Any]:
    """The loss and the metrics that Keras compiles with: what a true angle costs, and the error of the median.

    `own` names a loss of the user's own, of angles.
    """
    measure = plugins.load(own) if own else None

    def loss(angle: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        truth = tf.reshape(angle, [-1])
        if measure:
            return measure(truth, mixture_density.mean(mixture_density.decode(y, unit=unit)))
        return mixture_density.negative_log_likelihood(y, truth, unit=unit)

    def mae(angle: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        median = mixture_density.quantile(mixture_density.decode(y, unit=unit), 0.5)
        return tf.abs(median - tf.reshape(angle, [-1]))

    return {"loss": loss, "metrics": [keras.metrics.MeanMetricWrapper(mae, name="mae")]}


class Steerer:
    """Reads a network's numbers: the angle, −1 to 1, and the interval it lies in.

    The angle is the median of what the network thinks likely. It errs least, and where the road forks and two angles
    are likely it lies with the likelier one, while the mean would lie between them.

    Attributes:
        unit: of the angles inside; see `unit`.
        spread: what the network's standard deviations are multiplied by; see
        `cnn_keras.losses.mixture_density.fit_spread`.
    """

    def __init__(self, model: keras.Model, *, unit: float, spread: float) -> None:
        self.model = model
        self.unit, self.spread = unit, spread

    def mixture(self, images: tf.Tensor) -> Mixture:
        """What is said of pictures, uint8 (batch, *data.size, channels)."""
        return mixture_density.decode(self.model(images, training=False), unit=self.unit, spread=self.spread)

    def answer(self, images: tf.Tensor, interval: float) -> dict[str, tf.Tensor]:
        """`angle`, `low` and `high` float32 (batch,), of the middle `interval`; the mixture (batch, components)."""
        mixture = self.mixture(images)
        outer = (1 - interval) / 2
        shares = {"angle": 0.5, "low": outer, "high": 1 - outer}
        return {
            **{name: mixture_density.quantile(mixture, share) for name, share in shares.items()},
            **mixture._asdict(),
        }


def numbers(model: keras.Model, examples: tf.data.Dataset) -> tuple[Any, Any]:
    """What a network says of batches of examples, float32 (N, outputs), and the true angles, float32 (N,)."""
    parameters, angles, ask = [], [], inference.predictor(model)
    for batch in examples:
        parameters.append(ask(batch["image"]))
        angles.append(batch["angle"].numpy())
    return np.concatenate(parameters), np.concatenate(angles)


def steerer(run: Run) -> Steerer:
    """What reads the answers of the model that the stage train left."""
    facts = run.facts("train")
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    return Steerer(model, unit=facts["unit"], spread=facts["spread"])
