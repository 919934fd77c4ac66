"""What every classifier does, whatever it looks at: train, measure, export. The tasks hand in where examples come from.

Images, signals and volumes differ in how they are read, drawn and served; the loss, the report, the baselines'
place in it, the requirements and the card are the same and are here.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn_keras.data import durable
from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.engine import ensemble, ensemble_gain, requirement, transfer
from pipelines.engine.classifier_config import Evaluate, Export
from pipelines.engine.recipe import Train
from pipelines.export import savedmodel

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from pipelines.engine.ensemble_gain import Array
    from pipelines.engine.stages import Run
    from pipelines.engine.trainer import Row

MIXED = {"mixup", "cutmix"}  # augmentations that leave an example shares of two classes
MEASURED = {  # where a metric is, that is not everywhere
    "top_5_accuracy": "it is measured from 11 classes on",
    **dict.fromkeys(("auc", "average_precision"), "it is measured of two classes, both of them in the split"),
}


@dataclass(frozen=True)
class Training:
    """What a training needs of its task: `cnn train`, `cnn lr` and a dry run all start from here.

    Attributes:
        assembled: makes the model, from an example to logits; called when the seeds are set.
        batches: the training batches of the epochs in a range, as `fit.fit` wants them.
        validation: what chooses the best epoch.
        plain: endless batches of a few examples without augmentation, whose speed is compared.
        noun: what an example is called.
    """

    assembled: "Callable[[], keras.Model]"
    batches: "Callable[[range], tf.data.Dataset]"
    validation: "tf.data.Dataset"
    plain: "Callable[[], tf.data.Dataset]"
    noun: str = "image"


def check(recipe: Any, input_shape: tuple[int, ...]) -> None:
    """Raise a Fault unless the recipe's network can be built for `input_shape`, before any data is read."""
    import keras

    from cnn_keras import models

    arguments = {"input_shape": input_shape, "classes": 2, **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)
    try:
        network = models.build(recipe.model.builder, **arguments)
    except Fault:
        raise
    except (TypeError, ValueError) as error:  # what Keras makes of an argument of the wrong kind
        last = str(error).strip().splitlines()[-1]
        raise Fault(
            f"model: {recipe.model.builder} must be buildable with {recipe.model.arguments}, got: {last}"
        ) from None
    transfer.check(recipe, network)
    keras.utils.clear_session()


def assemble(
    recipe: Any, data: dict[str, Any], *, shape: tuple[int, ...], dtype: str = "uint8", name: str = "image"
) -> "keras.Model":
    """The network of the recipe behind its normalisation: `name`, `dtype` (batch, *shape), to logits.

    `data["normalization"]` are the arguments of Keras's Normalization; None gives each example, channel by channel,
    the mean 0 and the variance 1. Weights to start from bring their own. A network with auxiliary heads gives a
    dictionary of logits, `logits` among them.
    """
    import keras

    from cnn_keras import models
    from cnn_keras.weights import pretrained

    builder, weights, classes = recipe.model.builder, recipe.model.weights, len(data["classes"])
    network = models.build(builder, input_shape=shape, classes=classes, **recipe.model.arguments)
    fresh = pretrained.load(network, builder, weights) if weights else ()
    transfer.freeze(network, recipe.train.transfer, fresh=fresh)
    entry = keras.Input(shape, dtype=dtype, name=name)
    normalization = (weights and pretrained.normalization(builder, weights)) or data["normalization"]
    if normalization is None:
        normalized = keras.layers.GroupNormalization(
            -1, epsilon=1e-12, center=False, scale=False, name="normalization"
        )(entry)
    else:
        normalized = keras.layers.Normalization(**normalization, name="normalization")(entry)
    logits = network(normalized)
    if isinstance(logits, dict):  # named here once more, because Keras tells losses apart by the last layers' names
        logits = {head: keras.layers.Identity(dtype="float32", name=head)(value) for head, value in logits.items()}
    return keras.Model(entry, logits, name=recipe.name)


def headless(model: "keras.Model") -> "keras.Model":
    """The model without its auxiliary heads, which have done their work when training is over."""
    import keras

    if not isinstance(model.output, dict):
        return model
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    trunk = keras.Model(network.input, network.output["logits"], name=network.name)
    return keras.Model(model.input, trunk(model.get_layer("normalization").output), name=model.name)


