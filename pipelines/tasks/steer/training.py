"""Training: the weights of a network that steers, and how far its own certainty is to be trusted."""

from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.losses import mixture_density
from pipelines.data import image_dataset
from pipelines.engine.regression import training as regression_training
from pipelines.engine.stages import Run
from pipelines.engine.training.task_training import Training
from pipelines.plots import annotate, image_grid
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model

DRAWN = 16  # augmented pictures on the sheet


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how sure it may be of its answers."""
    model, facts = regression_training.train(run, folder, extend_to, draw=_draw_augmented, **_arguments(run))
    validation = image_dataset.validation_split(run.facts("prepare"))
    batches = dataset.examples(run, validation).batch(run.recipe.train.batch_size)
    y, truth = steer_model.numbers(model, batches, run.recipe.controls)
    scales = {}
    for part, (name, scale) in zip(steer_model.parts(y, len(truth)), _scales(run).items(), strict=True):
        spread, _ = mixture_density.fit_spread(part, truth[name] - scale.centre, unit=scale.unit)
        run.console.print(f"          on the {validation} split: predicted σ of the {name} scaled by {spread:.2f}")
        scales[name] = scale._replace(spread=spread)._asdict()
    return {**facts, "scales": scales}


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return regression_training.inputs(run, **_arguments(run))


def _arguments(run: Run) -> dict[str, Any]:
    return {
        "example": dataset.example(run),
        "assembled": steer_model.assemble,
        "objective": steer_model.objective(_scales(run), run.recipe.train.loss),
    }


def _scales(run: Run) -> dict[str, steer_model.Scale]:
    return {name: steer_model.scale(run.facts("prepare"), name) for name in run.recipe.controls}


def _draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """Frames of the training split as training may see them, with their angles."""
    pictures, titles = [], []
    for row, example in enumerate(dataset.examples(run, "train").take(DRAWN)):
        sample = augmented(
            {key: example[key] for key in dataset.example(run).keys}, np.array([run.recipe.seed, row], np.int32)
        )
        angle = float(sample["angle"])
        picture = annotate.draw_steering(sample["image"].numpy(), truth=angle)
        pictures.append(annotate.beside(picture, sample["route"].numpy()) if "route" in sample else picture)
        titles.append(f"{angle:+.2f}")
    image_grid.contact_sheet(pictures, titles, path, columns=4, size=2.4)
