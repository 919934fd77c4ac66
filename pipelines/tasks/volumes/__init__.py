"""Volumes: which of these classes does the three-dimensional picture show?"""

from pathlib import Path
from typing import Any

from pipelines.data.array_config import depends as depends
from pipelines.engine.stages import Run
from pipelines.tasks.volumes.config import Recipe as Recipe

NOUN = "volume"


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.engine.classification import classifier

    classifier.check(recipe, (*recipe.data.size, recipe.data.channels))


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and frame the volumes of `run.recipe.data`; fit the normalisation on the training split."""
    from pipelines.data import array_dataset

    data = run.recipe.data
    return array_dataset.prepare(run, folder, noun=NOUN, size=data.size, channels=data.channels)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs: see `pipelines.engine.training.task_training`."""
    from pipelines.engine.classification import array_classifier

    return array_classifier.training(run, noun=NOUN)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from pipelines.engine.classification import array_classifier

    return array_classifier.train(run, folder, noun=NOUN, extend_to=extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    from pipelines.engine.classification import array_classifier

    return array_classifier.evaluate(run, folder, noun=NOUN)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: floats in, names and probabilities out; prove that it agrees."""
    from pipelines.engine.classification import array_classifier

    return array_classifier.export(run, folder, noun=NOUN)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.engine.classification import array_classifier

    return array_classifier.convertible(run, noun=NOUN)
