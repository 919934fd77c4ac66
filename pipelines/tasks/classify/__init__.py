"""Classification: which of these classes does the picture show, one of them or any number?"""

from pathlib import Path
from typing import Any

from pipelines.data import image_config, source_files
from pipelines.data.schema import flatten
from pipelines.engine.stages import Run
from pipelines.tasks.classify.config import Data
from pipelines.tasks.classify.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"files": source_files.digest_with_further_data(recipe.data, _files_digest)}
        case "export" if recipe.export.crops and recipe.evaluate.crops:
            return flatten({"crops": recipe.evaluate.crops.model_dump()})
        case "export" if recipe.export.dropout_samples:
            return {"dropout_samples": recipe.evaluate.dropout_samples}
        case _:
            return {}


def _files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read but a list of images."""
    if data.labels == "single":
        return image_config.files_digest(data)
    from pipelines.data.boxes import box_files

    return box_files.files_digest(data)  # type: ignore[arg-type]  # it has the fields that are looked at


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.classify import model

    model.check(recipe)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split and record the images of `run.recipe.data`; fit the normalisation on the training split."""
    from pipelines.data import image_dataset

    return image_dataset.prepare(run, folder)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs: see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.classify import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from pipelines.tasks.classify import training

    return training.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    from pipelines.tasks.classify import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    from pipelines.tasks.classify import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    return None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.classify import formats

    return formats.convertible(run)
