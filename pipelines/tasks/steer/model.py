"""The network that steers, its objective, and one way to read its answers.

Evaluation, prediction, the closed loop and the exported graph all read a network's numbers through `Steerer`, which
knows the unit of the angles and how far the network's own certainty is to be trusted. Where the throttle is learnt too,
the second half of a network's numbers are those of it; it is read as the angle is.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference, models, plugins
from cnn_keras.errors import Fault
from cnn_keras.losses import mixture_density
from cnn_keras.losses.mixture_density import Mixture
from pipelines.data import value_records
from pipelines.engine.regression import network
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer.config import Recipe

STRAIGHT = 1e-3  # a root mean square of training angles below this is no driving
TURNED = {"flip"}  # augmentations after which the picture is no road
STEADY = 0.01  # the least unit of a throttle, which may be a constant one


class Scale(NamedTuple):
    """How the numbers that a network says of a control are read.

    Attributes:
        unit: of the control inside.
        centre: what is 0 inside.
        spread: what the network's standard deviations are multiplied by; see
            `cnn_keras.losses.mixture_density.fit_spread`.
    """

    unit: float
    centre: float = 0.0
    spread: float = 1.0

    def read(self, y: tf.Tensor) -> Mixture:
        """What numbers (batch, outputs of this control) say."""
        mixture = mixture_density.decode(y, unit=self.unit, spread=self.spread)
        return mixture._replace(means=mixture.means + self.centre)

    def losses(self, y: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """The negative log-likelihood of what is true, float32 (batch,), in nats."""
        inside = truth - self.centre
        return mixture_density.negative_log_likelihood(y, inside, unit=self.unit, spread=self.spread)


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    builder = recipe.model.builder
    if wrong := sorted(_more(recipe).keys() - models.signature(builder).parameters.keys()):
        raise Fault(f"data.route requires a builder that takes {wrong[0]}, as pilotnet.pilotnet does, got {builder}")
    network.check(recipe, outputs(recipe), assemble, noun="angle", more=_more(recipe))
    names = {entry if isinstance(entry, str) else next(iter(entry), "") for entry in recipe.augment}
    if wrong := sorted(names & TURNED):
        raise Fault(f"augment must not list {wrong[0]}, which turns the road upside down; use mirror")


def outputs(recipe: Recipe) -> int:
    """How many numbers the network says, of all controls."""
    components = recipe.head.components if recipe.head.kind == "mixture" else None
    return len(recipe.controls) * int(mixture_density.outputs(components))


def assemble(recipe: Recipe) -> keras.Model:
    """The network of the recipe, with its crop; see `pipelines.engine.regression.network`, which says what it takes."""
    return network.assemble(recipe, outputs(recipe), crop=recipe.model.crop, more=_more(recipe))


def _more(recipe: Recipe) -> dict[str, Any]:
    """Arguments of a builder whose network takes more than the camera's picture."""
    return {f"{name}_shape": shape for name, shape in dataset.inputs(recipe.data).items()}


def scale(data: dict[str, Any], control: str = "angle") -> Scale:
    """How a control is measured inside, before a spread is fitted.

    Of angles the unit is the root mean square of the training split, so that straight stays 0; of throttles it is the
    deviation, around their mean.

    Raises:
        Fault: nobody steered in the training split.
    """
    figures = data[f"{control}s"]["train"]
    if control == "throttle":
        return Scale(max(float(figures["deviation"]), STEADY), float(figures["mean"]))
    rms = float(figures["rms"])
    if rms < STRAIGHT:
        raise Fault(f"the training angles must differ from straight ahead, got {rms:.2g} of full lock on average")
    return Scale(rms)


def parts(y: tf.Tensor, controls: int) -> list[tf.Tensor]:
    """The numbers (batch, outputs) of a network, control by control."""
    return list(tf.split(y, controls, axis=-1))


