"""Training: the weights of a network that steers, and how far its own certainty is to be trusted."""

from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data import input_pipeline
from cnn_keras.data.transforms import augment
from cnn_keras.losses import mixture_density
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
from pipelines.plots import annotate, image_grid
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model

DRAWN = 16  # augmented pictures on the sheet


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how sure it may be of its answers."""
    recipe, data = run.recipe, run.facts("prepare")
    settings = recipe.train
    trainer.set_up(recipe.seed, settings)
    model, unit = steer_model.assemble(recipe), steer_model.unit(data)
    count = data["splits"]["train"]
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {count:,} images")
    augmented = augment.compose(recipe.augment, size=recipe.data.size, fitted=_fitted(run))
    if augmented is not None:
        _draw_augmented(run, augmented, folder / "augmented.png")
    trainer.compile_model(model, settings, steps=-(-count // settings.batch_size), **steer_model.objective(unit))
    validation = dataset.validation_split(data)
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=lambda epochs: _training(run, epochs, augmented),
        validation=_ordered(run, validation),
        images=count,
        console=run.console,
        on_epoch=run.on_epoch,
        extend_to=extend_to,
    )
    facts = trainer.concluded(model, history, settings, folder, console=run.console, metric="mae")
    said, angles = steer_model.numbers(model, dataset.decoded(run, validation).batch(settings.batch_size))
    spread, _ = mixture_density.fit_spread(said, angles, unit=unit)
    run.console.print(f"          on the {validation} split: predicted σ scaled by {spread:.2f}")
    return {**facts, "unit": unit, "spread": spread}


def _training(run: Run, epochs: range, augmented: Any) -> Any:
    """The training batches of these epochs: (images, angles)."""
    recipe = run.recipe
    return input_pipeline.training(
        run.finished("prepare"),
        "train",
        dataset.shape_of(recipe.data),
        count=run.facts("prepare")["splits"]["train"],
        epochs=epochs,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        augment=augmented,
        memory=int(recipe.data.memory_gb * 2**30),
        example=dataset.example(),
    )


def _ordered(run: Run, split: str) -> Any:
    """The batches of a split in their order and as they are."""
    count, size = run.facts("prepare")["splits"][split], run.recipe.train.batch_size
    shape = dataset.shape_of(run.recipe.data)
    return input_pipeline.batches(
        run.finished("prepare"), split, shape, count=count, batch_size=size, example=dataset.example()
    )


def _fitted(run: Run) -> dict[str, Any]:
    """The arguments of augmentations that are fitted on the training split."""
    return dict(augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in _ordered(run, "train"))))


def _draw_augmented(run: Run, augmented: Any, path: Path) -> None:
    """Frames of the training split as training may see them, with their angles."""
    drawn, titles = [], []
    for row, example in enumerate(dataset.decoded(run, "train").take(DRAWN)):
        seen = augmented({key: example[key] for key in ("image", "angle")}, np.array([run.recipe.seed, row], np.int32))
        angle = float(seen["angle"])
        drawn.append(annotate.steered(seen["image"].numpy(), truth=angle))
        titles.append(f"{angle:+.2f}")
    image_grid.contact_sheet(drawn, titles, path, columns=4, size=2.4)
