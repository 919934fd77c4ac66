"""Classification: which of these classes does the picture show?"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cnn_keras.fault import Fault
from pipelines import intake, labelled, savedmodel, stages
from pipelines import recipe as recipes
from pipelines.labelled import Data
from pipelines.labelled import prepare as prepare  # the first of the four verbs
from pipelines.recipe import Model, Name, Positive, Section, Train

if TYPE_CHECKING:
    import keras

    from cnn_keras.data.batch import Shape
    from pipelines.stages import Run

Baseline = Literal["majority", "logistic regression", "nearest neighbour"]
Metric = Literal["accuracy", "top_5_accuracy", "macro_precision", "macro_recall", "macro_f1"]


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    baselines: bool = True
    worst: Positive = 24
    require: dict[Metric, float] = Field(default_factory=dict)  # metric: the least it must be
    beat: tuple[Baseline, ...] = ()  # baselines whose accuracy it must reach


class Export(Section):
    """What the exported model is called and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    register_model: bool = True


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
    match stage:
        case "prepare":
            code = stages.code_digest("cnn_keras/data", "pipelines/intake.py", "pipelines/labelled.py")
            return {"code": code, "files": labelled.files_digest(recipe.data)}
        case "train":
            family = f"cnn_keras/models/{recipe.model.builder.partition('.')[0]}.py"
            data = [f"cnn_keras/data/{name}.py" for name in ("augment", "batch", "encoded", "framing")]
            return {"code": stages.code_digest(family, "cnn_keras/layers.py", *data)}
        case "evaluate":
            return {"code": stages.code_digest("cnn_keras/metrics.py", "pipelines/report.py", "pipelines/baselines.py")}
        case _:
            return {"code": stages.code_digest("pipelines/savedmodel.py", "cnn_keras/data")}


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    import keras

    from cnn_keras import models
    from cnn_keras.data import augment

    augment.compose(recipe.augment)
    arguments = {"input_shape": (*recipe.data.size, recipe.data.channels), "classes": 2, **recipe.model.arguments}
    models.check(recipe.model.builder, **arguments)
    try:
        models.build(recipe.model.builder, **arguments)
    except Fault:
        raise
    except (TypeError, ValueError) as error:  # what Keras makes of an argument of the wrong kind
        last = str(error).strip().splitlines()[-1]
        raise Fault(
            f"model: {recipe.model.builder} must be buildable with {recipe.model.arguments}, got: {last}"
        ) from None
    keras.utils.clear_session()


