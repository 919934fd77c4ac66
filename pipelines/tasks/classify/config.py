"""The recipe of classification."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from pipelines.data.image_config import Data
from pipelines.data.schema import Section, kind_alone
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import classifier_config
from pipelines.engine.classification.classifier_config import Train, Tune
from pipelines.engine.recipe import Model


class Crops(Section):
    """Views of an image, probabilities averaged; see `ops.test_time_augmentation`. A word alone is the kind."""

    kind: Literal["ten", "multiscale"]  # the corners and the middle, mirrored too, at one scale or at five
    mirror: bool = True  # false for what is not itself in a mirror, such as digits: five views instead of ten


class Evaluate(classifier_config.Evaluate):
    """What is measured of images."""

    crops: Annotated[Crops | None, BeforeValidator(kind_alone)] = None  # measured beside the single view
    gap: bool = False  # measure the training split too, as it is: how far the test split falls behind


class Export(classifier_config.Export):
    """What is exported for images."""

    crops: bool = False  # the graph looks at the crops of `evaluate.crops`


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    # what training does to each image, in order; `cnn augment` draws it
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries

    @model_validator(mode="after")
    def _crops_are_measured(self) -> Self:
        if self.export.crops and self.evaluate.crops is None:
            raise ValueError("export.crops requires evaluate.crops: ten or multiscale")
        return self
