"""Training: pictures painted one by one, or the network that paints in one pass trained."""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data import records
from cnn_keras.data.input_pipeline import Example, Shape
from cnn_keras.data.transforms import augment
from pipelines.data import image_dataset, run_files
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, announce, fit, initial_model
from pipelines.tasks.stylize import dataset, feature_extractor
from pipelines.tasks.stylize.config import Recipe, Train
from pipelines.tasks.stylize.model import assemble, styles_of, trainable
from pipelines.tasks.stylize.optimization import runner


def train(run: Run, folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Paint the pictures, or train the network that will."""
    return _learn(run, folder, extend_to) if run.recipe.learns else _paint(run, folder)


def _paint(run: Run, folder: Path) -> dict[str, Any]:
    recipe, prepared = run.recipe, run.finished("prepare")
    trainer.set_up(recipe.seed, recipe.train)
    objective, _ = feature_extractor.objective_of(recipe.train.loss, prepared, console=run.console)
    painter = runner.painter_of(recipe.data, prepared, recipe.train, objective, seed=recipe.seed)
    pictures = dataset.contents(prepared)
    video = run.facts("prepare")["kind"] == "video"
    rows = runner.paint(painter, pictures, folder, console=run.console, on_round=run.on_epoch, video=video)
    runner.write_history(rows, folder / "history.csv")
    runner.draw_history(rows, folder / "curves.png")
    paths = sorted((folder / runner.PAINTINGS).glob("*.png"))
    return {"digest": run_files.digest([run_files.file_digest(path) for path in paths]), "paintings": len(paths)}


def _learn(run: Run, folder: Path, extend_to: int | None) -> dict[str, Any]:
    run = precision_choice.settled(run, folder)
    settings, training = run.recipe.train, inputs(run)
    model = initial_model(run, training)
    announce(run, training, model)
    history = fit(run, training, training.compiled(model, settings), settings, folder, extend_to=extend_to)
    return trainer.conclude(model, history, settings, folder, console=run.console, metric="style")


def inputs(run: Run) -> Training:
    """What the training of a network needs."""
    recipe, prepared, count = run.recipe, run.finished("prepare"), run.facts("prepare")["splits"]["train"]
    augmented = augment.compose(recipe.augment, size=(recipe.data.window, recipe.data.window))

    @cache
    def objective() -> Any:
        return feature_extractor.objective_of(recipe.train.loss, prepared, console=run.console)[0]

    def assembled() -> keras.Model:
        objective()  # first: its extractor may be drawn from the same seed
        return assemble(recipe)

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        network = trainable(model, objective(), styles_of(objective(), prepared))
        steps = -(-count // settings.batch_size)
        trainer.compile_model(network, settings, loss=None, metrics=None, steps=steps)
        return network

    return Training(
        assembled=assembled,
        compiled=compiled,
        batches=lambda model, epochs: _batches(run, epochs, augmented),
        validation=lambda model: _validation(run),
        examples=count,
        noun="window",
    )


def _batches(run: Run, epochs: range, augmented: Any) -> tf.data.Dataset:
    """The training batches of these epochs: (inputs, pictures)."""
    recipe, count = run.recipe, run.facts("prepare")["splits"]["train"]
    stream = image_dataset.training_batches(run, epochs, augmented, _shape(recipe), example=_pictures())
    return _with_styles(stream, recipe, first=epochs.start * -(-count // recipe.train.batch_size))


def _validation(run: Run) -> tf.data.Dataset:
    """The validation pictures, the same with the same styles each time."""
    batches = image_dataset.ordered_batches(run, "validation", _shape(run.recipe), example=_pictures())
    return _with_styles(batches, run.recipe, first=0)


def _shape(recipe: Recipe) -> Shape:
    return Shape((recipe.data.window, recipe.data.window), 3)


def _pictures() -> Example:
    return Example(records.FEATURES, ("image",), lambda record: record["image"])


def _with_styles(stream: tf.data.Dataset, recipe: Recipe, *, first: int) -> tf.data.Dataset:
    """(inputs, pictures): with several styles each picture is given one, drawn for its place in the training."""
    count = len(recipe.data.styles)
    if count == 1:
        return stream.map(lambda images: (images, images))

    def with_style(place: Any, images: Any) -> tuple[dict[str, Any], Any]:
        key = tf.random.experimental.stateless_fold_in(
            tf.constant([recipe.seed, 2], tf.int32), tf.cast(place, tf.int32)
        )
        styles_drawn = tf.random.stateless_uniform([tf.shape(images)[0]], key, 0, count, tf.int32)
        return {"image": images, "style": tf.one_hot(styles_drawn, count)}, images

    return stream.enumerate(first).map(with_style)
