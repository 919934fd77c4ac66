"""How a segmenter is trained: batches of pictures or patches with their masks, networks one after the other.

FCN-16s starts from the weights of FCN-32s, and FCN-8s from those of FCN-16s: `train.before` names what is trained
first. Each is a training of its own, in a folder of its own, so that any goes on where it was interrupted.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data import array_dataset
from cnn_keras.data.patches import Store
from cnn_keras.data.transforms import augment, deferred
from cnn_keras.errors import Fault, check_arguments
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, fit
from pipelines.plots import overlays
from pipelines.tasks.segment import dataset, records
from pipelines.tasks.segment import model as segment_model
from pipelines.tasks.segment.config import Train

DRAWN = 12  # augmented pictures on the sheet


def train(run: Run, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Train what is to be trained before, and then the network of the recipe; leave `model.keras` of each."""
    run = precision_choice.settled(run, folder)
    settings: Train = run.recipe.train
    trainer.set_up(run.recipe.seed, settings)
    store, augmented = _held(run), _augmented(run)
    training, model, done = _inputs(run, store, augmented), None, 0
    for before in settings.before:
        place = folder / before.builder
        place.mkdir(exist_ok=True)
        part = settings.model_copy(update={"epochs": before.epochs, "patience": None})
        model = _begun(run, before.builder, model)
        history = fit(run, training, training.compiled(model, part), part, place, done=done)
        trainer.conclude(model, history, part, place, console=run.console, metric="mean_iou")
        done += before.epochs
    model = _begun(run, run.recipe.model.builder, model)
    _draw_augmented(run, model, folder / "augmented.png", stored=store, augmented=augmented)
    history = fit(run, training, training.compiled(model, settings), settings, folder, done=done, extend_to=extend_to)
    return trainer.conclude(model, history, settings, folder, console=run.console, metric="mean_iou")


def inputs(run: Run) -> Training:
    """What the training of the recipe's network needs, from fresh weights."""
    return _inputs(run, _held(run), _augmented(run))


def _inputs(run: Run, store: Store | None, augmented: Any) -> Training:
    """What the training of any network of the recipe needs."""
    recipe, data = run.recipe, run.facts("prepare")
    count = data["splits"]["train"] if store is None else records.per_epoch(recipe, store)

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        trained = segment_model.trainable(model, settings.loss, pixels=data["pixels"]["train"])
        trainer.compile_model(trained, settings, loss=None, metrics=None, steps=-(-count // settings.batch_size))
        return trained

    def batches(model: keras.Model, epochs: range) -> tf.data.Dataset:
        patches = segment_model.patches_of(model, recipe.data)
        examples = records.training(run, epochs, augmented, patches=patches, stored=store, share=run.share)
        return examples.map(segment_model.model_inputs)

    def validation(model: keras.Model) -> tf.data.Dataset:
        split, patches = image_dataset.validation_split(data), segment_model.patches_of(model, recipe.data)
        return records.ordered_batches(run, split, patches=patches).map(segment_model.model_inputs)

    return Training(
        assembled=lambda: segment_model.assemble(recipe, data, builder=recipe.model.builder),
        compiled=compiled,
        batches=batches,
        validation=validation,
        examples=count,
        noun="window" if store is not None else dataset.noun(recipe.data),
        before=recipe.train.before_epochs,
    )


def _held(run: Run) -> Store | None:
    """The training split in memory where patches are drawn from it."""
    return records.store(run, "train") if run.recipe.data.fit == "patch" else None


def _augmented(run: Run) -> Any:
    return augmentation(run.recipe, lambda: (example.image[None] for example in records.of_run(run, "train")))


def augmentation(recipe: Any, images: Callable[[], Iterable[Any]]) -> Any:
    """What moves a picture or volume and its mask as the recipe says; None for nothing.

    Args:
        images: opens a pass over the training split, for what is fitted on it.

    Raises:
        Fault: what mixes pictures, or is for pictures where there are volumes.
    """
    if recipe.data.axes == 2:
        fitted, size = augment.fit(recipe.augment, images), recipe.data.size
        composed = augment.compose(recipe.augment, size=size, fitted=fitted, on=recipe.train.augment_on)
        if composed is not None and composed.mixes:
            raise Fault(
                "augment must not mix images, because masks cannot be mixed; leave out mixup, cutmix and mosaic"
            )
        return composed
    if recipe.train.augment_on == "device":
        raise Fault("train.augment_on must be host for volumes, got device")
    steps = []
    for entry in recipe.augment:
        name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        if name != "move":
            raise Fault(f"augment.{name} is for pictures; for volumes use move, with jitter, scale, shift and flip")
        check_arguments(array_dataset.augment, arguments, where="augment.move")
        steps.append(arguments)
    return array_dataset.augmentation(steps, step=array_dataset.augment_with_mask)


def _begun(run: Run, builder: str, earlier: keras.Model | None) -> keras.Model:
    """A fresh model, with as much of an earlier one's weights as it has layers for."""
    recipe, data = run.recipe, run.facts("prepare")
    model = segment_model.assemble(recipe, data, builder=builder)
    fresh: list[str] = []
    if earlier is not None:
        fresh = segment_model.hand_over(segment_model.network_of(earlier), segment_model.network_of(model))
    started = f", starts from the one before but for {', '.join(fresh) or 'nothing'}" if earlier is not None else ""
    count = data["splits"]["train"]
    noun = dataset.noun(recipe.data, count)
    run.console.print(f"          {builder}: {model.count_params():,} parameters, {count:,} {noun}{started}")
    return model


def _draw_augmented(run: Run, model: keras.Model, path: Path, *, stored: Store | None, augmented: Any) -> None:
    """The first pictures or patches of the first epoch as training sees them, with their masks."""
    patches = segment_model.patches_of(model, run.recipe.data)
    batches = records.training(run, range(1), augmented, patches=patches, stored=stored)
    stream = batches.map(deferred.augmented).unbatch().take(DRAWN)
    rows = [(sample["image"], sample["mask"][..., 0].astype("int16") - 1) for sample in stream.as_numpy_iterator()]
    names = run.facts("prepare")["classes"]
    heading = f"What training sees: {'pictures' if stored is None else 'patches'} with their masks"
    overlays.sheet(rows, [""] * len(rows), path, names=names, heading=heading)
