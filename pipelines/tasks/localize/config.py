"""What a recipe of this task may say."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipelines.data.boxes import box_config
from pipelines.data.schema import Fraction, Own, Positive, Section
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Data(box_config.Data):
    """Where the pictures come from; of several things in one, the largest is the one to find."""

    size: tuple[Positive, Positive] = (96, 96)  # height, width
    anchors: Positive | None = None  # which are for detection


class Head(Section):
    """The layers behind the backbone, and what their answers are asked for; see `cnn_keras.models.localize`."""

    filters: Positive = 32  # of a 1×1 convolution that makes the backbone's map thin
    hidden: Positive = 128  # units of the dense layer behind it
    dropout: Fraction = 0.0  # behind that layer
    box: Literal["squared", "smooth_l1", "iou", "giou", "ciou"] = "smooth_l1"  # the loss of a box
    landmark: Literal["smooth_l1", "wing"] = "wing"  # the loss of a landmark
    box_weight: Weight = 5.0  # what a box counts beside p_c
    landmark_weight: Weight = 5.0  # what landmarks count beside p_c


class Train(recipes.ImageTrain):
    """How the weights are found."""

    # of your own: targets and outputs, (batch, 5 + classes + 2 or 3 of each landmark), see `cnn_keras.models.localize`,
    # to (batch,); null is the loss of `head`
    loss: Own | None = None


class Tune(recipes.Tune):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    metric: Literal["val_loss", "val_mean_iou"] = "val_loss"  # type: ignore[assignment]  # of each trial's best epoch


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        "presence_accuracy", "class_accuracy", "mean_iou", "accuracy", "pck", "nme",
    )  # fmt: skip

    threshold: Share = 0.5  # of p_c, from which there is something
    shown: Positive = 12  # pictures drawn, and as many of the worst
    insight: bool = True  # draw what some answers rest on
    # of your own: two `cnn_keras.models.localize.Localization` of arrays, the truth and the answers, to a number
    metrics: tuple[Own, ...] = ()


class Export(recipes.Export):
    """What the exported model is called, what it answers, and how far it may stray from the trained one."""

    threshold: Share = 0.5  # of p_c, from which there is something
    tolerance: Annotated[float, Field(gt=0)] = 0.5  # pixels


class Recipe(recipes.Recipe):
    """A recipe of this task; `model` is the backbone."""

    data: Data
    # what training does to each image, its box and landmarks, in order
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    head: Head = Head()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries

    @model_validator(mode="after")
    def _fits_localization(self) -> Self:
        if self.data.tile:
            raise ValueError("data.tile is for detection; a localizer needs the whole image, which shows one object")
        return self
