"""Segmentation: what does each pixel, or each voxel, show?"""

from pathlib import Path
from typing import Any

from pipelines.data import source_files
from pipelines.data.schema import flatten
from pipelines.engine.stages import Run
from pipelines.tasks.segment.config import Recipe as Recipe
from pipelines.tasks.segment.config import files_digest


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"files": source_files.digest_with_further_data(recipe.data, files_digest)}
        case "export" if recipe.export.crops and recipe.evaluate.crops:
            return flatten({"crops": recipe.evaluate.crops.model_dump()})
        case _:
            return {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.segment import model, training

    training.augmentation(recipe, lambda: [])
    model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures with masks for `cnn augment`."""
    from pipelines.tasks.segment import dataset

    return dataset.samples(recipe.data, count, seed=recipe.seed)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and write the pictures or volumes and their masks; fit the normalisation."""
    from pipelines.tasks.segment import dataset

    return dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.segment import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from pipelines.tasks.segment import training

    return training.train(run, folder, extend_to=extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the segmenter on the test split, beside what a pixel's own value tells; say which requirements failed."""
    from pipelines.tasks.segment import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: a picture in, a mask of its size and its legend out; prove that it agrees."""
    from pipelines.tasks.segment import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.segment import formats

    return formats.convertible(run)
