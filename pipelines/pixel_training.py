"""How a segmenter is trained: batches of pictures or patches with their masks, networks one after the other.

FCN-16s starts from the weights of FCN-32s, and FCN-8s from those of FCN-16s: `train.before` names what is trained
first. Each is a training of its own, in a folder of its own, so that any goes on where it was interrupted.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_keras.fault import Fault
from pipelines import maps, masked, segmenter
from pipelines.recipe import Train

if TYPE_CHECKING:
    import keras

    from cnn_keras.data.patches import Store
    from pipelines.fit import Row
    from pipelines.stages import Run

DRAWN = 12  # augmented pictures on the sheet


def train(run: "Run", folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Train what is to be trained before, and then the network of the recipe; leave `model.keras` of each."""
    from pipelines import fit

    recipe = run.recipe
    settings: segmenter.Train = recipe.train
    fit.set_up(recipe.seed, settings)
    held = maps.store(run, "train") if recipe.data.fit == "patch" else None
    augmented = augmentation(recipe, lambda: (one.image[None] for one in maps.of_run(run, "train")))
    model, done = None, 0
    for before in settings.before:
        place = folder / before.builder
        place.mkdir(exist_ok=True)
        part = settings.model_copy(update={"epochs": before.epochs, "patience": None})
        model = _begun(run, before.builder, model)
        history = _fitted(run, model, part, place, held=held, augmented=augmented, done=done)
        fit.concluded(model, history, part, place, console=run.console, metric="mean_iou")
        done += before.epochs
    model = _begun(run, recipe.model.builder, model)
    _draw_augmented(run, model, folder / "augmented.png", held=held, augmented=augmented)
    history = _fitted(run, model, settings, folder, held=held, augmented=augmented, done=done, extend_to=extend_to)
    return fit.concluded(model, history, settings, folder, console=run.console, metric="mean_iou")


def augmentation(recipe: Any, images: Callable[[], Iterable[Any]]) -> Any:
    """What moves a picture or volume and its mask as the recipe says; None for nothing.

    Args:
        images: opens a pass over the training split, for what is fitted on it.

    Raises:
        Fault: what mixes pictures, or is for pictures where there are volumes.
    """
    from cnn_keras.data import augment, grids
    from cnn_keras.fault import check_arguments

    if recipe.data.axes == 2:
        composed = augment.compose(recipe.augment, size=recipe.data.size, fitted=augment.fit(recipe.augment, images))
        if composed is not None and composed.mixes:
            raise Fault("augment must not mix pictures, whose masks cannot follow; leave out mixup, cutmix and mosaic")
        return composed
    steps = []
    for entry in recipe.augment:
        name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
        if name != "move":
            raise Fault(f"augment.{name} is for pictures; of volumes there is move, with jitter, scale, shift and flip")
        check_arguments(grids.moved, arguments, where="augment.move")
        steps.append(arguments)
    return grids.augmentation(steps, step=grids.moved_together)


def _begun(run: "Run", builder: str, earlier: "keras.Model | None") -> "keras.Model":
    """A fresh model, with as much of an earlier one's weights as it has layers for."""
    recipe, data = run.recipe, run.facts("prepare")
    model = segmenter.assemble(recipe, data, builder=builder)
    fresh: list[str] = []
    if earlier is not None:
        fresh = segmenter.hand_over(segmenter.network_of(earlier), segmenter.network_of(model))
    started = f", starts from the one before but for {', '.join(fresh) or 'nothing'}" if earlier is not None else ""
    count = data["splits"]["train"]
    noun = masked.noun(recipe.data, count)
    run.console.print(f"          {builder}: {model.count_params():,} parameters, {count:,} {noun}{started}")
    return model


def _fitted(
    run: "Run",
    model: "keras.Model",
    settings: Train,
    folder: Path,
    *,
    held: "Store | None",
    augmented: Any,
    done: int,
    extend_to: int | None = None,
) -> "list[Row]":
    """Train one of the networks; `done` epochs are behind it."""
    from pipelines import fit

    recipe, data = run.recipe, run.facts("prepare")
    patches = segmenter.patches_of(model, recipe.data)
    count = data["splits"]["train"] if held is None else maps.per_epoch(recipe, held)
    trained = segmenter.trainable(model, recipe.train.loss, pixels=data["pixels"]["train"])
    fit.compile_model(trained, settings, loss=None, metrics=None, steps=-(-count // settings.batch_size))

    def batches(epochs: range) -> Any:
        whole = range(done + epochs.start, done + epochs.stop)
        return maps.training(run, whole, augmented, patches=patches, held=held).map(segmenter.given)

    return fit.fit(
        trained,
        settings,
        folder,
        batches=batches,
        validation=maps.ordered(run, masked.validation_split(data), patches=patches).map(segmenter.given),
        images=count,
        console=run.console,
        on_epoch=lambda number, row: run.on_epoch(done + number, row),
        extend_to=extend_to,
    )


def _draw_augmented(run: "Run", model: "keras.Model", path: Path, *, held: "Store | None", augmented: Any) -> None:
    """The first pictures or patches of the first epoch as training sees them, with their masks."""
    from pipelines import overlays

    patches = segmenter.patches_of(model, run.recipe.data)
    stream = maps.training(run, range(1), augmented, patches=patches, held=held).unbatch().take(DRAWN)
    rows = [(one["image"], one["mask"][..., 0].astype("int16") - 1) for one in stream.as_numpy_iterator()]
    names = run.facts("prepare")["classes"]
    heading = f"What training sees: {'pictures' if held is None else 'patches'} with their masks"
    overlays.sheet(rows, [""] * len(rows), path, names=names, heading=heading)
