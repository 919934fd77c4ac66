"""Steering: which angle of the wheel belongs to this view of the road, and how sure is that?"""

from pathlib import Path
from typing import Any

from pipelines.engine.stages import Run
from pipelines.tasks.steer.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    from pipelines.tasks.steer.config import files_digest

    return {"files": files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.steer import model

    model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Frames with angles for `cnn augment`."""
    from pipelines.tasks.steer import dataset

    return dataset.samples(recipe.data, count, seed=recipe.seed)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split by time and record the drives of the recipe."""
    from pipelines.tasks.steer import dataset

    return dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.steer import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how sure it may be of its answers."""
    from pipelines.tasks.steer import training

    return training.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the last block of time, then let it drive; say which requirements failed."""
    from pipelines.tasks.steer import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, an angle and its interval out; prove that it agrees."""
    from pipelines.tasks.steer import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return "data.route gives it a second input" if recipe.data.route else None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.steer import formats

    return formats.convertible(run)
