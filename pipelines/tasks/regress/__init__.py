"""Regression: which numbers belong to this picture – an angle, an age, a count –, and how sure is that?"""

from pathlib import Path
from typing import Any

from pipelines.data import source_files
from pipelines.engine.stages import Run
from pipelines.tasks.regress.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    from pipelines.tasks.regress.config import files_digest

    return {"files": source_files.digest_with_further_data(recipe.data, files_digest)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.regress import model

    model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures for `cnn augment`."""
    from pipelines.tasks.regress import dataset

    return dataset.samples(recipe.data, count, seed=recipe.seed)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and record the images of the recipe and their numbers."""
    from pipelines.tasks.regress import dataset

    return dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.regress import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how wide its intervals are."""
    from pipelines.tasks.regress import training

    return training.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    from pipelines.tasks.regress import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, numbers and intervals out; prove that it agrees."""
    from pipelines.tasks.regress import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.regress import formats

    return formats.convertible(run)
