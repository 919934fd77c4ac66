"""Verification: do these two pictures show the same person, one that was never trained on?"""

from pathlib import Path
from typing import Any

from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.engine.stages import Run
from pipelines.tasks.verify.config import Recipe as Recipe
from pipelines.tasks.verify.config import files_digest


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    if stage == "export":
        return {"evaluate.far": recipe.evaluate.far}  # by which the exported threshold is calibrated
    if stage != "prepare":
        return {}
    if recipe.train.loss == "none" and not recipe.model.weights:  # here, so that such a recipe can still be shown
        raise Fault("model.weights is required with train.loss: none, which does not train; --set model.weights=FILE")
    if recipe.data.align and recipe.data.align.by != "opencv" and not recipe.data.align.found.exists():
        raise Fault(f"data.align.path must exist, got {recipe.data.align.path}")
    return {"files": source_files.digest_with_further_data(recipe.data, files_digest)}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.verify import model

    model.check(recipe)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split by people and record the pictures."""
    from pipelines.tasks.verify import dataset

    return dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.verify import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras`, pictures to embeddings, and `matcher.keras`, which compares two."""
    from pipelines.tasks.verify import training

    return training.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Calibrate the threshold on the validation people, measure on the test people, say which requirements failed."""
    from pipelines.tasks.verify import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: pictures to embeddings, pairs to answers; prove that it agrees."""
    from pipelines.tasks.verify import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.verify import formats

    return formats.convertible(run)