def objective(scales: Mapping[str, Scale], own: str | None = None) -> dict[str, Any]:
    """The loss and the metrics that Keras compiles with: what true numbers cost, and the errors of the medians.

    Truth is float (batch, controls), in the order of `scales`. The loss is the sum of that of each control; the metrics
    are `mae` of the angle and `throttle_mae`. `own` names a loss of the user's own.
    """
    measure = plugins.load(own) if own else None

    def split(truth: tf.Tensor, y: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor, Scale]]:
        columns = tf.unstack(tf.reshape(truth, (-1, len(scales))), axis=-1)
        numbers = parts(y, len(scales))
        return {name: (columns[place], numbers[place], scales[name]) for place, name in enumerate(scales)}

    def cost(truth: tf.Tensor, y: tf.Tensor, scale: Scale) -> tf.Tensor:
        return measure(truth, mixture_density.mean(scale.read(y))) if measure else scale.losses(y, truth)

    def loss(truth: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.add_n([cost(*part) for part in split(truth, y).values()])

    def error(name: str) -> keras.metrics.Metric:
        def mae(truth: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            column, numbers, scale = split(truth, y)[name]
            return tf.abs(mixture_density.quantile(scale.read(numbers), 0.5) - column)

        return keras.metrics.MeanMetricWrapper(mae, name="mae" if name == "angle" else f"{name}_mae")

    return {"loss": loss, "metrics": [error(name) for name in scales]}


class Steerer:
    """Reads a network's numbers: the angle, −1 to 1, and the interval it lies in.

    The angle is the median of what the network thinks likely. It errs least, and where the road forks and two angles
    are likely it lies with the likelier one, while the mean would lie between them.

    Attributes:
        scales: of the controls, the angle first.
    """

    def __init__(self, model: keras.Model, scales: Mapping[str, Scale]) -> None:
        self.model, self.scales = model, scales

    def read(self, y: tf.Tensor) -> dict[str, Mixture]:
        """What a network's numbers (batch, outputs) say of each control."""
        numbers = parts(y, len(self.scales))
        return {name: scale.read(numbers[place]) for place, (name, scale) in enumerate(self.scales.items())}

    def mixtures(self, images: Any) -> dict[str, Mixture]:
        """What is said of each control in pictures, uint8 (batch, *data.size, channels).

        With `data.route` these are `image` of a dict, beside `route`, float32 (batch, *MAP, 1), 0 to 1.
        """
        return self.read(self.model(images, training=False))

    def answer(self, images: Any, interval: float) -> dict[str, tf.Tensor]:
        """`angle`, `low` and `high` float32 (batch,), of the middle `interval`; the mixture (batch, components).

        Those of the throttle, where it is learnt, are `throttle`, `throttle_low` and so on.
        """
        outer = (1 - interval) / 2
        answers: dict[str, tf.Tensor] = {}
        for name, mixture in self.mixtures(images).items():
            ends = {"low": outer, "high": 1 - outer}
            answers[name] = mixture_density.quantile(mixture, 0.5)
            answers |= named(name, {end: mixture_density.quantile(mixture, share) for end, share in ends.items()})
            answers |= named(name, mixture._asdict())
        return answers


def named(control: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by the names that they have in a graph: those of the angle plain, of another control after its name."""
    prefix = "" if control == "angle" else f"{control}_"
    return {f"{prefix}{name}": value for name, value in values.items()}


def numbers(model: keras.Model, examples: tf.data.Dataset, controls: tuple[str, ...]) -> tuple[Any, dict[str, Any]]:
    """What a network says of batches of examples, float32 (N, outputs), and what is true of each control, (N,)."""
    parameters, truths, ask = [], [], inference.predictor(model)
    for batch in examples:
        parameters.append(ask(seen(batch)))
        truths.append({name: batch[name].numpy() for name in controls})
    return np.concatenate(parameters), {name: np.concatenate([truth[name] for truth in truths]) for name in controls}


def seen(batch: Mapping[str, Any]) -> Any:
    """What the network is given of a batch of examples: the pictures, or a dict of them and the maps of the route."""
    return value_records.input_of(batch, ("route",) if "route" in batch else ())


def steerer(run: Run) -> Steerer:
    """What reads the answers of the model that the stage train left."""
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    scales = run.facts("train")["scales"]
    return Steerer(model, {name: Scale(**scales[name]) for name in run.recipe.controls})
