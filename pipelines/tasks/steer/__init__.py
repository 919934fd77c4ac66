"""Steering: which angle of the wheel belongs to this view of the road, and how sure is that?"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from cnn_keras.data import durable
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Train
from pipelines.export import savedmodel
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer.dataset import Data
from pipelines.tasks.steer.dataset import prepare as prepare  # the first of the four verbs
from pipelines.tasks.steer.model import Evaluate, Export, Head, Model

if TYPE_CHECKING:
    from pipelines.engine.stages import Run

COMPARED = 32  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
DRAWN = 16  # augmented pictures on the sheet
TURNED = {"flip"}  # augmentations after which the picture is no road
MEASURED = ("mae", "rmse", "nll", "coverage", "calibration_error", "lane_steps")  # of the report, for MLflow


class Recipe(recipes.Recipe):
    """A recipe of this task; `model` is any classifier of images, its classes the numbers of the head."""

    data: Data
    # what training does to each frame, in order; a mirror turns the angle too
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    head: Head = Head()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _fits_steering(self) -> Self:
        for key in ("transfer", "ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(self.train, key):
                raise ValueError(f"train.{key} is for classification; it does not go with an angle")
        if self.train.monitor != "val_loss":
            raise ValueError("train.monitor must be val_loss for steering, which has no accuracy")
        return self


def depends(stage: str, recipe: Recipe) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    return {"files": dataset.files_digest(recipe.data)} if stage == "prepare" else {}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    import keras

    from cnn_keras import models
    from cnn_keras.data.transforms import augment
    from cnn_keras.errors import Fault

    names = {entry if isinstance(entry, str) else next(iter(entry), "") for entry in recipe.augment}
    composed = augment.compose(recipe.augment, size=recipe.data.size)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix pictures, of which each has one angle; leave out mixup, cutmix and mosaic")
    if wrong := sorted(names & TURNED):
        raise Fault(
            f"augment must not list {wrong[0]}, after which the road hangs from the sky; mirror is what is meant"
        )
    shape = (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": recipe.head.outputs, **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)
    steer_model.assemble(recipe)
    keras.utils.clear_session()


def samples(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """Frames with angles for `cnn augment`."""
    return dataset.samples(recipe.data, count, seed=recipe.seed)


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, and how sure it may be of its answers."""
    from cnn_keras.data.transforms import augment
    from cnn_keras.losses import mixture_density
    from pipelines.engine import trainer

    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    trainer.set_up(recipe.seed, settings)
    model, unit = steer_model.assemble(recipe), steer_model.unit(data)
    count = data["splits"]["train"]
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {count:,} images")
    augmented = augment.compose(recipe.augment, size=recipe.data.size, fitted=_fitted(run))
    if augmented is not None:
        _draw_augmented(run, augmented, folder / "augmented.png")
    trainer.compile_model(model, settings, steps=-(-count // settings.batch_size), **steer_model.objective(unit))
    validation = dataset.validation_split(data)
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=lambda epochs: _training(run, epochs, augmented),
        validation=_ordered(run, validation),
        images=count,
        console=run.console,
        on_epoch=run.on_epoch,
        extend_to=extend_to,
    )
    facts = trainer.concluded(model, history, settings, folder, console=run.console, metric="mae")
    said, angles = steer_model.numbers(model, dataset.decoded(run, validation).batch(settings.batch_size))
    spread, _ = mixture_density.fit_spread(said, angles, unit=unit)
    run.console.print(f"          on the {validation} split its deviations are likeliest times {spread:.2f}")
    return {**facts, "unit": unit, "spread": spread}


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the last block of time, then let it drive; say which requirements failed."""
    from pipelines.data import validation as data_validation
    from pipelines.tasks.steer import report as steer_report

    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split, steerer = dataset.test_split(data), steer_model.steerer(run)
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        answers = steer_report.asked(run, steerer, split, lambda done: bar.advance(task, done))
    report = {"split": split, "spread": steerer.spread, **steer_report.measured(answers, settings.interval)}
    report["baselines"] = steer_report.baselines(run, answers, split)
    if data["source"] == "road":
        report["loop"] = steer_report.loop(run, steerer, folder)
        report["lane_steps"] = min(row["steps"] for row in report["loop"])
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", steer_report.predictions_csv(answers))
    steer_report.draw(run, folder, answers, report, steerer)
    steer_report.say(run, report)
    metrics = {f"test_{key}": report[key] for key in MEASURED if key in report}
    return {"metrics": metrics, "failed": steer_report.failed(settings, report)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, an angle and its interval out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved, steerer = folder / name / str(version), steer_model.steerer(run)
    steerer.write(saved, shape=dataset.shape_of(recipe.data), interval=settings.interval)
    encoded = dataset.encoded(run.finished("prepare"), split, COMPARED)
    images = next(iter(dataset.decoded(run, split).batch(COMPARED)))["image"]
    told = {"interval": settings.interval, "tolerance": settings.tolerance}
    agreement = steerer.compare(saved, images, encoded, **told)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", [[one] for one in encoded[:WARMUP]])})
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    steer_model.write_card(
        saved / "card.md", steerer.model, recipe=recipe, data=data, report=report, agreement=agreement
    )
    run.console.print(
        f"          {name} version {version}: angles differ by at most {agreement['difference']:.1e} on "
        f"{agreement['images']} images"
    )
    facts = {"name": name, "version": version, "agreement": agreement}
    if settings.register_model:
        facts["register"] = {
            "name": name,
            "folder": f"export/{name}/{version}",
            "metrics": run.facts("evaluate")["metrics"],
            "requirement": f"test_mae <= {recipe.evaluate.at_most.get('mae', 2.0)}",  # no error is larger than 2
        }
    return facts


def _training(run: "Run", epochs: range, augmented: Any) -> Any:
    """The training batches of these epochs: (images, angles)."""
    from cnn_keras.data import input_pipeline

    recipe = run.recipe
    return input_pipeline.training(
        run.finished("prepare"),
        "train",
        dataset.shape_of(recipe.data),
        count=run.facts("prepare")["splits"]["train"],
        epochs=epochs,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        augment=augmented,
        memory=int(recipe.data.memory_gb * 2**30),
        example=dataset.example(),
    )


def _ordered(run: "Run", split: str) -> Any:
    """The batches of a split in their order and as they are."""
    from cnn_keras.data import input_pipeline

    count, size = run.facts("prepare")["splits"][split], run.recipe.train.batch_size
    shape = dataset.shape_of(run.recipe.data)
    return input_pipeline.batches(
        run.finished("prepare"), split, shape, count=count, batch_size=size, example=dataset.example()
    )


def _fitted(run: "Run") -> dict[str, Any]:
    """The arguments of augmentations that are fitted on the training split."""
    from cnn_keras.data.transforms import augment

    return dict(augment.fit(run.recipe.augment, lambda: (images.numpy() for images, _ in _ordered(run, "train"))))


def _draw_augmented(run: "Run", augmented: Any, path: Path) -> None:
    """Frames of the training split as training may see them, with their angles."""
    import numpy as np

    from pipelines.plots import image_grid
    from pipelines.tasks.steer import plots

    drawn, titles = [], []
    for row, example in enumerate(dataset.decoded(run, "train").take(DRAWN)):
        seen = augmented({key: example[key] for key in ("image", "angle")}, np.array([run.recipe.seed, row], np.int32))
        angle = float(seen["angle"])
        drawn.append(plots.steered(seen["image"].numpy(), truth=angle))
        titles.append(f"{angle:+.2f}")
    image_grid.contact_sheet(drawn, titles, path, columns=4, size=2.4)
