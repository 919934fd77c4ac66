"""What the task steer is made of: its settings, its network and objective, one way to read its answers, its export.

Evaluation, prediction, the closed loop and the exported graph all read a network's numbers through `Steerer`, which
knows the unit of the angles and how far the network's own certainty is to be trusted.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cnn_keras.errors import Fault
from pipelines.data.schema import Name, Positive, Section
from pipelines.engine import recipe as recipes
from pipelines.export import savedmodel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cnn_keras.losses.mixture_density import Mixture
    from pipelines.engine.stages import Run

Rows = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Baseline = Literal["mean angle", "nearest image"]
Metric = Literal["mae", "rmse", "nll", "coverage", "lane_steps"]
STRAIGHT = 1e-3  # a root mean square of training angles below this is no driving
TAKES = (
    "Images are encoded JPEG or PNG of any size, of a camera mounted like that of the recordings; angles are shares of "
    "full lock, −1 for full left to 1 for full right. An EXIF orientation is not applied by the graph."
)


class Model(recipes.Model):
    """Which network, and which rows of a picture it does not see: the crop is inside the model."""

    crop: tuple[Rows, Rows] = (0, 0)  # rows of data.size cut off at the top and at the bottom


class Head(Section):
    """What the network says of an angle; see `cnn_keras.losses.mixture_density`."""

    kind: Literal["regression", "mixture"] = "mixture"  # one angle, or a mixture of normal densities over angles
    components: Positive = 3  # of the mixture

    @property
    def outputs(self) -> int:
        from cnn_keras.losses import mixture_density

        return int(mixture_density.outputs(self.components if self.kind == "mixture" else None))


class Loop(Section):
    """The drive that the network steers itself, where the source is the road; on roads it was not trained on."""

    roads: Positive = 3  # how many
    steps: Positive = 500  # of a metre


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    interval: Share = 0.8  # that the predicted interval is to hold
    loop: Loop = Loop()
    shown: Positive = 16  # frames of the strips
    require: dict[Metric, float] = Field(default_factory=dict)  # metric: the least it must be
    at_most: dict[Metric, float] = Field(default_factory=dict)  # metric: the most it may be
    beat: tuple[Baseline, ...] = ()  # baselines whose mean absolute error it must stay below


class Export(Section):
    """What the exported model is called, what interval it answers with, and how far it may stray."""

    name: Name | None = None  # the run's name unless given
    interval: Share = 0.8  # the share of angles that the answered interval is to hold
    tolerance: Annotated[float, Field(gt=0)] = 1e-3  # of full lock
    register_model: bool = True  # in MLflow's registry, as candidate


def assemble(recipe: Any) -> "keras.Model":
    """The network of the recipe from pixels: `image`, uint8 (batch, *data.size, channels), 0–255, to its numbers.

    Raises:
        Fault: the crop leaves nothing, or what the builder refuses.
    """
    import keras

    from cnn_keras import models
    from cnn_keras.weights import pretrained

    builder, weights, (top, bottom) = recipe.model.builder, recipe.model.weights, recipe.model.crop
    height, width = recipe.data.size
    if top + bottom >= height:
        raise Fault(f"model.crop must leave some of the {height} rows of data.size, got {top} and {bottom}")
    seen = (height - top - bottom, width, recipe.data.channels)
    network = models.build(builder, input_shape=seen, classes=recipe.head.outputs, **recipe.model.arguments)
    if weights:
        pretrained.load(network, builder, weights)
    normalization = (weights and pretrained.normalization(builder, weights)) or {"mean": 127.5, "variance": 127.5**2}
    entry = keras.Input((height, width, recipe.data.channels), dtype="uint8", name="image")
    x = keras.layers.Cropping2D(((top, bottom), (0, 0)), name="crop")(entry)
    x = keras.layers.Normalization(**{"axis": None, **normalization}, name="normalization")(x)
    return keras.Model(entry, network(x), name=recipe.name)


def unit(data: dict[str, Any]) -> float:
    """What angles are measured in inside: the root mean square of the training angles, so that straight stays 0.

    Raises:
        Fault: nobody steered in the training split.
    """
    found = float(data["angles"]["train"]["rms"])
    if found < STRAIGHT:
        raise Fault(f"the training angles must differ from straight ahead, got {found:.2g} of full lock on average")
    return found


def objective(unit: float) -> dict[str, Any]:
    """The loss and the metrics that Keras compiles with: what a true angle costs, and the error of the median."""
    import keras
    import tensorflow as tf

    from cnn_keras.losses import mixture_density

    def loss(angle: "tf.Tensor", y: "tf.Tensor") -> "tf.Tensor":
        return mixture_density.negative_log_likelihood(y, tf.reshape(angle, [-1]), unit=unit)

    def mae(angle: "tf.Tensor", y: "tf.Tensor") -> "tf.Tensor":
        said = mixture_density.quantile(mixture_density.decode(y, unit=unit), 0.5)
        return tf.abs(said - tf.reshape(angle, [-1]))

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

    def __init__(self, model: "keras.Model", *, unit: float, spread: float) -> None:
        self.model = model
        self.unit, self.spread = unit, spread

    def mixture(self, images: "tf.Tensor") -> "Mixture":
        """What is said of pictures, uint8 (batch, *data.size, channels)."""
        from cnn_keras.losses import mixture_density

        return mixture_density.decode(self.model(images, training=False), unit=self.unit, spread=self.spread)

    def answer(self, images: "tf.Tensor", interval: float) -> "dict[str, tf.Tensor]":
        """`angle`, `low` and `high` float32 (batch,), of the middle `interval`; the mixture (batch, components)."""
        from cnn_keras.losses import mixture_density

        found = self.mixture(images)
        outer = (1 - interval) / 2
        shares = {"angle": 0.5, "low": outer, "high": 1 - outer}
        return {**{name: mixture_density.quantile(found, share) for name, share in shares.items()}, **found._asdict()}

    def write(self, folder: Path, *, shape: Any, interval: float) -> None:
        """Write the SavedModel: what both its signatures give is what `answer` does, and `interval` (batch,)."""
        import tensorflow as tf

        def answer(images: Any, sizes: Any) -> dict[str, Any]:
            found = self.answer(images, interval)
            return {**found, "interval": tf.fill(tf.shape(found["angle"]), tf.constant(interval))}

        savedmodel.write_seer(self.model, folder, shape=shape, answer=answer)

    def compare(self, folder: Path, images: Any, encoded: Sequence[bytes], *, interval: float, tolerance: float) -> Any:
        """Ask the trained and the exported model about the same pictures; raise a Fault if they disagree."""
        import numpy as np
        import tensorflow as tf

        from cnn_keras import inference

        exported, size = tf.saved_model.load(str(folder)), inference.at_once(self.model)
        got = savedmodel.said(exported, "serving_default", size, image_bytes=np.array(encoded, object))
        wanted = inference.predictor(self.model, partial(self.answer, interval=interval))(images)
        difference = max(float(np.abs(wanted[name] - got[name]).max()) for name in ("angle", "low", "high"))
        if not difference <= tolerance:
            raise Fault(
                f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
                f"difference of {difference:.2e} on {len(encoded)} pictures",
                code=Fault.GATE,
            )
        return {"difference": difference, "images": len(encoded)}


def numbers(model: "keras.Model", examples: "tf.data.Dataset") -> tuple[Any, Any]:
    """What a network says of batches of examples, float32 (N, outputs), and the true angles, float32 (N,)."""
    import numpy as np

    from cnn_keras import inference

    said, angles, ask = [], [], inference.predictor(model)
    for batch in examples:
        said.append(ask(batch["image"]))
        angles.append(batch["angle"].numpy())
    return np.concatenate(said), np.concatenate(angles)


def steerer(run: "Run") -> Steerer:
    """What reads the answers of the model that the stage train left."""
    facts = run.facts("train")
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    return Steerer(model, unit=facts["unit"], spread=facts["spread"])


def write_card(
    path: Path, model: "keras.Model", *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that steers."""
    low, high = report["mae_interval"]
    rows = [f"| {name} | {row['mae']:.4f} | {row['rmse']:.4f} |" for name, row in report["baselines"].items()]
    measured = [
        f"On the last {report['frames']:,} frames ({report['split']} split): mean absolute error "
        f"**{report['mae']:.4f}** of full lock (95 % interval {low:.4f} to {high:.4f}), root mean square "
        f"{report['rmse']:.4f}, negative "
        f"log-likelihood {report['nll']:.3f} nats. The interval of {report['interval']:.0%} holds "
        f"{report['coverage']:.1%} of the true angles. The exported model differs from the trained one by at most "
        f"{agreement['difference']:.1e} on {agreement['images']} images.",
        "",
        "| on the same frames | mean absolute error | root mean square |",
        "|---|---|---|",
        *rows,
    ]
    if loop := report.get("loop"):
        told = ", ".join(f"{row['steps']} of {row['of']}" for row in loop)
        measured += [
            "",
            f"Steering by itself on roads of other seeds it stayed in its lane for {told} steps of a metre.",
        ]
    what = (
        f"`{recipe.model.builder}` with the head `{recipe.head.kind}`, {model.count_params():,} parameters, on "
        f"`{data['source']}`."
    )
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, measured=measured, takes=TAKES)
