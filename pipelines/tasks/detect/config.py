"""What a recipe of this task may say."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from pipelines.data.boxes.box_config import Data
from pipelines.data.schema import Own, Positive, Section, kind_alone
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

Share = Annotated[float, Field(ge=0, le=1)]


class Suppress(Section):
    """What of a detector's candidates is kept; see `pipelines.tasks.detect.decode.suppress`."""

    threshold: Share = 0.3  # the least score
    overlap: Share | None = None  # of two boxes of one class above this IoU, the likelier stays; 0.5, and 1 if `soft`
    limit: Positive = 100  # boxes in one picture
    soft: Annotated[float, Field(gt=0)] | None = None  # σ of soft suppression: what overlaps loses score, and stays

    @property
    def iou_threshold(self) -> float:
        """`overlap`, or its default."""
        return (1.0 if self.soft else 0.5) if self.overlap is None else self.overlap

    @property
    def description(self) -> str:
        """For the foot of a figure."""
        how = f"NMS at IoU {self.iou_threshold:g}"
        if self.soft:
            how = f"soft NMS of σ {self.soft:g}" + (
                f" and at IoU {self.iou_threshold:g}" if self.iou_threshold < 1 else ""
            )
        return f"scores from {self.threshold:g}, {how}, {self.limit} boxes at most"


class Train(recipes.TransferTrain, recipes.ImageTrain):
    """How the weights are found; a detector may be shown its batches at several sizes."""

    sides: tuple[Positive, ...] = ()  # the sides, in pixels, of which one is drawn for each batch; none: data.size
    # of your own: a network, its outputs, boxes and classes to scalars by name; null is the loss of the family
    loss: Own | None = None
    regions: Positive | None = None  # how many of data.proposals are drawn for each picture of a batch; null: all


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        "ap", "ap50", "ap75", "voc_map50", "precision", "recall", "mask_ap", "mask_ap50",
    )  # fmt: skip

    suppress: Suppress = Suppress(threshold=0.01)  # average precision wants the unlikely ones too
    crops: Annotated[recipes.Views | None, BeforeValidator(kind_alone)] = None  # measured beside the single view
    shown: Share = 0.3  # the least score that counts in pictures, in the confusion matrix and the kinds of error
    worst: Positive = 12  # the worst pictures that are drawn
    insight: bool = True  # draw what some answers rest on
    # of your own: the truth and the results in COCO's formats to a number
    metrics: tuple[Own, ...] = ()


class Export(recipes.Export):
    """What the exported model is called, what it answers, and how far it may stray from the trained one."""

    suppress: Suppress = Suppress()
    tolerance: Annotated[float, Field(gt=0)] = 0.5  # pixels
    crops: bool = False  # the graph looks at the views of `evaluate.crops`, with hard suppression of what overlaps


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    # what training does to each image and its boxes, in order
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _fits_detection(self) -> Self:
        settings = self.train
        if settings.transfer and (settings.transfer.mode == "cached" or self.model.weights is None):
            raise ValueError("train.transfer requires model.weights and any mode but cached")
        if self.data.proposals and self.data.tile:
            raise ValueError("data.proposals must be null with data.tile: photographs are read in tiles, not regions")
        if settings.sides and settings.augment_on == "device":
            raise ValueError("train.sides must be empty with train.augment_on: device, which leaves images as they are")
        if settings.regions and not self.data.proposals:
            raise ValueError("train.regions must be null without data.proposals to draw from")
        if self.export.crops and not self.evaluate.crops:
            raise ValueError("export.crops requires evaluate.crops: flip or multiscale")
        return self
