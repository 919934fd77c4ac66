"""Localisation: which one thing is in the picture, where is it, and where are its landmarks?"""

from pathlib import Path
from typing import Any

from pipelines.data import source_files
from pipelines.tasks.localize.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    from pipelines.data.boxes import box_files

    digest = box_files.files_digest
    return {"files": source_files.digest_with_further_data(recipe.data, digest)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.localize import model

    model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures with boxes for `cnn augment`."""
    from pipelines.data.boxes import box_dataset

    return box_dataset.samples(recipe.data, count, seed=recipe.seed)


def prepare(run: Any, folder: Path) -> dict[str, Any]:
    """Validate, split and record the images, their boxes and landmarks."""
    from pipelines.data.boxes import box_dataset

    return box_dataset.prepare(run, folder)


def training_inputs(run: Any) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.localize import training

    return training.inputs(run)


def train(run: Any, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from pipelines.tasks.localize import training

    return training.train(run, folder, extend_to=extend_to)


def evaluate(run: Any, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside an answer that never changes; say which requirements failed."""
    from pipelines.tasks.localize import report

    return report.evaluate(run, folder)


def export(run: Any, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, pixels and names out; prove that it agrees."""
    from pipelines.tasks.localize import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Any) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.localize import formats

    return formats.convertible(run)
