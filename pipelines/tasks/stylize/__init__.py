"""Style transfer: paint one picture with the strokes of another – slowly, pixel by pixel, or in one pass.

Two ways share the four stages, and `train.method` says which. *picture* (Gatys et al., 2016) optimises the pixels.
There is nothing to learn for next time, so `train` is the painting itself: its state is the unfinished picture, and a
killed run goes on from its last round. `evaluate` has other eyes look at it, and `export` writes the paintings as PNG
files, of a video one MP4, and a card. *network* (Johnson et al., 2016) trains a transformer on windows of photographs;
`evaluate` has it paint photographs it never saw, and `export` writes a SavedModel that takes any size and gives it
back.
"""

from pathlib import Path
from typing import Any

from pipelines.engine.stages import Run
from pipelines.tasks.stylize.config import Recipe as Recipe


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    from pipelines.tasks.stylize import extractor_choice
    from pipelines.tasks.stylize.config import files_digest

    match stage:
        case "prepare":
            return {"method": recipe.train.method, "files": files_digest(recipe.data)}
        case "train":
            extractor = extractor_choice.choose_extractor(recipe.train.loss)
            return {"extractor": f"{extractor.builder} {extractor.weights}"}
        case _:
            return {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from pipelines.tasks.stylize import model

    model.check(recipe)


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Read, check and bring to size the pictures and styles; cut windows for a network."""
    from pipelines.tasks.stylize import dataset

    recipe = run.recipe
    return dataset.prepare(recipe.data, folder, learns=recipe.learns, seed=recipe.seed, console=run.console)


def training_inputs(run: Run) -> Any:
    """What a training of the run needs; see `pipelines.engine.training.task_training`."""
    from pipelines.tasks.stylize import training

    return training.inputs(run)


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Paint the pictures, or train the network that will."""
    from pipelines.tasks.stylize import training

    return training.train(run, folder, extend_to)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Have a network that had no say look at the paintings; say which requirements failed."""
    from pipelines.tasks.stylize import report

    return report.evaluate(run, folder)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the paintings, or the SavedModel that paints; with a card."""
    from pipelines.tasks.stylize import exporter

    return exporter.export(run, folder)


def unconvertible(recipe: Recipe) -> str | None:
    """Why the network of a recipe cannot be written in another format than SavedModel; None where it can."""
    if not recipe.learns:
        return "paintings are exported here, and no network"
    return "this one takes the shares of its styles beside the picture" if len(recipe.data.styles) > 1 else None


def convertible(run: Run) -> Any:
    """What of the trained model is written in other formats: see `pipelines.export.formats`."""
    from pipelines.tasks.stylize import formats

    return formats.convertible(run)
