"""Volumes: which of these classes does the three-dimensional picture show?"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data import array_config, array_dataset
from pipelines.data.schema import Positive
from pipelines.engine import classifier
from pipelines.engine import recipe as recipes
from pipelines.engine.classifier_config import Evaluate, Export
from pipelines.engine.recipe import Model, Train, Tune

if TYPE_CHECKING:
    from pipelines.engine.stages import Run

NOUN = "volume"


class Data(array_config.Data):
    """Where the volumes come from and what shape they are given."""

    size: tuple[Positive, Positive, Positive] = (32, 32, 32)  # depth, height, width
    channels: Positive = 1  # of each voxel


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[array_config.Augment, ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None


depends = array_config.depends
training = partial(array_dataset.training, noun=NOUN)
train = partial(array_dataset.train, noun=NOUN)
evaluate = partial(array_dataset.evaluate, noun=NOUN)
export = partial(array_dataset.export, noun=NOUN)


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    classifier.check(recipe, (*recipe.data.size, recipe.data.channels))


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split and frame the volumes of `run.recipe.data`; fit the normalisation on the training split."""
    data = run.recipe.data
    return array_dataset.prepare(run, folder, noun=NOUN, size=data.size, channels=data.channels)
