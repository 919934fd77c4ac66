"""Classification: which of these classes does the picture show?"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import field_validator, model_validator

from pipelines.analysis import visualize as insight
from pipelines.data import image_config, image_dataset
from pipelines.data.image_config import Data
from pipelines.data.image_dataset import prepare as prepare  # the first of the four verbs
from pipelines.data.schema import Section, flatten
from pipelines.engine import classifier, classifier_config, ensemble, ensemble_gain
from pipelines.engine import recipe as recipes
from pipelines.engine.classifier import Training
from pipelines.engine.recipe import Model, Train, Tune
from pipelines.export import savedmodel

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cnn_keras.data.input_pipeline import Shape
    from pipelines.engine.stages import Run


PLAIN = 4  # batches that are timed without augmentation


class Crops(Section):
    """Views of an image, probabilities averaged; see `ops.test_time_augmentation`. A word alone is the kind."""

    kind: Literal["ten", "multiscale"]  # the corners and the middle, mirrored too, at one scale or at five
    mirror: bool = True  # false for what is not itself in a mirror, such as digits: five views instead of ten


class Evaluate(classifier_config.Evaluate):
    """What is measured of images."""

    crops: Crops | None = None  # measured beside the single view
    insight: bool = True  # draw what the units have learnt to see, and what some answers were made of
    gap: bool = False  # measure the training split too, as it is: how far the test split falls behind

    @field_validator("crops", mode="before")
    @classmethod
    def _kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given


class Export(classifier_config.Export):
    """What is exported for images."""

    crops: bool = False  # the graph looks at the crops of `evaluate.crops`


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    # what training does to each image, in order; `cnn augment` draws it
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None

    @model_validator(mode="after")
    def _crops_are_measured(self) -> Self:
        if self.export.crops and self.evaluate.crops is None:
            raise ValueError("export.crops needs evaluate.crops, which says which; set it to ten or multiscale")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"files": image_config.files_digest(recipe.data)}
        case "export" if recipe.export.crops and recipe.evaluate.crops:
            return flatten({"crops": recipe.evaluate.crops.model_dump()})
        case _:
            return {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from cnn_keras.data.transforms import augment

    augment.compose(recipe.augment, size=recipe.data.size)
    classifier.check(recipe, (*recipe.data.size, recipe.data.channels))


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    augmented = _augmented(run)
    if augmented is not None:
        shape = image_dataset.shape_of(run.recipe.data)
        _draw_augmented(folder, run.finished("prepare"), shape, augmented, run.recipe.seed)
    return classifier.train(run, folder, _training(run, augmented), extend_to=extend_to)


def training(run: "Run") -> Training:
    """What a training of the run needs."""
    return _training(run, _augmented(run))


def _training(run: "Run", augmented: Any) -> Training:
    import tensorflow as tf

    from cnn_keras.data import input_pipeline

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    shape = image_dataset.shape_of(recipe.data)
    memory = int(recipe.data.memory_gb * 2**30)

    def batches(epochs: range) -> Any:
        return input_pipeline.training(
            prepared,
            "train",
            shape,
            count=data["splits"]["train"],
            epochs=epochs,
            batch_size=recipe.train.batch_size,
            seed=recipe.seed,
            augment=augmented,
            memory=memory,
            classes=len(data["classes"]),
        )

    def plain() -> Any:
        streamed = data["splits"]["train"] * math.prod((*shape.size, shape.channels)) > memory
        if streamed:
            return ordered(run, "train").repeat()
        few = ordered(run, "train").take(PLAIN).cache().repeat()
        return few.map(lambda images, labels: (tf.reverse(images, [0]), labels))  # copied, as `batch.training` does

    return Training(
        assembled=lambda: assemble(recipe, data),
        batches=batches,
        validation=ordered(run, image_dataset.validation_split(data)),
        plain=plain,
    )


def _augmented(run: "Run") -> Any:
    """The augmentation of the recipe, with what it takes from the training split, such as the axes of its colours."""
    from cnn_keras.data.transforms import augment

    fitted = augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in ordered(run, "train")))
    return augment.compose(run.recipe.augment, size=run.recipe.data.size, fitted=fitted)


def ordered(run: "Run", split: str) -> "tf.data.Dataset":
    """The examples of a split in their order and as they are, in batches: (images uint8, labels int64)."""
    from cnn_keras.data import input_pipeline

    recipe, count = run.recipe, run.facts("prepare")["splits"][split]
    shape, size = image_dataset.shape_of(recipe.data), recipe.train.batch_size
    return input_pipeline.batches(run.finished("prepare"), split, shape, count=count, batch_size=size)


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    prepared, shape = run.finished("prepare"), image_dataset.shape_of(run.recipe.data)
    split = image_dataset.test_split(run.facts("prepare"))
    facts = classifier.evaluate(
        run,
        folder,
        batches=_batches(prepared, split, shape),
        baselines=lambda: _baselines(run, prepared, split, shape),
        pictured=lambda rows: _pictured(prepared, split, shape, rows),
        further=partial(_further, run),
    )
    if not run.recipe.evaluate.insight:
        return facts
    model, names = classifier.trained(run), run.facts("prepare")["classes"]
    if found := ensemble.members(model):
        run.console.print("          the pictures of what units have learnt are those of the first member")
        model = found[0]
    insight.draw(model, prepared, split=split, shape=shape, names=names, folder=folder, console=run.console)
    return facts


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    shape, split = image_dataset.shape_of(recipe.data), image_dataset.test_split(data)

    answer: savedmodel.Answer = savedmodel.probabilities
    looks = 1
    takes = savedmodel.IMAGES
    if recipe.export.crops:
        shape, answer = _cropped(recipe)
        looks = _count(recipe)
        takes += f" The graph averages its answers to {looks} crops of images of {shape.size}."

    def written(model: "keras.Model", saved: Path) -> dict[str, Any]:
        savedmodel.write_classifier(model, saved, shape=shape, names=data["classes"], answer=answer)
        tolerance = recipe.export.tolerance
        agreement = savedmodel.compare_classifier(
            model, saved, prepared, split, shape, tolerance=tolerance, answer=answer, looks=looks
        )
        savedmodel.write_warmup(saved, prepared, split, shape)
        return agreement

    facts = classifier.export(run, folder, written=written, takes=takes)
    if recipe.export.crops and "register" in facts:
        facts["register"]["metrics"]["test_accuracy"] = run.facts("evaluate")["metrics"]["test_crops_accuracy"]
    return facts


def assemble(recipe: Recipe, data: dict[str, Any]) -> "keras.Model":
    """The network of the recipe behind its normalisation: uint8 (height, width, channels), 0–255, to logits."""
    return classifier.assemble(recipe, data, shape=(*recipe.data.size, recipe.data.channels))


def _cropped(recipe: Recipe) -> "tuple[Shape, savedmodel.Answer]":
    """The shape of the images that crops are cut from, and what answers for them."""
    from cnn_keras.ops import test_time_augmentation as crops

    plan: Any = recipe.evaluate.crops
    shape, size = image_dataset.shape_of(recipe.data), recipe.data.size
    answer = partial(crops.probabilities, size=size, **plan.model_dump())
    return shape._replace(size=crops.frame_size(size, plan.kind)), answer


def _count(recipe: Recipe) -> int:
    from cnn_keras.ops import test_time_augmentation as crops

    plan: Any = recipe.evaluate.crops
    return int(crops.count(plan.kind, mirror=plan.mirror))


def _further(run: "Run", model: "keras.Model", right: Any) -> dict[str, Any]:
    """What the recipe wants to know besides: of many crops, of the training split."""
    from cnn_keras import inference

    settings: Evaluate = run.recipe.evaluate
    found: dict[str, Any] = {}
    if settings.crops:
        found["crops"] = _measure_crops(run, model, right)
    if settings.gap:
        batches = _batches(run.finished("prepare"), "train", image_dataset.shape_of(run.recipe.data))
        answer = inference.predictor(model, partial(savedmodel.probabilities, model))
        seen = classifier.correct(run, answer, batches, "train").mean()
        found |= {"train": {"accuracy": float(seen)}, "gap": float(seen - right.mean())}
    return found


def _measure_crops(run: "Run", model: "keras.Model", right: Any) -> dict[str, Any]:
    """The gain and the cost of many crops of the test images beside the whole images, which were `right` or not.

    `centre_accuracy` is that of the centre alone, at the first scale: what the papers compare ten crops with.
    """
    import tensorflow as tf

    from cnn_keras import inference
    from cnn_keras.ops import test_time_augmentation as crops

    recipe, prepared, split = run.recipe, run.finished("prepare"), image_dataset.test_split(run.facts("prepare"))
    shape, answer = _cropped(recipe)
    plan, size = recipe.evaluate.crops.model_dump(), recipe.data.size

    def mean_and_centre(frames: Any) -> Any:
        found = crops.view_probabilities(model, frames, size, **plan)
        return tf.stack([tf.reduce_mean(found, axis=1), found[:, crops.center_view(mirror=plan["mirror"])]], axis=1)

    asked = inference.predictor(model, mean_and_centre, looks=_count(recipe))
    cropped = classifier.correct(run, asked, _batches(prepared, split, shape), split)
    whole = ensemble_gain.Combined(model, partial(answer, model), (None, *shape.size, shape.channels), _count(recipe))
    found = {**plan, "count": whole.looks, "centre_accuracy": float(cropped[:, 1].mean())}
    return {**found, **ensemble_gain.gain(right, cropped[:, 0]), "cost": ensemble_gain.cost(model, whole)}


def _draw_augmented(folder: Path, prepared: Path, shape: "Shape", augmented: Any, seed: int) -> None:
    """A sheet with one picture per row: as it is, then as training may see it."""
    from cnn_keras.data import input_pipeline
    from pipelines.plots import image_grid

    seen = shape._replace(size=augmented.source or shape.size)
    sample = input_pipeline.arrays(prepared, "train", seen, limit=6)
    rows = []
    for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True)):
        drawn = [augmented({"image": image}, [seed + row, number])["image"].numpy() for number in range(9)]
        rows.append((str(name), [image, *drawn]))
    image_grid.augmentation_sheet(rows, folder / "augmented.png")


def _batches(prepared: Path, split: str, shape: "Shape") -> Iterator[tuple[Any, Any, list[str]]]:
    """One pass over a split: (images, labels, ids)."""
    from cnn_keras.data import input_pipeline

    for examples in input_pipeline.decoded_examples(prepared, split, shape).batch(128):
        yield examples["image"], examples["label"].numpy(), [name.decode() for name in examples["id"].numpy()]


def _baselines(run: "Run", prepared: Path, split: str, shape: "Shape") -> dict[str, Any]:
    from cnn_keras.data import input_pipeline
    from pipelines.engine import baselines

    budget = int(run.recipe.data.memory_gb * 2**30 / (shape.size[0] * shape.size[1] * shape.channels))
    train, test = (input_pipeline.arrays(prepared, name, shape, limit=budget) for name in ("train", split))
    found = baselines.baselines(train.images, train.labels, test.images, test.labels, seed=run.recipe.seed)
    note = found.note + (f", tested on {len(test.labels):,} images" if len(test.labels) == budget else "")
    return {"accuracy": found.accuracy, "note": note}


def _pictured(prepared: Path, split: str, shape: "Shape", rows: list[int]) -> list[Any]:
    """The images of these rows of a split, read again."""
    from cnn_keras.data import input_pipeline

    examples = enumerate(input_pipeline.decoded_examples(prepared, split, shape).take(max(rows, default=0) + 1))
    wanted = {row: example["image"].numpy() for row, example in examples if row in rows}
    return [wanted[row] for row in rows]
