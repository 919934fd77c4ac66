"""Signals: which of these classes does the series of measurements belong to?"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import classifier, measurements
from pipelines import recipe as recipes
from pipelines.classifier import Evaluate, Export
from pipelines.recipe import Model, Positive, Train, Tune

if TYPE_CHECKING:
    from pipelines.stages import Run

NOUN = "signal"


class Data(measurements.Data):
    """Where the signals come from and what length they are given."""

    length: Positive | None = None  # that of the longest unless given


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[measurements.Augment, ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None


depends = partial(measurements.depends, noun=NOUN)
training = partial(measurements.training, noun=NOUN)
train = partial(measurements.train, noun=NOUN)
evaluate = partial(measurements.evaluate, noun=NOUN)
export = partial(measurements.export, noun=NOUN)


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    classifier.check(recipe, (recipe.data.length or 96, 1))


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split and frame the signals of `run.recipe.data`; fit the normalisation on the training split."""
    length = run.recipe.data.length
    return measurements.prepare(run, folder, noun=NOUN, size=length and (length,), channels=None)
