"""Detection: which things are in the picture, and where?"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from cnn_keras.errors import Fault
from pipelines.data import box_batches, box_dataset, proposals, run_files
from pipelines.data.box_dataset import Data
from pipelines.data.box_dataset import prepare as prepare  # the first of the four verbs
from pipelines.data.schema import Positive
from pipelines.engine import recipe as recipes
from pipelines.engine import transfer
from pipelines.engine.recipe import Model
from pipelines.export import savedmodel
from pipelines.tasks.detect import decode
from pipelines.tasks.detect import masks as detect_masks
from pipelines.tasks.detect import model as detect_model
from pipelines.tasks.detect.model import Evaluate, Export

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras
    import tensorflow as tf

    from pipelines.engine.stages import Run
    from pipelines.engine.trainer import Row
    from pipelines.tasks.detect.error_types import Detected

BATCH = 16  # pictures that are measured at once, at most
WARMUP = 2  # requests recorded beside the exported model
MEASURED = (
    "ap",
    "ap50",
    "ap75",
    "voc_map50",
    "precision",
    "recall",
    "mask_ap",
    "mask_ap50",
)  # of the report, for MLflow


class Train(recipes.Train):
    """How the weights are found; a detector may be shown its batches at several sizes."""

    sides: tuple[Positive, ...] = ()  # the sides, in pixels, of which one is drawn for each batch; none: data.size
    regions: Positive | None = None  # how many of data.proposals are drawn for each picture of a batch; null: all


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    # what training does to each image and its boxes, in order
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _fits_detection(self) -> Self:
        settings = self.train
        for key in ("ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(settings, key):
                raise ValueError(f"train.{key} is for classification; a detector's loss is its family's")
        if settings.transfer and (settings.transfer.mode == "cached" or self.model.weights is None):
            raise ValueError("train.transfer must have model.weights to start from, and any mode but cached")
        if self.data.proposals and self.data.tile:
            raise ValueError("data.proposals must be null with data.tile: photographs are read in tiles, not regions")
        if settings.regions and not self.data.proposals:
            raise ValueError("train.regions must be null without data.proposals to draw from")
        if settings.monitor != "val_loss":
            raise ValueError("train.monitor must be val_loss for detection, which has no accuracy")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    return {"files": box_dataset.files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    from cnn_keras import models
    from cnn_keras.data.transforms import augment
    from cnn_keras.weights import pretrained

    augment.compose(recipe.augment, size=recipe.data.size)
    builder = recipe.model.builder
    arguments = {"input_shape": (*recipe.data.size, 3), "classes": 2, **recipe.model.arguments}
    if recipe.model.weights == "imagenet":
        pretrained.check(detect_model.backbone(recipe), "imagenet")
    models.check(builder, weights=None if recipe.model.weights == "imagenet" else recipe.model.weights, **arguments)
    detect_model.check_masks(recipe)
    inputs = {tensor.name for tensor in models.build(builder, **arguments).inputs}
    if ("proposals" in inputs) != (recipe.data.proposals is not None):
        wanted = "say how regions are searched for, as in {}," if "proposals" in inputs else "be null"
        raise Fault(f"data.proposals must {wanted} with model.builder {builder}, got {recipe.data.proposals}")


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
    model = detect_model.assemble(recipe, data, sides=(None, None) if settings.sides else recipe.data.size)
    count = data["splits"]["train"]
    parameters = f"{model.count_params():,} parameters"
    if settings.transfer:
        parameters += f", {transfer.trained_parameters(model):,} of them trained ({settings.transfer.mode})"
    run.console.print(f"          {recipe.model.builder}: {parameters}, {count:,} images")
    augmented = augment.compose(recipe.augment, size=recipe.data.size, fitted=box_batches.fitted(run))
    if augmented is not None:
        box_batches.draw_augmented(run, augmented, folder / "augmented.png")
    history = transfer.train(model, run, folder, fitted=_fitting(run, augmented), extend_to=extend_to)
    return trainer.concluded(model, history, settings, folder, console=run.console)


def _fitting(run: "Run", augmented: Any) -> "Callable[..., list[Row]]":
    """What compiles a detector and trains it; see `transfer.train`."""
    from pipelines.engine import trainer

    recipe, data = run.recipe, run.facts("prepare")
    count = data["splits"]["train"]

    def fitted(
        model: "keras.Model", settings: Train, folder: Path, *, done: int = 0, extend_to: int | None = None
    ) -> "list[Row]":
        trained, given = (
            detect_model.trainable(model, recipe.model.builder, size=recipe.data.size),
            detect_model.given(model),
        )
        steps, shares = -(-count // settings.batch_size), detect_model.shares(recipe, model)
        trainer.compile_model(trained, settings, loss=None, metrics=None, steps=steps, shares=shares)
        return trainer.fit(
            trained,
            settings,
            folder,
            batches=lambda epochs: _batches(run, range(done + epochs.start, done + epochs.stop), augmented).map(given),
            validation=box_batches.ordered(run, box_dataset.validation_split(data)).map(given),
            images=count,
            console=run.console,
            on_epoch=lambda number, row: run.on_epoch(done + number, row),
            extend_to=extend_to,
        )

    return fitted


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the detector on the test split as COCO and VOC do; say which requirements failed."""
    from cnn_keras import inference
    from pipelines.data import validation
    from pipelines.tasks.detect import instance_report
    from pipelines.tasks.detect import report as detect_report

    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split = box_dataset.test_split(data)
    truth = run_files.read_json(run.finished("prepare") / f"truth-{split}.json")
    model, pictured = detect_model.trained(run), partial(box_batches.pictured, run, split)
    reader = detect_model.reader(run, model, settings.suppress)
    few = 1 if reader.whole else min(BATCH, inference.at_once(model, input_shape=(*recipe.data.size, 3)))
    examples = box_batches.examples(run, split, whole=reader.whole).batch(few)
    with validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        answers, masks = _found(reader, examples, lambda done: bar.advance(task, done))
    report = detect_report.detection_report(
        folder,
        truth,
        detections=answers,
        threshold=settings.shown,
        pictured=pictured,
        decoding=settings.suppress.said,
        shown=settings.worst,
        square=recipe.data.tile and recipe.data.tile.size,
    )
    detect_report.say(run.console, report)
    if masks:
        shown, threshold = settings.worst, settings.shown
        report |= instance_report.instance_report(
            folder, truth, answers, masks, threshold=threshold, pictured=pictured, shown=shown
        )
        instance_report.say(run.console, report["masks"])
        run_files.write_json(folder / "report.json", report)
    measured = {f"test_{key}": report[key] for key in MEASURED if report.get(key) is not None}
    return {"metrics": measured, "failed": detect_model.failed(settings, report)}


