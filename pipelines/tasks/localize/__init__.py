"""Localisation: which one thing is in the picture, where is it, and where are its landmarks?"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from cnn_keras.data import durable
from pipelines.data import box_batches, box_dataset, run_files
from pipelines.data.box_dataset import prepare as prepare  # the first of the four verbs
from pipelines.data.schema import Positive
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model, Train
from pipelines.export import savedmodel
from pipelines.tasks.localize import model as localize_model
from pipelines.tasks.localize.model import Evaluate, Export, Head, Locator

if TYPE_CHECKING:
    import tensorflow as tf

    from pipelines.engine.stages import Run

BATCH = 32  # pictures that are measured at once
COMPARED = 32  # on which the exported model must agree
WARMUP = 2  # requests recorded beside it


class Data(box_dataset.Data):
    """Where the pictures come from; of several things in one, the largest is the one to find."""

    size: tuple[Positive, Positive] = (96, 96)  # height, width
    anchors: Positive | None = None  # which are for detection


class Recipe(recipes.Recipe):
    """A recipe of this task; `model` is the backbone."""

    data: Data
    # what training does to each image, its box and landmarks, in order
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    head: Head = Head()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _fits_localization(self) -> Self:
        for key in ("transfer", "ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(self.train, key):
                raise ValueError(f"train.{key} is for classification; it does not go with a box")
        if self.train.monitor != "val_loss":
            raise ValueError("train.monitor must be val_loss for localisation, which is more than a class")
        if self.data.tile:
            raise ValueError("data.tile is for detection; here a whole picture shows one thing")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    return {"files": box_dataset.files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    import keras

    from cnn_keras import models
    from cnn_keras.data.transforms import augment
    from cnn_keras.errors import Fault

    composed = augment.compose(recipe.augment, size=recipe.data.size)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix pictures, of which each shows one thing; leave out mixup, cutmix and mosaic")
    shape = (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": recipe.head.hidden, **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)
    localize_model.assemble(recipe, {"classes": ["thing"], "landmarks": []})
    keras.utils.clear_session()


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Pictures with boxes for `cnn augment`."""
    return box_dataset.samples(recipe.data, count, seed=recipe.seed)


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    from cnn_keras.data.transforms import augment
    from pipelines.engine import trainer

    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    trainer.set_up(recipe.seed, settings)
    model = localize_model.assemble(recipe, data)
    count = data["splits"]["train"]
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {count:,} images")
    augmented = augment.compose(recipe.augment, size=recipe.data.size, fitted=box_batches.fitted(run))
    if augmented is not None:
        box_batches.draw_augmented(run, augmented, folder / "augmented.png")
    trainer.compile_model(
        model, settings, steps=-(-count // settings.batch_size), **localize_model.objective(recipe, data)
    )
    validation = box_dataset.validation_split(data)
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=lambda epochs: box_batches.training(run, epochs, augmented).map(_given(run)),
        validation=box_batches.ordered(run, validation).map(_given(run)),
        images=count,
        console=run.console,
        on_epoch=run.on_epoch,
        extend_to=extend_to,
    )
    return trainer.concluded(model, history, settings, folder, console=run.console, metric="mean_iou")


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside an answer that never changes; say which requirements failed."""
    from pipelines.data import validation as data_validation

    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split, names, landmarks = box_dataset.test_split(data), data["classes"], data["landmarks"]
    locator = _locator(run)
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        examples = box_batches.examples(run, split).batch(BATCH)
        answers = localize_model.asked(locator, examples, _target(run), lambda done: bar.advance(task, done))
    report = {"split": split, **localize_model.measured(answers, names, landmarks, settings.threshold)}
    report["baseline"] = _baseline(run, answers)
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", localize_model.answers_csv(answers, names, landmarks))
    _draw(run, folder, answers, split)
    localize_model.say(run, report)
    metrics = {f"test_{key}": value for key, value in report.items() if isinstance(value, float) and key != "alpha"}
    return {"metrics": metrics, "failed": localize_model.failed(settings, report)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, pixels and names out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, box_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    locator = _locator(run)
    locator.write(saved, shape=box_dataset.shape_of(recipe.data), threshold=settings.threshold)
    encoded = box_batches.encoded(run, split, COMPARED)
    examples = box_batches.examples(run, split).take(len(encoded)).batch(1)
    agreement = locator.compare(saved, examples, encoded, tolerance=settings.tolerance)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", [[one] for one in encoded[:WARMUP]])})
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    localize_model.write_card(
        saved / "card.md", locator.model, recipe=recipe, data=data, report=report, agreement=agreement
    )
    run.console.print(
        f"          {name} version {version}: coordinates differ by at most {agreement['difference']:.1e} pixels on "
        f"{agreement['images']} images"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="accuracy")
    return facts


def _target(run: "Run") -> Callable[[dict[str, Any]], "tf.Tensor"]:
    """What `localize.encode` makes of a batch: the target of its largest thing."""
    from cnn_keras.models import localize

    names = len(run.facts("prepare")["classes"])
    return lambda batch: localize.encode(batch["boxes"], batch["classes"], batch.get("landmarks"), names=names)


def _given(run: "Run") -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    target = _target(run)
    return lambda batch: (batch["image"], target(batch))


def _locator(run: "Run") -> Locator:
    """What reads the answers of the model that the stage train left."""
    model = savedmodel.load_keras(run.finished("train") / "model.keras")
    return Locator(model, run.facts("prepare"), fit=run.recipe.data.fit)


def _baseline(run: "Run", answers: localize_model.Answers) -> dict[str, Any]:
    """What the training split's mean box and usual class, said of every picture, are worth on the same split."""
    import numpy as np
    import tensorflow as tf

    from cnn_keras.models import localize

    recipe, data = run.recipe, run.facts("prepare")
    names, landmarks = data["classes"], data["landmarks"]
    examples = box_batches.examples(run, "train").batch(BATCH)
    targets = np.concatenate([_target(run)(batch).numpy() for batch in examples])
    vector = tf.constant(localize_model.constant(targets, len(names)))
    sizes = tf.constant(_extents(run, box_dataset.test_split(data)))
    said = localize.decode(tf.tile(vector[None], [len(sizes), 1]), classes=len(names))
    placed = _locator(run).pixels(said, sizes, recipe.data.size)
    same = answers._replace(said=type(placed)(*(part.numpy() for part in placed)))
    return localize_model.measured(same, names, landmarks, threshold=0.5)


