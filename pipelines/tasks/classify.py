"""Classification: which of these classes does the picture show?"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import classifier, insight, labelled, savedmodel
from pipelines import recipe as recipes
from pipelines.classifier import Evaluate, Export
from pipelines.labelled import Data
from pipelines.labelled import prepare as prepare  # the first of the four verbs
from pipelines.recipe import Model, Train

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from cnn_keras.data.batch import Shape
    from pipelines.stages import Run


# What stands between the records and the network, in `cnn_keras/data/`.
TRAINING = ("augment", "steps", "sampling", "geometry", "colour", "policy", "mixing", "batch", "encoded", "framing")


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe: the files of the source, and the code."""
    code = classifier.depends(
        stage,
        recipe,
        data=[f"cnn_keras/data/{name}.py" for name in TRAINING],
        preparing=["cnn_keras/data", "pipelines/intake.py", "pipelines/labelled.py"],
    )
    return {**code, "files": labelled.files_digest(recipe.data)} if stage == "prepare" else code


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from cnn_keras.data import augment

    augment.compose(recipe.augment, size=recipe.data.size)
    classifier.check(recipe, (*recipe.data.size, recipe.data.channels))


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from cnn_keras.data import augment, batch

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    shape = labelled.shape_of(recipe.data)
    augmented = augment.compose(recipe.augment, size=recipe.data.size, fitted=_fitted(run))
    if augmented is not None:
        _draw_augmented(folder, prepared, shape, augmented, recipe.seed)

    def batches(epochs: range) -> Any:
        return batch.training(
            prepared,
            "train",
            shape,
            count=data["splits"]["train"],
            epochs=epochs,
            batch_size=recipe.train.batch_size,
            seed=recipe.seed,
            augment=augmented,
            memory=int(recipe.data.memory_gb * 2**30),
            classes=len(data["classes"]),
        )

    return classifier.train(
        run,
        folder,
        assembled=lambda: assemble(recipe, data),
        batches=batches,
        validation=ordered(run, labelled.validation_split(data)),
        extend_to=extend_to,
    )


def _fitted(run: "Run") -> dict[str, Any]:
    """The arguments of augmentations that are fitted on the training split, such as the axes of its colours."""
    from cnn_keras.data import augment

    return dict(augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in ordered(run, "train"))))


def ordered(run: "Run", split: str) -> "tf.data.Dataset":
    """The examples of a split in their order and as they are, in batches: (images uint8, labels int64)."""
    from cnn_keras.data import batch

    recipe, count = run.recipe, run.facts("prepare")["splits"][split]
    shape, size = labelled.shape_of(recipe.data), recipe.train.batch_size
    return batch.batches(run.finished("prepare"), split, shape, count=count, batch_size=size)


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    prepared, shape = run.finished("prepare"), labelled.shape_of(run.recipe.data)
    split = labelled.test_split(run.facts("prepare"))
    facts = classifier.evaluate(
        run,
        folder,
        batches=_batches(prepared, split, shape),
        baselines=lambda: _baselines(run, prepared, split, shape),
        pictured=lambda rows: _pictured(prepared, split, shape, rows),
    )
    model, names = classifier.trained(run), run.facts("prepare")["classes"]
    insight.draw(model, prepared, split=split, shape=shape, names=names, folder=folder, console=run.console)
    return facts


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    shape, split = labelled.shape_of(recipe.data), labelled.test_split(data)

    def written(model: "keras.Model", saved: Path) -> dict[str, Any]:
        savedmodel.write_classifier(model, saved, shape=shape, names=data["classes"])
        tolerance = recipe.export.tolerance
        agreement = savedmodel.compare_classifier(model, saved, prepared, split, shape, tolerance=tolerance)
        savedmodel.write_warmup(saved, prepared, split, shape)
        return agreement

    return classifier.export(run, folder, written=written)


def assemble(recipe: Recipe, data: dict[str, Any]) -> "keras.Model":
    """The network of the recipe behind its normalisation: uint8 (height, width, channels), 0–255, to logits."""
    return classifier.assemble(recipe, data, shape=(*recipe.data.size, recipe.data.channels))


def _draw_augmented(folder: Path, prepared: Path, shape: "Shape", augmented: Any, seed: int) -> None:
    """A sheet with one picture per row: as it is, then as training may see it."""
    from cnn_keras.data import batch
    from pipelines import pictures

    seen = shape._replace(size=augmented.source or shape.size)
    sample = batch.arrays(prepared, "train", seen, limit=6)
    rows = []
    for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True)):
        drawn = [augmented({"image": image}, [seed + row, number])["image"].numpy() for number in range(9)]
        rows.append((str(name), [image, *drawn]))
    pictures.augmentation_sheet(rows, folder / "augmented.png")


def _batches(prepared: Path, split: str, shape: "Shape") -> Iterator[tuple[Any, Any, list[str]]]:
    """One pass over a split: (images, labels, ids)."""
    from cnn_keras.data import batch

    for examples in batch.decoded(prepared, split, shape).batch(128):
        yield examples["image"], examples["label"].numpy(), [name.decode() for name in examples["id"].numpy()]


def _baselines(run: "Run", prepared: Path, split: str, shape: "Shape") -> dict[str, Any]:
    from cnn_keras.data import batch
    from pipelines import baselines

    budget = int(run.recipe.data.memory_gb * 2**30 / (shape.size[0] * shape.size[1] * shape.channels))
    train, test = (batch.arrays(prepared, name, shape, limit=budget) for name in ("train", split))
    found = baselines.baselines(train.images, train.labels, test.images, test.labels, seed=run.recipe.seed)
    note = found.note + (f", tested on {len(test.labels):,} images" if len(test.labels) == budget else "")
    return {"accuracy": found.accuracy, "note": note}


def _pictured(prepared: Path, split: str, shape: "Shape", rows: list[int]) -> list[Any]:
    """The images of these rows of a split, read again."""
    from cnn_keras.data import batch

    examples = enumerate(batch.decoded(prepared, split, shape).take(max(rows, default=0) + 1))
    wanted = {row: example["image"].numpy() for row, example in examples if row in rows}
    return [wanted[row] for row in rows]
