"""Training: the weights of a network that answers with numbers, and how wide its intervals must be."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.metrics.regression import conformal_margins
from pipelines.data import image_dataset
from pipelines.engine.regression import training as regression_training
from pipelines.engine.stages import Run
from pipelines.engine.training.task_training import Training
from pipelines.plots import image_grid
from pipelines.tasks.regress import dataset
from pipelines.tasks.regress import model as regress_model

DRAWN = 16  # augmented pictures on the sheet


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how wide its intervals are."""
    model, facts = regression_training.train(run, folder, extend_to, draw=_draw_augmented, **_arguments(run))
    margins = _margins(run, model)
    told = ", ".join(f"{margin:.2f}" for margin in margins)
    run.console.print(f"          intervals of {run.recipe.head.interval:.0%} reach {told} deviations to either side")
    return {**facts, "margins": margins}


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return regression_training.inputs(run, **_arguments(run))


def _arguments(run: Run) -> dict[str, Any]:
    recipe, data = run.recipe, run.facts("prepare")
    return {
        "example": dataset.example(data),
        "assembled": lambda recipe: regress_model.assemble(recipe, len(data["names"])),
        "objective": regress_model.objective(recipe.head, data, recipe.train.loss),
    }


def _margins(run: Run, model: keras.Model) -> list[float]:
    """How many deviations intervals must reach so that they hold their share of the validation split."""
    recipe, data = run.recipe, run.facts("prepare")
    mean, deviation = regress_model.standard(data)
    ask, scores = inference.predictor(model), []
    for batch in dataset.examples(run, image_dataset.validation_split(data)).batch(recipe.train.batch_size):
        number, scale = regress_model.decode(ask(batch["image"]), recipe.head, len(mean))
        truth = (batch[dataset.KEY].numpy() - mean) / deviation
        scores.append(np.abs(truth - number.numpy()) / scale.numpy())
    try:
        return [float(margin) for margin in conformal_margins(np.concatenate(scores), recipe.head.interval)]
    except ValueError as error:
        raise Fault(f"data.validation must hold enough images: {error}", code=Fault.DATA) from None


def _draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """Images of the training split as training may see them, with their numbers."""
    pictures, titles = [], []
    for row, example in enumerate(dataset.examples(run, "train").take(DRAWN)):
        sample = augmented({"image": example["image"]}, np.array([run.recipe.seed, row], np.int32))
        pictures.append(sample["image"].numpy())
        titles.append(dataset.described(example[dataset.KEY].numpy(), run.facts("prepare")))
    image_grid.contact_sheet(pictures, titles, path, columns=4)