def train(run: "Run", folder: Path, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    import keras

    from cnn_keras.data import augment, batch
    from pipelines import charts, fit

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Train = recipe.train
    fit.seed_everything(recipe.seed, deterministic=settings.deterministic)
    keras.config.set_dtype_policy("mixed_float16" if settings.mixed_precision else "float32")
    model = assemble(recipe, data)
    images = data["splits"]["train"]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    steps = -(-images // settings.batch_size)
    fit.compile_model(model, settings, loss=loss, metrics=[accuracy], steps=steps)
    run.console.print(f"          {recipe.model.builder}: {model.count_params():,} parameters, {images:,} images")
    shape, augmented = labelled.shape_of(recipe.data), augment.compose(recipe.augment)
    chosen = labelled.validation_split(data)
    if augmented is not None:
        _draw_augmented(folder, prepared, shape, augmented, recipe.seed)

    def batches(epochs: range) -> Any:
        return batch.training(
            prepared,
            "train",
            shape,
            count=images,
            epochs=epochs,
            batch_size=settings.batch_size,
            seed=recipe.seed,
            augment=augmented,
            memory=int(recipe.data.memory_gb * 2**30),
        )

    def on_epoch(number: int, row: fit.Row) -> None:
        run.tracker.metrics(row, step=number)
        run.tracker.system()

    history = fit.fit(
        model,
        settings,
        folder,
        batches=batches,
        validation=batch.batches(prepared, chosen, shape, count=data["splits"][chosen], batch_size=settings.batch_size),
        images=images,
        console=run.console,
        on_epoch=on_epoch,
        extend_to=extend_to,
    )
    savedmodel.save_keras(model, folder / "model.keras")
    best, digest = fit.best_epoch(history, settings.monitor), fit.weights_digest(model)
    charts.curves(history, folder / "curves.png", best=best)
    run.console.print(f"          best epoch {best} of {len(history)}; weights {digest}")
    return {
        "digest": digest,
        "epochs": len(history),
        "best_epoch": best,
        "parameters": model.count_params(),
        "metrics": {f"best_{key}": value for key, value in history[best - 1].items() if key.startswith("val_")},
    }


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    import numpy as np

    from cnn_keras import metrics
    from pipelines import charts, report

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    names, shape, split = data["classes"], labelled.shape_of(recipe.data), labelled.test_split(data)
    probabilities, labels, ids = _answers(run, prepared, split, shape)
    found = report.classification_report(labels, probabilities, names)
    found["split"] = split
    if settings.baselines or settings.beat:
        found["baselines"] = _baselines(run, prepared, split, shape)
    stages.write_json(folder / "report.json", found)
    stages.write_text(folder / "predictions.csv", _predictions_csv(ids, labels, probabilities, names))
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    charts.confusion_matrix(matrix, names, folder / "confusion_matrix.png")
    bins = metrics.reliability_bins(probabilities, labels)
    charts.reliability(bins, found["calibration_error"], folder / "reliability.png")
    _draw_worst(folder, prepared, split, shape, probabilities, labels, names, settings.worst)
    _say_report(run, found)
    measured = {f"test_{key}": value for key, value in found.items() if isinstance(value, float)}
    measured |= {f"baseline_{key}": value for key, value in found.get("baselines", {}).get("accuracy", {}).items()}
    return {"metrics": measured, "failed": _failed(settings, found)}


def export(run: "Run", folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    import keras

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    settings: Export = recipe.export
    name = settings.name or recipe.name
    shape, split = labelled.shape_of(recipe.data), labelled.test_split(data)
    model = keras.models.load_model(run.finished("train") / "model.keras", compile=False)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    savedmodel.write_classifier(model, saved, shape=shape, names=data["classes"])
    agreement = savedmodel.compare_classifier(model, saved, prepared, split, shape, tolerance=settings.tolerance)
    savedmodel.write_warmup(saved, prepared, split, shape)
    report = stages.read_json(run.finished("evaluate") / "report.json")
    savedmodel.write_card(saved / "card.md", model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} images"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = {
            "name": name,
            "folder": f"export/{name}/{version}",
            "metrics": run.facts("evaluate")["metrics"],
            "requirement": f"test_accuracy >= {recipe.evaluate.require.get('accuracy', 0.0)}",
        }
    return facts


def assemble(recipe: Recipe, data: dict[str, Any]) -> "keras.Model":
    """The network of the recipe behind its normalisation: uint8 (height, width, channels), 0–255, to logits."""
    import keras

    from cnn_keras import models

    shape = (*recipe.data.size, recipe.data.channels)
    classes = len(data["classes"])
    network = models.build(recipe.model.builder, input_shape=shape, classes=classes, **recipe.model.arguments)
    image = keras.Input(shape, dtype="uint8", name="image")
    logits = network(keras.layers.Normalization(**data["normalization"], name="normalization")(image))
    if recipe.train.mixed_precision:
        logits = keras.layers.Identity(dtype="float32", name="logits")(logits)
    return keras.Model(image, logits, name=recipe.name)


def _draw_augmented(folder: Path, prepared: Path, shape: "Shape", augmented: Any, seed: int) -> None:
    """A sheet with one picture per row: as it is, then as training may see it."""
    from cnn_keras.data import batch
    from pipelines import pictures

    sample = batch.arrays(prepared, "train", shape, limit=6)
    rows = []
    for row, (image, name) in enumerate(zip(sample.images, sample.ids, strict=True)):
        drawn = [augmented({"image": image}, [seed + row, number])["image"].numpy() for number in range(9)]
        rows.append((str(name), [image, *drawn]))
    pictures.augmentation_sheet(rows, folder / "augmented.png")


def _answers(run: "Run", prepared: Path, split: str, shape: "Shape") -> tuple[Any, Any, list[str]]:
    """One pass over a split: probabilities (N, classes), labels (N,), ids."""
    import keras
    import numpy as np

    from cnn_keras.data import batch

    model = keras.models.load_model(run.finished("train") / "model.keras", compile=False)
    probabilities, labels, ids = [], [], []
    with intake.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=run.facts("prepare")["splits"][split])
        for examples in batch.decoded(prepared, split, shape).batch(128):
            logits = model(examples["image"], training=False)
            probabilities.append(keras.ops.convert_to_numpy(keras.ops.softmax(keras.ops.cast(logits, "float32"))))
            labels.append(examples["label"].numpy())
            ids += [name.decode() for name in examples["id"].numpy()]
            bar.advance(task, len(labels[-1]))
    return np.concatenate(probabilities), np.concatenate(labels), ids


def _baselines(run: "Run", prepared: Path, split: str, shape: "Shape") -> dict[str, Any]:
    from cnn_keras.data import batch
    from pipelines import baselines

    budget = int(run.recipe.data.memory_gb * 2**30 / (shape.size[0] * shape.size[1] * shape.channels))
    run.console.print("          fitting baselines")
    train, test = (batch.arrays(prepared, name, shape, limit=budget) for name in ("train", split))
    found = baselines.baselines(train.images, train.labels, test.images, test.labels, seed=run.recipe.seed)
    note = found.note + (f", tested on {len(test.labels):,} images" if len(test.labels) == budget else "")
    return {"accuracy": found.accuracy, "note": note}


def _predictions_csv(ids: list[str], labels: Any, probabilities: Any, names: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "confidence"])
    for name, label, row in zip(ids, labels, probabilities, strict=True):
        writer.writerow([name, names[label], names[row.argmax()], f"{row.max():.6f}"])
    return out.getvalue()


