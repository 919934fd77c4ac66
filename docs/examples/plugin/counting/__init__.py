"""A task of one's own: how many dots are in the picture, as a number?

A task is a module with a `Recipe` and the functions below. What imports TensorFlow is in a module that they import when
they are called, so that a recipe can be shown without it.
"""

from pathlib import Path
from typing import Any

from pipelines.data.image_config import Data, files_digest
from pipelines.data.schema import Section
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model, Train
from pipelines.engine.stages import Run


class Evaluate(Section):
    """What must hold before the model is exported."""

    at_most: float | None = None  # the mean absolute error, in dots


class Recipe(recipes.Recipe):
    """A recipe of this task: the sections, and their defaults."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # what training does to each image, in order
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code: here the files of the data."""
    return {"files": files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong with the recipe, before any data is read."""
    from counting import regression

    regression.check(recipe)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and record the images; here as classification does."""
    from pipelines.data import image_dataset

    return image_dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What `cnn lr`, `cnn tune` and `--dry-run` need; a task may be without."""
    from counting import regression

    return regression.training(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from counting import regression

    return regression.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure on the test split; `failed` lists the requirements that are not met."""
    from counting import regression

    return regression.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that `cnn serve` serves."""
    from counting import regression

    return regression.export(run, folder)