def _found(
    reader: decode.Reader, examples: Any, advance: "Callable[[int], Any]"
) -> "tuple[list[Detected], list[list[detect_masks.Runs]]]":
    """What is found in the examples, and the masks of it where the detector knows them."""
    if isinstance(reader, detect_masks.MaskReader):
        return detect_masks.found(reader, examples, advance)
    return decode.found(reader, examples, advance), []


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, named boxes out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, box_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    model = detect_model.trained(run)
    reader = detect_model.reader(run, model, settings.suppress)
    detect_model.write_detector(model, reader, saved, names=data["classes"])
    requests = box_batches.requests(run, split, detect_model.COMPARED)
    examples = box_batches.examples(run, split, whole=reader.whole).take(len(requests)).batch(1)
    agreement = detect_model.compare_detector(reader, saved, examples, requests, tolerance=settings.tolerance)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", requests[:WARMUP])})
    if recipe.data.proposals:
        run_files.write_json(saved / "assets.extra" / proposals.SETTINGS, recipe.data.proposals.model_dump())
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    detect_model.write_card(saved / "card.md", model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: {agreement['boxes']} boxes in {agreement['images']} images differ by at "
        f"most {agreement['difference']:.1e} pixels"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="ap50")
    return facts


def _batches(run: "Run", epochs: range, augmented: Any) -> "tf.data.Dataset":
    """The training batches of these epochs, each at one of `train.sides` and with `train.regions` of the proposals."""
    stream, settings, seed = box_batches.training(run, epochs, augmented), run.recipe.train, run.recipe.seed
    first = epochs.start * -(-run.facts("prepare")["splits"]["train"] // settings.batch_size)
    if settings.sides:
        stream = stream.enumerate(first).map(partial(detect_model.resized, sides=settings.sides, seed=seed))
    if settings.regions:
        stream = stream.enumerate(first).map(partial(detect_model.fewer, regions=settings.regions, seed=seed))
    return stream