def _draw_worst(
    folder: Path,
    prepared: Path,
    split: str,
    shape: "Shape",
    probabilities: Any,
    labels: Any,
    names: list[str],
    most: int,
) -> None:
    """The most confident mistakes, read again by their rows."""
    from cnn_keras import metrics
    from cnn_keras.data import batch
    from pipelines import pictures

    rows = [int(row) for row in metrics.confident_mistakes(probabilities, labels, most)]
    examples = enumerate(batch.decoded(prepared, split, shape).take(max(rows, default=0) + 1))
    wanted = {
        row: (example["image"].numpy(), example["id"].numpy().decode()) for row, example in examples if row in rows
    }
    found = [wanted[row] for row in rows]
    pictures.worst(
        [image for image, _ in found],
        [names[labels[row]] for row in rows],
        [names[probabilities[row].argmax()] for row in rows],
        [float(probabilities[row].max()) for row in rows],
        [name for _, name in found],
        folder / "worst.png",
    )


def _say_report(run: "Run", report: dict[str, Any]) -> None:
    low, high = report["accuracy_interval"]
    say = run.console.print
    say(
        f"          {report['split']} accuracy [bold]{report['accuracy']:.2%}[/] (95 % interval {low:.2%} to "
        f"{high:.2%}, {report['examples']:,} images), calibration error {report['calibration_error']:.3f}"
    )
    for name, accuracy in report.get("baselines", {}).get("accuracy", {}).items():
        better = "  [yellow]better than the network[/]" if accuracy > report["accuracy"] else ""
        say(f"          [dim]{name:>20} {accuracy:.2%}[/]{better}")


def _failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    failed = []
    for metric, least in settings.require.items():
        if report.get(metric, 0.0) < least:
            got = f"{report[metric]:.4f}" if metric in report else "nothing: it is measured from 11 classes on"
            failed.append(f"evaluate.require: {metric} must be at least {least}, got {got}")
    for name in settings.beat:
        figure = report["baselines"]["accuracy"][name]
        if report["accuracy"] < figure:
            failed.append(f"evaluate.beat: accuracy must reach the {name}'s {figure:.4f}, got {report['accuracy']:.4f}")
    return failed
