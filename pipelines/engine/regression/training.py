"""Training of networks that answer with numbers."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from cnn_keras.data.input_pipeline import Example
from cnn_keras.data.transforms import augment
from pipelines.data import image_dataset
from pipelines.engine.recipe import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, announce, fit, initial_model

Draw = Callable[[Run, Any, Path], None]  # a sheet of examples as an augmentation leaves them
Assembled = Callable[[Any], keras.Model]  # the network of a recipe


def train(
    run: Run,
    folder: Path,
    extend_to: int | None,
    *,
    example: Example,
    assembled: Assembled,
    objective: Mapping[str, Any],
    draw: Draw,
) -> tuple[keras.Model, dict[str, Any]]:
    """Find the weights; leave `model.keras` with those of the best epoch. Returns the model and the facts."""
    run = precision_choice.settled(run, folder)
    settings = run.recipe.train
    augmented = _augmented(run, example)
    training = _inputs(run, augmented, example, assembled, objective)
    model = initial_model(run, training)
    announce(run, training, model)
    if augmented is not None:
        draw(run, augmented, folder / "augmented.png")
    history = fit(run, training, training.compiled(model, settings), settings, folder, extend_to=extend_to)
    return model, trainer.conclude(model, history, settings, folder, console=run.console, metric="mae")


def inputs(run: Run, *, example: Example, assembled: Assembled, objective: Mapping[str, Any]) -> Training:
    """What a training of the run needs.

    Args:
        example: what a record holds.
        objective: the loss and the metrics that Keras compiles with.
    """
    return _inputs(run, _augmented(run, example), example, assembled, objective)


def _inputs(run: Run, augmented: Any, example: Example, assembled: Assembled, objective: Mapping[str, Any]) -> Training:
    recipe, data = run.recipe, run.facts("prepare")
    count, shape = data["splits"]["train"], image_dataset.shape_of(recipe.data)
    memory = int(recipe.data.memory_gb * 2**30)

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        trainer.compile_model(model, settings, steps=-(-count // settings.batch_size), **objective)
        return model

    def batches(model: keras.Model, epochs: range) -> Any:
        return image_dataset.training_batches(run, epochs, augmented, shape, memory=memory, example=example)

    return Training(
        assembled=lambda: assembled(recipe),
        compiled=compiled,
        batches=batches,
        validation=lambda model: _ordered(run, image_dataset.validation_split(data), example),
        examples=count,
    )


def _ordered(run: Run, split: str, example: Example) -> Any:
    """The batches of a split in their order and as they are."""
    return image_dataset.ordered_batches(run, split, image_dataset.shape_of(run.recipe.data), example=example)


def _augmented(run: Run, example: Example) -> Any:
    """The augmentation of the recipe, with what it takes from the training split."""
    recipe = run.recipe

    def images() -> Iterator[Any]:
        for inputs, _ in _ordered(run, "train", example):
            yield (inputs["image"] if isinstance(inputs, dict) else inputs).numpy()

    fitted = augment.fit(recipe.augment, images)
    return augment.compose(recipe.augment, size=recipe.data.size, fitted=dict(fitted), on=recipe.train.augment_on)
