"""A recipe of regression: pictures and their numbers, the network and its head, what is measured and exported."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cnn_keras import plugins
from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.data.schema import Bits, Fraction, Own, Positive, RecipePath, RecipePaths, Section
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

SOURCES = ("csv", "turned_digits")
Share = Annotated[float, Field(gt=0, lt=1)]
Baseline = Literal["training mean", "training median", "nearest image"]


class Data(Section):
    """Where the pictures and their numbers come from, and what shape the pictures are given."""

    layout: ClassVar[str] = "csv"  # the source of `also` where `source` reads no path

    source: str  # csv (a table, CSV or Parquet), turned_digits, or a function of your own
    path: RecipePath | None = None  # of csv
    # paths of further data that trains, too; validation and test stay what they are without it
    also: RecipePaths = ()
    # columns of the table and their units, {age: years}; null takes all but path, split and group, without units
    values: dict[str, str] | None = None
    images: RecipePath | None = None  # the folder of the images, if not that of the table
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    # images whose difference hashes, of 128 bits, differ in at most so many stay in one split; null: only copies do
    group_similar: Bits | None = None
    size: tuple[Positive, Positive] = (96, 96)  # height, width
    channels: Literal[1, 3] = 3  # 1 grey, 3 RGB
    # how a picture of another shape gets this size: distorted, cut, or with borders
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    validation: Share = 0.2  # share that chooses the best epoch and calibrates the intervals
    test: Fraction = 0.2  # share that measures, unless the table prescribes a split
    max_bad: Fraction = 0.1  # a larger share of unusable images is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed

    @model_validator(mode="after")
    def _source_is_known(self) -> Self:
        if self.source not in SOURCES and not plugins.is_reference(self.source):
            raise ValueError(f"source must be {' or '.join(SOURCES)}, or a function of your own, got {self.source}")
        if self.values is not None and not self.values:
            raise ValueError("values must name at least one column, got none")
        return self


class Head(Section):
    """What the network says of each number, and what that costs."""

    # squared and huber: a number; gaussian: a normal distribution; mixture: several
    kind: Literal["squared", "huber", "gaussian", "mixture"] = "squared"
    delta: Annotated[float, Field(gt=0)] = 1.0  # of huber: the error, in σ, from which it is linear
    components: Positive = 3  # of mixture
    # the share of true numbers that an answered interval is to hold; calibrated on the validation split
    interval: Share = 0.9


class Train(recipes.ImageTrain):
    """How the weights are found."""

    # of your own, with head.kind: squared or huber: the true and the predicted numbers, (batch, values), to (batch,);
    # null is that of the head
    loss: Own | None = None


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = ("mae", "rmse", "r2", "coverage")

    worst: Positive = 12  # pictures of the sheet of the largest errors
    insight: bool = True  # draw what some answers rest on
    # of your own: the true and the predicted numbers of the test split, (N, values), to a number
    metrics: tuple[Own, ...] = ()
    beat: tuple[Baseline, ...] = ()  # baselines whose mean absolute error it must stay below


class Export(recipes.Export):
    """What the exported model is called, and how far it may stray from the trained one."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-3  # of σ of the training numbers


class Recipe(recipes.Recipe):
    """A recipe of this task; `model` is any classifier of images, its classes the numbers of the head."""

    data: Data
    # what training does to each image, in order; the numbers stay, so turn and mirror only what they survive
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    head: Head = Head()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _loss_is_of_numbers(self) -> Self:
        if self.train.loss and self.head.kind not in ("squared", "huber"):
            raise ValueError("train.loss requires head.kind: squared or huber")
        return self


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read but the table.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source == "csv":
        raise Fault("data.path is required with source: csv; write it there or --set data.path=PATH")
    return None if data.path is None else source_files.files_digest(data.path, data.images or data.path.parent)