def objective(model: "keras.Model", recipe: Any) -> dict[str, Any]:
    """What `fit.compile_model` is to minimise and to measure, for each head by its name where there are several."""
    import keras

    from cnn_keras import models

    settings: Train = recipe.train
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if settings.focal_gamma:  # without the paper's balance α, which is `class_weights`
        loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=settings.focal_gamma, from_logits=True)
    elif _one_hot(recipe):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing)
    accuracy = keras.metrics.CategoricalAccuracy if _one_hot(recipe) else keras.metrics.SparseCategoricalAccuracy
    measured = [accuracy(name="accuracy")]
    if not isinstance(model.output, dict):
        return {"loss": loss, "metrics": measured}
    share = models.auxiliary_weight(recipe.model.builder)
    return {
        "loss": dict.fromkeys(model.output, loss),
        "metrics": {"logits": measured},
        "loss_weights": {head: 1.0 if head == "logits" else share for head in model.output},
    }


def targets(
    model: "keras.Model", recipe: Any, classes: int, weights: "np.ndarray[Any, Any] | None" = None
) -> Callable[..., Any]:
    """A map from batches of (examples, labels) to what `fit` takes for this objective; `weights` are the classes'.

    Labels are integers (batch,), or shares (batch, classes) of examples that were mixed.
    """
    import tensorflow as tf

    heads = list(model.output) if isinstance(model.output, dict) else None

    def apply(examples: Any, labels: Any) -> tuple[Any, ...]:
        shares = labels if labels.shape.rank == 2 else tf.one_hot(labels, classes)
        wanted = shares if _one_hot(recipe) else labels
        answer = dict.fromkeys(heads, wanted) if heads else wanted
        return (examples, answer) if weights is None else (examples, answer, tf.linalg.matvec(shares, weights))

    return apply


def class_weights(prepared: Path, classes: Sequence[str]) -> "np.ndarray[Any, Any]":
    """What an example of each class must count for all classes to count the same: float32 (classes,), of mean 1."""
    import numpy as np
    from sklearn.utils import compute_class_weight

    with (prepared / "split.csv").open(encoding="utf-8", newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file) if row["split"] == "train"]
    return np.asarray(compute_class_weight("balanced", classes=np.array(classes), y=labels), np.float32)


def _one_hot(recipe: Any) -> bool:
    """Whether the labels are shares of classes: the loss wants them so, or examples are mixed."""
    named = {
        entry if isinstance(entry, str) else next(iter(entry))
        for entry in recipe.augment
        if isinstance(entry, str | dict)
    }
    return bool(recipe.train.focal_gamma or recipe.train.label_smoothing or named & MIXED)


def _write_anatomy(model: "keras.Model", path: Path) -> None:
    """The model layer by layer: shapes, parameters, multiply-adds, receptive fields."""
    import keras

    from cnn_keras.learn import model_profile

    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    durable.write_text(path, model_profile.as_csv(model_profile.rows(network)))


def check_task(run: "Run") -> None:
    """Raise a Fault unless the run's task can tell what a training needs."""
    if not hasattr(run.task, "training"):
        raise Fault(f"RECIPE must be of a task that classifies, got one of {run.recipe.task}")


def training_of(run: "Run") -> Training:
    """What a training of the run needs; its task has been checked, its data prepared."""
    return run.task.training(run)  # type: ignore[no-any-return]


def begun(run: "Run", training: Training) -> "keras.Model":
    """The model at the start of a training: seeds and number format are set as the recipe says."""
    from pipelines.engine import trainer

    trainer.set_up(run.recipe.seed, run.recipe.train)
    return training.assembled()


