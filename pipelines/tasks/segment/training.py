"""How a segmenter is trained: batches of pictures or patches with their masks, networks one after the other.

FCN-16s starts from the weights of FCN-32s, and FCN-8s from those of FCN-16s: `train.before` names what is trained
first. Each is a training of its own, in a folder of its own, so that any goes on where it was interrupted.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras

from cnn_keras.data import array_dataset
from cnn_keras.data.patches import Store
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault, check_arguments
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
from pipelines.engine.training.trainer import Row
from pipelines.plots import overlays
from pipelines.tasks.segment import dataset, records
from pipelines.tasks.segment import model as segment_model
from pipelines.tasks.segment.config import Train

DRAWN = 12  # augmented pictures on the sheet


def train(run: Run, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Train what is to be trained before, and then the network of the recipe; leave `model.keras` of each."""
    recipe = run.recipe
    settings: Train = recipe.train
    trainer.set_up(recipe.seed, settings)
    held = records.store(run, "train") if recipe.data.fit == "patch" else None
    augmented = augmentation(recipe, lambda: (one.image[None] for one in records.of_run(run, "train")))
    model, done = None, 0
    for before in settings.before:
        place = folder / before.builder
        place.mkdir(exist_ok=True)
        part = settings.model_copy(update={"epochs": before.epochs, "patience": None})
        model = _begun(run, before.builder, model)
        history = _fitted(run, model, part, place, held=held, augmented=augmented, done=done)
        trainer.concluded(model, history, part, place, console=run.console, metric="mean_iou")
        done += before.epochs
    model = _begun(run, recipe.model.builder, model)
    _draw_augmented(run, model, folder / "augmented.png", held=held, augmented=augmented)
    history = _fitted(run, model, settings, folder, held=held, augmented=augmented, done=done, extend_to=extend_to)
    return trainer.concluded(model, history, settings, folder, console=run.console, metric="mean_iou")


def augmentation(recipe: Any, images: Callable[[], Iterable[Any]]) -> Any:
    """What moves a picture or volume and its mask as the recipe says; None for nothing.

    Args:
        images: opens a pass over the training split, for what is fitted on it.

    Raises:
        Fault: what mixes pictures, or is for pictures where there are volumes.
    """
    if recipe.data.axes == 2:
        composed = augment.compose(recipe.augment, size=recipe.data.size, fitted=augment.fit(recipe.augment, images))
        if composed is not None and composed.mixes:
            raise Fault(
                "augment must not mix images, because masks cannot be mixed; leave out mixup, cutmix and mosaic"
            )
        return composed
    steps = []
    for entry in recipe.augment:
        name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        if name != "move":
            raise Fault(f"augment.{name} is for pictures; of volumes there is move, with jitter, scale, shift and flip")
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


def _fitted(
    run: Run,
    model: keras.Model,
    settings: Train,
    folder: Path,
    *,
    held: Store | None,
    augmented: Any,
    done: int,
    extend_to: int | None = None,
) -> list[Row]:
    """Train one of the networks; `done` epochs are behind it."""
    recipe, data = run.recipe, run.facts("prepare")
    patches = segment_model.patches_of(model, recipe.data)
    count = data["splits"]["train"] if held is None else records.per_epoch(recipe, held)
    trained = segment_model.trainable(model, recipe.train.loss, pixels=data["pixels"]["train"])
    trainer.compile_model(trained, settings, loss=None, metrics=None, steps=-(-count // settings.batch_size))

    def batches(epochs: range) -> Any:
        whole = range(done + epochs.start, done + epochs.stop)
        return records.training(run, whole, augmented, patches=patches, held=held).map(segment_model.given)

    return trainer.fit(
        trained,
        settings,
        folder,
        batches=batches,
        validation=records.ordered(run, image_dataset.validation_split(data), patches=patches).map(segment_model.given),
        images=count,
        console=run.console,
        on_epoch=lambda number, row: run.on_epoch(done + number, row),
        extend_to=extend_to,
    )


def _draw_augmented(run: Run, model: keras.Model, path: Path, *, held: Store | None, augmented: Any) -> None:
    """The first pictures or patches of the first epoch as training sees them, with their masks."""
    patches = segment_model.patches_of(model, run.recipe.data)
    stream = records.training(run, range(1), augmented, patches=patches, held=held).unbatch().take(DRAWN)
    rows = [(one["image"], one["mask"][..., 0].astype("int16") - 1) for one in stream.as_numpy_iterator()]
    names = run.facts("prepare")["classes"]
    heading = f"What training sees: {'pictures' if held is None else 'patches'} with their masks"
    overlays.sheet(rows, [""] * len(rows), path, names=names, heading=heading)
