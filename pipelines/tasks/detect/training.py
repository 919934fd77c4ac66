"""How a detector is trained: batches of pictures with their boxes, the loss of its family, each term a metric."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras import plugins
from cnn_keras.data.transforms import augment
from pipelines.data import image_dataset
from pipelines.data.boxes import box_batches
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer, transfer
from pipelines.engine.training.task_training import Training, announce, initial_model
from pipelines.tasks.detect.config import Train
from pipelines.tasks.detect.model import assemble, family, inputs_for, knows_masks, network_of, shares


def train(run: Run, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    run = precision_choice.settled(run, folder)
    augmentation = _augmentation(run)
    training = _inputs(run, augmentation)
    model = initial_model(run, training)
    announce(run, training, model)
    if augmentation is not None:
        box_batches.draw_augmented(run, augmentation, folder / "augmented.png")
    history = transfer.train(run, training, model, folder, extend_to=extend_to)
    return trainer.conclude(model, history, run.recipe.train, folder, console=run.console)


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return _inputs(run, _augmentation(run))


def _inputs(run: Run, augmentation: Any) -> Training:
    recipe, data = run.recipe, run.facts("prepare")
    count, sides = data["splits"]["train"], (None, None) if recipe.train.sides else recipe.data.size

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        detector = trainable(model, recipe.model.builder, size=recipe.data.size, own_loss=settings.loss)
        steps = -(-count // settings.batch_size)
        trainer.compile_model(detector, settings, loss=None, metrics=None, steps=steps, shares=shares(recipe, model))
        return detector

    def validation(model: keras.Model) -> tf.data.Dataset:
        return box_batches.ordered_batches(run, image_dataset.validation_split(data)).map(inputs_and_truth(model))

    return Training(
        assembled=lambda: assemble(recipe, data, sides=sides),
        compiled=compiled,
        batches=lambda model, epochs: batches(run, epochs, augmentation).map(inputs_and_truth(model)),
        validation=validation,
        examples=count,
    )


def _augmentation(run: Run) -> Any:
    recipe, fitted = run.recipe, box_batches.fitted_arguments(run)
    return augment.compose(recipe.augment, size=recipe.data.size, fitted=fitted, on=recipe.train.augment_on)


def batches(run: Run, epochs: range, augmentation: Any) -> tf.data.Dataset:
    """The training batches of these epochs, each at one of `train.sides` and with `train.regions` of the proposals."""
    stream, settings, seed = box_batches.training(run, epochs, augmentation), run.recipe.train, run.recipe.seed
    first = epochs.start * -(-run.facts("prepare")["splits"]["train"] // settings.batch_size)
    if settings.sides:
        stream = stream.enumerate(first).map(partial(resize_batch, sides=settings.sides, seed=seed))
    if settings.regions:
        stream = stream.enumerate(first).map(partial(fewer, regions=settings.regions, seed=seed))
    return stream


def inputs_and_truth(model: keras.Model) -> Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]:
    """A map from batches of {"image", "boxes", "classes", …} to what `fit` takes: the model's inputs, and the truth."""

    def apply(batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        truth: dict[str, Any] = {name: batch[name] for name in ("boxes", "classes", "mask") if name in batch}
        return inputs_for(model, batch["image"], batch["boxes"], batch.get("proposals")), truth

    return apply


def resize_batch(place: Any, batch: dict[str, Any], *, sides: Sequence[int], seed: int) -> dict[str, Any]:
    """The batch with its images at one of the sides, drawn for the `place` of the batch in the training."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1], tf.int32), tf.cast(place, tf.int32))
    side = tf.gather(list(sides), tf.random.stateless_uniform([], key, 0, len(sides), tf.int32))
    images = tf.image.resize(batch["image"], tf.stack([side, side]), antialias=True)
    return {**batch, "image": tf.saturate_cast(tf.round(images), tf.uint8)}


def fewer(place: Any, batch: dict[str, Any], *, regions: int, seed: int) -> dict[str, Any]:
    """The batch with so many of its proposals, drawn for the `place` of the batch in the training."""
    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 2], tf.int32), tf.cast(place, tf.int32))
    chance = tf.random.stateless_uniform(tf.shape(batch["proposals"])[:2], key)
    real = tf.reduce_any(batch["proposals"] != 0, axis=-1)  # padding comes last
    _, rows = tf.math.top_k(chance + tf.cast(real, tf.float32), tf.minimum(regions, tf.shape(chance)[1]))
    return {**batch, "proposals": tf.gather(batch["proposals"], rows, batch_dims=1)}


def trainable(model: keras.Model, builder: str, *, size: tuple[int, int], own_loss: str | None = None) -> keras.Model:
    """The same layers as a model whose loss is the family's or one's own, each of its terms a metric of the epoch.

    `size` is that of an image on which the names of the terms are found out.
    """
    loss, network = plugins.load(own_loss) if own_loss else family(builder).loss, network_of(model)
    no_boxes, black = tf.zeros([1, 1, 4]), tf.zeros([1, *size, 3], tf.uint8)
    truth = {"boxes": no_boxes, "classes": tf.zeros([1, 1], tf.int64)}
    truth |= {"mask": tf.zeros([1, *size, 1], tf.uint8)} if knows_masks(builder) else {}
    names = list(loss(network, model(inputs_for(model, black)), **truth))

    class Training(keras.Model):
        """Inputs and outputs of the detector; the truth comes as {"boxes", "classes"}, and "mask" if it knows masks."""

        def __init__(self) -> None:
            super().__init__(model.input, model.output, name=model.name)
            self.terms = {name: keras.metrics.Mean(name=f"{name}_loss") for name in names}

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            terms = loss(network, y_pred, **y)
            for name, term in terms.items():
                self.terms[name].update_state(term)
            return tf.add_n(list(terms.values()))

    return Training()
