"""Detection: which things are in the picture, and where?"""

from pathlib import Path
from typing import Any

from pipelines.data import source_files
from pipelines.data.schema import flatten
from pipelines.tasks.detect.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    from pipelines.data.boxes import box_files

    match stage:
        case "prepare":
            return {"files": source_files.digest_with_further_data(recipe.data, box_files.files_digest)}
        case "export" if recipe.export.crops and recipe.evaluate.crops:
            return flatten({"crops": recipe.evaluate.crops.model_dump()})
        case _:
            return {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.detect import model

    model.check(recipe)


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures with boxes for `cnn augment`."""
    from pipelines.data.boxes import box_dataset

    return box_dataset.samples(recipe.data, count, seed=recipe.seed)


def prepare(run: Any, folder: Path) -> dict[str, Any]:
    """Validate, split, cut into tiles and record the images and their boxes; find anchors."""
    from pipelines.data.boxes import box_dataset

    return box_dataset.prepare(run, folder)


def training_inputs(run: Any) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.detect import training

    return training.inputs(run)


def train(run: Any, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from pipelines.tasks.detect import training

    return training.train(run, folder, extend_to=extend_to)


def evaluate(run: Any, folder: Path) -> dict[str, Any]:
    """Measure the detector on the test split as COCO and VOC do; say which requirements failed."""
    from pipelines.tasks.detect import report

    return report.evaluate(run, folder)


def export(run: Any, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, named boxes out; prove that it agrees."""
    from pipelines.tasks.detect import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    if recipe.data.tile:
        return "this detector reads photographs in tiles"
    if recipe.data.proposals or recipe.data.masks or recipe.model.builder.startswith("rcnn."):
        return f"{recipe.model.builder} takes regions, or proposes and suppresses some in its middle"
    return None


def convertible(run: Any) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.detect import formats

    return formats.convertible(run)
