"""Training of classification: the batches, augmented, and what else `classifier` wants to know."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.transforms import augment
from pipelines.data import image_dataset
from pipelines.engine.classification import classifier, ensemble
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice
from pipelines.engine.training.task_training import Training
from pipelines.plots import image_grid
from pipelines.tasks.classify.dataset import ordered_batches
from pipelines.tasks.classify.model import assemble

PLAIN = 4  # batches that are timed without augmentation


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    run = precision_choice.settled(run, folder)
    augmented = _augmented(run)
    if augmented is not None:
        shape = image_dataset.shape_of(run.recipe.data)
        _draw_augmented(folder, run.finished("prepare"), shape, augmented, run.recipe.seed)
    return ensemble.train(run, folder, _inputs(run, augmented), extend_to=extend_to)


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return _inputs(run, _augmented(run))


def _inputs(run: Run, augmented: Any) -> Training:
    recipe, data = run.recipe, run.facts("prepare")
    shape = image_dataset.shape_of(recipe.data)
    memory = int(recipe.data.memory_gb * 2**30)

    def batches(epochs: range) -> Any:
        classes = len(data["classes"])
        return image_dataset.training_batches(run, epochs, augmented, shape, memory=memory, classes=classes)

    def plain() -> Any:
        streamed = data["splits"]["train"] * math.prod((*shape.size, shape.channels)) > memory
        if streamed:
            return ordered_batches(run, "train").repeat()
        plain_batches = ordered_batches(run, "train").take(PLAIN).cache().repeat()
        return plain_batches.map(
            lambda images, labels: (tf.reverse(images, [0]), labels)
        )  # copied, as `input_pipeline.training` does

    return classifier.training(
        run,
        assembled=lambda: assemble(recipe, data, run.finished("prepare")),
        batches=batches,
        validation=ordered_batches(run, image_dataset.validation_split(data)),
        plain=plain,
        ordered=partial(ordered_batches, run),
    )


def _augmented(run: Run) -> Any:
    """The augmentation of the recipe, with what it takes from the training split, such as the axes of its colours."""
    fitted = augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in ordered_batches(run, "train")))
    recipe = run.recipe
    return augment.compose(recipe.augment, size=recipe.data.size, fitted=fitted, on=recipe.train.augment_on)


def _draw_augmented(folder: Path, prepared: Path, shape: Shape, augmented: Any, seed: int) -> None:
    """A sheet with one picture per row: as it is, then as training may see it."""
    augmented_shape = shape._replace(size=augmented.source or shape.size)
    sample = input_pipeline.arrays(prepared, "train", augmented_shape, limit=6)
    rows = []
    for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True)):
        samples = [augmented({"image": image}, [seed + row, number])["image"].numpy() for number in range(9)]
        rows.append((str(name), [image, *samples]))
    image_grid.augmentation_sheet(rows, folder / "augmented.png")
