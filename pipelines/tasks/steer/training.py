"""Training: the weights of a network that steers, and how far its own certainty is to be trusted."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras.data.transforms import augment
from cnn_keras.losses import mixture_density
from pipelines.data import image_dataset
from pipelines.engine.recipe import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, announce, fit, initial_model
from pipelines.plots import annotate, image_grid
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model

DRAWN = 16  # augmented pictures on the sheet


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how sure it may be of its answers."""
    run = precision_choice.settled(run, folder)
    data, settings = run.facts("prepare"), run.recipe.train
    augmented, unit = _augmented(run), steer_model.unit(data)
    training = _inputs(run, augmented)
    model = initial_model(run, training)
    announce(run, training, model)
    if augmented is not None:
        _draw_augmented(run, augmented, folder / "augmented.png")
    history = fit(run, training, training.compiled(model, settings), settings, folder, extend_to=extend_to)
    facts = trainer.conclude(model, history, settings, folder, console=run.console, metric="mae")
    validation = dataset.validation_split(data)
    parameters, angles = steer_model.numbers(model, dataset.examples(run, validation).batch(settings.batch_size))
    spread, _ = mixture_density.fit_spread(parameters, angles, unit=unit)
    run.console.print(f"          on the {validation} split: predicted σ scaled by {spread:.2f}")
    return {**facts, "unit": unit, "spread": spread}


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return _inputs(run, _augmented(run))


def _inputs(run: Run, augmented: Any) -> Training:
    data = run.facts("prepare")
    count, unit = data["splits"]["train"], steer_model.unit(data)

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        steps = -(-count // settings.batch_size)
        trainer.compile_model(model, settings, steps=steps, **steer_model.objective(unit, run.recipe.train.loss))
        return model

    return Training(
        assembled=lambda: steer_model.assemble(run.recipe),
        compiled=compiled,
        batches=lambda model, epochs: _training(run, epochs, augmented),
        validation=lambda model: _ordered(run, dataset.validation_split(data)),
        examples=count,
    )


def _augmented(run: Run) -> Any:
    """The augmentation of the recipe, with what it takes from the training split."""
    return augment.compose(run.recipe.augment, size=run.recipe.data.size, fitted=_fitted(run))


def _training(run: Run, epochs: range, augmented: Any) -> Any:
    """The training batches of these epochs: (images, angles)."""
    data = run.recipe.data
    memory = int(data.memory_gb * 2**30)
    return image_dataset.training_batches(
        run, epochs, augmented, dataset.shape_of(data), memory=memory, example=dataset.example()
    )


def _ordered(run: Run, split: str) -> Any:
    """The batches of a split in their order and as they are."""
    return image_dataset.ordered_batches(run, split, dataset.shape_of(run.recipe.data), example=dataset.example())


def _fitted(run: Run) -> dict[str, Any]:
    """The arguments of augmentations that are fitted on the training split."""
    return dict(augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in _ordered(run, "train"))))


def _draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """Frames of the training split as training may see them, with their angles."""
    pictures, titles = [], []
    for row, example in enumerate(dataset.examples(run, "train").take(DRAWN)):
        sample = augmented(
            {key: example[key] for key in ("image", "angle")}, np.array([run.recipe.seed, row], np.int32)
        )
        angle = float(sample["angle"])
        pictures.append(annotate.draw_steering(sample["image"].numpy(), truth=angle))
        titles.append(f"{angle:+.2f}")
    image_grid.contact_sheet(pictures, titles, path, columns=4, size=2.4)