def _extents(run: "Run", split: str) -> Any:
    """Heights and widths of a split's pictures: int32 (N, 2)."""
    import numpy as np

    return np.stack(
        [extent.numpy() for extent in box_batches.examples(run, split).map(lambda example: example["extent"])]
    )


def _draw(run: "Run", folder: Path, answers: localize_model.Answers, split: str) -> None:
    """The first pictures of the split, and the worst, with what was said and what is true."""
    from pipelines.plots import image_grid

    settings, names = run.recipe.evaluate, run.facts("prepare")["classes"]
    first = list(range(min(settings.shown, len(answers.ids))))
    worst = localize_model.worst(answers, settings.threshold, settings.shown)
    rows = [*first, *worst]
    images = dict(zip(rows, box_batches.pictured(run, split, rows), strict=True))
    headings = {
        "predictions": (first, f"What was said from p_c {settings.threshold:g} on; white and dashed what is true"),
        "worst": (worst, f"The {len(worst)} worst answers; white and dashed what is true" if worst else "No mistakes"),
    }
    for name, (rows, heading) in headings.items():
        drawn = [localize_model.drawn(images[row], answers, row, names, settings.threshold) for row in rows]
        titles = [answers.ids[row] for row in rows]
        image_grid.contact_sheet(drawn, titles, folder / f"{name}.png", columns=4, size=2.6, heading=heading)