def train(run: "Run", folder: Path, training: Training, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch, or with those of all members."""
    from pipelines.engine import trainer

    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    if settings.ensemble:
        return ensemble.train(run, folder, extend_to=extend_to)
    model = begun(run, training)
    parameters = f"{model.count_params():,} parameters"
    if settings.transfer:
        parameters += f", {transfer.trained_parameters(model):,} of them trained ({settings.transfer.mode})"
    run.console.print(f"          {recipe.model.builder}: {parameters}, {data['splits']['train']:,} {training.noun}s")
    _write_anatomy(model, folder / "anatomy.csv")
    fitted = _fitting(run, training)
    history = transfer.train(model, run, folder, fitted=fitted, extend_to=extend_to)
    return trainer.concluded(headless(model), history, settings, folder, console=run.console)


def _fitting(run: "Run", training: Training) -> "Callable[..., list[Row]]":
    """What compiles a model and trains it on these batches, or on others; see `transfer.train`."""
    from pipelines.engine import trainer
    from pipelines.engine.input_profile import Probe

    def fitted(
        model: "keras.Model",
        settings: Train,
        folder: Path,
        *,
        batches: "Callable[[range], tf.data.Dataset] | None" = None,
        validation: "tf.data.Dataset | None" = None,
        done: int = 0,
        extend_to: int | None = None,
    ) -> "list[Row]":
        compiled(model, run, settings)
        probe = None if batches else Probe(run, training.plain, training.noun)
        fed, measured = feeds(model, run, batches or training.batches, validation or training.validation)
        return trainer.fit(
            model,
            settings,
            folder,
            batches=lambda epochs: fed(range(done + epochs.start, done + epochs.stop)),
            validation=measured,
            images=run.facts("prepare")["splits"]["train"],
            console=run.console,
            on_epoch=lambda number, row: run.on_epoch(done + number, row),
            extend_to=extend_to,
            probe=probe,
        )

    return fitted


def compiled(model: "keras.Model", run: "Run", settings: Train) -> None:
    """Compile the model with the recipe's objective and these settings, the run's own or like them."""
    from pipelines.engine import trainer

    steps = -(-run.facts("prepare")["splits"]["train"] // settings.batch_size)
    shares = transfer.shares(model, settings.transfer)
    trainer.compile_model(model, settings, steps=steps, shares=shares, **objective(model, run.recipe))


def feeds(
    model: "keras.Model", run: "Run", batches: "Callable[[range], tf.data.Dataset]", validation: "tf.data.Dataset"
) -> "tuple[Callable[[range], tf.data.Dataset], tf.data.Dataset]":
    """Batches for training and for validation with the targets that the model's objective wants, and class weights."""
    recipe, classes = run.recipe, run.facts("prepare")["classes"]
    weights = class_weights(run.finished("prepare"), classes) if recipe.train.class_weights else None
    weighted = targets(model, recipe, len(classes), weights)
    return lambda epochs: batches(epochs).map(weighted), validation.map(targets(model, recipe, len(classes)))


def trained(run: "Run") -> "keras.Model":
    """The model that the stage train left."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def evaluate(
    run: "Run",
    folder: Path,
    *,
    batches: Iterable[tuple[Any, Any, list[str]]],
    baselines: Callable[[], dict[str, Any]],
    pictured: "Callable[[list[int]], list[np.ndarray[Any, Any]]]",
    noun: str = "image",
    further: "Callable[[keras.Model, np.ndarray[Any, Any]], dict[str, Any]] | None" = None,
) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed.

    Args:
        batches: one pass over the test split: (what the model takes, labels int64 (batch,), ids).
        baselines: measures those on the same split: {"accuracy": {name: share}, "note": …}.
        pictured: pictures, uint8, of the examples with these row numbers of the split.
        noun: what an example is called.
        further: more parts of the report, of the model and whether it was right about each example, bool (N,).
    """
    from cnn_keras import inference
    from cnn_keras.metrics import classification
    from pipelines.engine import classification_report as report
    from pipelines.plots import image_grid

    data = run.facts("prepare")
    settings: Evaluate = run.recipe.evaluate
    names, split = data["classes"], image_dataset.test_split(data)
    model = trained(run)
    each, labels, ids = _answers(run, inference.predictor(ensemble.aloud(model)), batches, data["splits"][split])
    probabilities, right = each[:, 0], each.argmax(axis=-1) == labels[:, None]
    found = report.classification_report(labels, probabilities, names)
    found["split"] = split
    if ensemble.members(model):
        found["ensemble"] = ensemble.measure(model, right[:, 1:], right[:, 0])
    found |= further(model, right[:, 0]) if further else {}
    if settings.baselines or settings.beat:
        run.console.print("          fitting baselines")
        found["baselines"] = baselines()
    run_files.write_json(folder / "report.json", found)
    durable.write_text(folder / "predictions.csv", _predictions_csv(ids, labels, probabilities, names))
    _draw_answers(folder, names, probabilities, labels, found)
    rows = [int(row) for row in classification.confident_mistakes(probabilities, labels, settings.worst)]
    truths, said = ([names[number] for number in column[rows]] for column in (labels, probabilities.argmax(axis=1)))
    confidences, wrong = probabilities[rows].max(axis=1).tolist(), [ids[row] for row in rows]
    image_grid.worst(pictured(rows), truths, said, confidences, wrong, folder / "worst.png")
    _say_report(run, found, noun)
    measured = {f"test_{key}": value for key, value in found.items() if isinstance(value, float)}
    measured |= {f"baseline_{key}": value for key, value in found.get("baselines", {}).get("accuracy", {}).items()}
    measured |= {f"train_{key}": value for key, value in found.get("train", {}).items()}
    for part in ensemble_gain.PARTS & found.keys():
        measured |= ensemble_gain.metrics(part, found[part])
    return {"metrics": measured, "failed": failed(settings, found)}


def export(
    run: "Run",
    folder: Path,
    *,
    written: "Callable[[keras.Model, Path], dict[str, Any]]",
    noun: str = "image",
    takes: str = savedmodel.IMAGES,
) -> dict[str, Any]:
    """Write the SavedModel that serves, prove that it agrees, and say what to register.

    Args:
        written: writes a model into a version's folder with its warm-up requests, and returns how far it agrees.
        noun: what an example is called.
        takes: what the card says of the model's input.
    """
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name = settings.name or recipe.name
    model = trained(run)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    agreement = written(model, saved)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    savedmodel.write_classifier_card(
        saved / "card.md",
        model,
        recipe=recipe,
        data=data,
        report=report,
        agreement=agreement,
        gain=ensemble_gain.said(report),
        takes=takes,
    )
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} {noun}s"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="accuracy")
    return facts


def failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    found = []
    for metric, least in settings.require.items():
        if not requirement.reaches(report.get(metric), least):
            got = f"{report[metric]:.4f}" if metric in report else f"nothing: {MEASURED[metric]}"
            found.append(f"evaluate.require: {metric} must be at least {least}, got {got}")
    for name in settings.beat:
        figure = report["baselines"]["accuracy"][name]
        if not requirement.reaches(report["accuracy"], figure):
            found.append(f"evaluate.beat: accuracy must reach the {name}'s {figure:.4f}, got {report['accuracy']:.4f}")
    return found


def _answers(
    run: "Run", answer: "Callable[[Any], Array]", batches: Iterable[tuple[Any, Any, list[str]]], total: int
) -> tuple[Any, Any, list[str]]:
    """One pass over a split: what `answer` says, probabilities (N, …, classes), labels (N,), ids."""
    import numpy as np

    probabilities, labels, ids = [], [], []
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=total)
        for examples, numbers, names in batches:
            probabilities.append(answer(examples))
            labels.append(numbers)
            ids += names
            bar.advance(task, len(numbers))
    return np.concatenate(probabilities), np.concatenate(labels), ids


def correct(
    run: "Run", answer: "Callable[[Any], Array]", batches: Iterable[tuple[Any, Any, list[str]]], split: str
) -> "Array":
    """Whether the probabilities that `answer` gives are right about each example of a split: bool (N, …)."""
    found, labels, _ = _answers(run, answer, batches, run.facts("prepare")["splits"][split])
    right: Array = found.argmax(axis=-1) == labels.reshape(-1, *[1] * (found.ndim - 2))
    return right


def _draw_answers(folder: Path, names: list[str], probabilities: Any, labels: Any, report: dict[str, Any]) -> None:
    import numpy as np

    from cnn_keras.metrics import classification
    from pipelines.plots import charts

    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    charts.confusion_matrix(matrix, names, folder / "confusion_matrix.png")
    bins = classification.reliability_bins(probabilities, labels)
    charts.reliability(bins, report["calibration_error"], folder / "reliability.png")
    if "auc" in report:
        charts.ranking(classification.ranking(probabilities, labels), report, folder / "roc.png")


def _predictions_csv(ids: list[str], labels: Any, probabilities: Any, names: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "confidence"])
    for name, label, row in zip(ids, labels, probabilities, strict=True):
        writer.writerow([name, names[label], names[row.argmax()], f"{row.max():.6f}"])
    return out.getvalue()


def _say_report(run: "Run", report: dict[str, Any], noun: str) -> None:
    low, high = report["accuracy_interval"]
    say = run.console.print
    say(
        f"          {report['split']} accuracy [bold]{report['accuracy']:.2%}[/] (95 % interval {low:.2%} to "
        f"{high:.2%}, {report['examples']:,} {noun}s), calibration error {report['calibration_error']:.3f}"
    )
    if "auc" in report:
        (low, high), (least, most) = report["auc_interval"], report["average_precision_interval"]
        say(
            f"          {report['positive']}: area under the ROC {report['auc']:.4f} ({low:.4f} to {high:.4f}), "
            f"average precision {report['average_precision']:.4f} ({least:.4f} to {most:.4f})"
        )
    if "gap" in report:
        say(f"          train accuracy {report['train']['accuracy']:.2%}: a gap of {100 * report['gap']:.2f} points")
    for line in ensemble_gain.said(report):
        say(f"          {line}")
    for name, accuracy in report.get("baselines", {}).get("accuracy", {}).items():
        better = "  [yellow]better than the network[/]" if accuracy > report["accuracy"] else ""
        say(f"          [dim]{name:>20} {accuracy:.2%}[/]{better}")
