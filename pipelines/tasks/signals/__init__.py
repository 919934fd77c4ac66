"""Signals: which of these classes does the series of measurements belong to?"""

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

NOUN = "signal"


class Data(array_config.Data):
    """Where the signals come from and what length they are given."""

    length: Positive | None = None  # that of the longest unless given


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
    classifier.check(recipe, (recipe.data.length or 96, 1))


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split and frame the signals of `run.recipe.data`; fit the normalisation on the training split."""
    length = run.recipe.data.length
    return array_dataset.prepare(run, folder, noun=NOUN, size=length and (length,), channels=None)
