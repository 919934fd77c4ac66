"""A recipe of steering: the drives, the network and its head, what is measured and exported."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.data.schema import Fraction, Own, Positive, RecipePath, Section
from pipelines.engine import recipe as recipes

Rows = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Baseline = Literal["mean angle", "nearest image", "mean throttle"]


class Road(Section):
    """What is drawn and driven where the source is the road: see `cnn_keras.data.sources.synthetic.simulator`."""

    drives: Positive = 8  # each on a road of its own
    frames: Positive = 300  # of each drive, a metre apart
    wander: Annotated[float, Field(ge=0)] = 0.25  # of a push against the wheel that is not recorded
    hand: Annotated[float, Field(ge=0)] = 0.02  # of the driver's trembling, which is
    forks: bool = False  # each road forks now and then; no frame tells which branch the driver takes


class Data(Section):
    """Where the drives come from, and what shape their pictures are given."""

    source: Literal["road", "tub", "csv"]  # a drawn road, a Donkey tub, or a CSV file of pictures and angles
    path: RecipePath | None = None  # of tub and csv
    full: float | None = None  # of csv: the angle of full lock to the right in its unit; 1 unless given
    throttle: bool = False  # of tub and csv: learn the recorded throttle too
    route: bool = False  # of road: a patch of the map with the route on it is a second input of the network
    size: tuple[Positive, Positive] = (110, 200)  # height, width
    channels: Literal[1, 3] = 3  # 1 grey, 3 RGB
    # how a picture of another shape gets this size: distorted, cut, or with borders
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    road: Road | None = None
    validation: Fraction = 0.1  # share of each drive before its test, which chooses the best epoch
    test: Fraction = 0.2  # the last of each drive
    gap: Annotated[int, Field(ge=0)] = 10  # frames left out between the splits
    max_bad: Fraction = 0.1  # a larger share of unusable frames is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed


class Model(recipes.Model):
    """Which network, and which rows of a picture it does not see: the crop is inside the model."""

    crop: tuple[Rows, Rows] = (0, 0)  # rows of data.size cut off at the top and at the bottom


class Head(Section):
    """What the network says of an angle; see `cnn_keras.losses.mixture_density`."""

    kind: Literal["regression", "mixture"] = "mixture"  # one angle, or a mixture of normal densities over angles
    components: Positive = 3  # of the mixture


class Loop(Section):
    """The drive that the network steers itself, where the source is the road; on roads it was not trained on."""

    roads: Positive = 3  # how many
    steps: Positive = 500  # of a metre
    forks: Positive = 20  # where the roads fork: how many forks are driven, each to the left and to the right


class Train(recipes.ImageTrain):
    """How the weights are found."""

    # of your own, with head.kind: regression: the true and the predicted angles, (batch,), to (batch,); null is the
    # squared error. It is that of throttles too
    loss: Own | None = None


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        *("mae", "rmse", "nll", "coverage", "calibration_error", "lane_steps"),
        *("throttle_mae", "throttle_rmse", "throttle_coverage", "fork_mae", "forks_taken"),
    )

    interval: Share = 0.8  # that the predicted interval is to hold
    loop: Loop = Loop()
    shown: Positive = 16  # frames of the strips
    insight: bool = True  # draw where the network looks
    # of your own: the true and the predicted angles of the frames in their order, (N,), to a number
    metrics: tuple[Own, ...] = ()
    beat: tuple[Baseline, ...] = ()  # baselines whose mean absolute error it must stay below


class Export(recipes.Export):
    """What the exported model is called, what interval it answers with, and how far it may stray."""

    interval: Share = 0.8  # the share of angles that the answered interval is to hold
    # files of other formats take and answer what a Donkey Car asks of its pilot `linear`; requires data.throttle
    donkeycar: bool = False
    tolerance: Annotated[float, Field(gt=0)] = 1e-3  # of full lock


class Recipe(recipes.Recipe):
    """A recipe of this task; `model` is any classifier of images, its classes the numbers of the head."""

    data: Data
    # what training does to each frame, in order; a mirror turns the angle too
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    head: Head = Head()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.train.loss and self.head.kind != "regression":
            raise ValueError("train.loss requires head.kind: regression")
        if self.data.throttle and self.data.source == "road":
            raise ValueError("data.throttle requires source: tub or csv, because the drawn road is driven at one speed")
        if self.data.route and self.data.source != "road":
            raise ValueError("data.route requires source: road, because no other source records a map")
        if not self.data.throttle and (self.export.donkeycar or "mean throttle" in self.evaluate.beat):
            setting = "export.donkeycar" if self.export.donkeycar else "evaluate.beat: [mean throttle]"
            raise ValueError(f"{setting} requires data.throttle: true")
        return self

    @property
    def forks(self) -> bool:
        """Whether the roads fork."""
        return self.data.road is not None and self.data.road.forks

    @property
    def controls(self) -> tuple[str, ...]:
        """What the network says of a frame: the angle, and the throttle where it is learnt."""
        return ("angle", "throttle") if self.data.throttle else ("angle",)


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source != "road":
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None:
        return None
    return source_files.files_digest(data.path if input_file.is_folder(data.path) else data.path.parent)
