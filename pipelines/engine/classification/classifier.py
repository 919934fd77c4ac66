"""The model and the training of every classifier, whatever it looks at. The tasks hand in where examples come from.

Images, signals and volumes differ in how they are read, drawn and served; the loss, the report, the requirements and
the card are the same: see `classifier_report` and `classifier_export` too.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils import compute_class_weight

from cnn_keras import models, plugins
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.weights import pretrained
from pipelines.engine.classification.classifier_config import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer, transfer
from pipelines.engine.training.input_profile import Probe
from pipelines.engine.training.trainer import Row
from pipelines.export import savedmodel

MIXED = {"mixup", "cutmix"}  # augmentations that leave an example shares of two classes


@dataclass(frozen=True)
class Training:
    """What a training needs of its task: `cnn train`, `cnn lr` and a dry run all start from here.

    Attributes:
        assembled: makes the model, from an example to logits; called when the seeds are set.
        batches: the training batches of the epochs in a range, as `trainer.fit` wants them.
        validation: what chooses the best epoch.
        plain: endless batches of a few examples without augmentation, whose speed is compared.
        noun: what an example is called.
        ordered: the examples of a split in their order and as they are, in batches, where features may be cached.
    """

    assembled: Callable[[], keras.Model]
    batches: Callable[[range], tf.data.Dataset]
    validation: tf.data.Dataset
    plain: Callable[[], tf.data.Dataset]
    noun: str = "image"
    ordered: Callable[[str], tf.data.Dataset] | None = None


def check(recipe: Any, input_shape: tuple[int, ...], *, cacheable: bool = False) -> None:
    """Raise a Fault unless the recipe's network can be built for `input_shape`, before any data is read.

    Args:
        cacheable: whether the task's examples come in an order, so that features of them can be cached.
    """
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
    transfer.check(recipe, network, cacheable=cacheable)
    keras.utils.clear_session()


def assemble(
    recipe: Any, data: dict[str, Any], *, shape: tuple[int, ...], dtype: str = "uint8", name: str = "image"
) -> keras.Model:
    """The network of the recipe behind its normalisation: `name`, `dtype` (batch, *shape), to logits.

    `data["normalization"]` are the arguments of Keras's Normalization; None gives each example, channel by channel,
    the mean 0 and the variance 1. Weights to start from bring their own. A network with auxiliary heads gives a
    dictionary of logits, `logits` among them.
    """
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


def headless(model: keras.Model) -> keras.Model:
    """The model without its auxiliary heads, which have done their work when training is over."""
    if not isinstance(model.output, dict):
        return model
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    trunk = keras.Model(network.input, network.output["logits"], name=network.name)
    return keras.Model(model.input, trunk(model.get_layer("normalization").output), name=model.name)


def objective(model: keras.Model, recipe: Any) -> dict[str, Any]:
    """What `trainer.compile_model` is to minimise and to measure, for each head by its name where there are several."""
    settings: Train = recipe.train
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if settings.loss:
        loss = plugins.load(settings.loss)
    elif settings.focal_gamma:  # without the paper's balance α, which is `class_weights`
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
    model: keras.Model, recipe: Any, classes: int, weights: np.ndarray[Any, Any] | None = None
) -> Callable[..., Any]:
    """A map from batches of (examples, labels) to what `fit` takes for this objective; `weights` are the classes'.

    Labels are integers (batch,), or shares (batch, classes) of examples that were mixed.
    """
    heads = list(model.output) if isinstance(model.output, dict) else None

    def apply(examples: Any, labels: Any) -> tuple[Any, ...]:
        shares = labels if labels.shape.rank == 2 else tf.one_hot(labels, classes)
        wanted = shares if _one_hot(recipe) else labels
        answer = dict.fromkeys(heads, wanted) if heads else wanted
        return (examples, answer) if weights is None else (examples, answer, tf.linalg.matvec(shares, weights))

    return apply


def class_weights(prepared: Path, classes: Sequence[str]) -> np.ndarray[Any, Any]:
    """What an example of each class must count for all classes to count the same: float32 (classes,), of mean 1."""
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
    settings = recipe.train
    return bool(settings.loss or settings.focal_gamma or settings.label_smoothing or named & MIXED)


def _write_anatomy(model: keras.Model, path: Path) -> None:
    """The model layer by layer: shapes, parameters, multiply-adds, receptive fields."""
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    durable.write_text(path, model_profile.as_csv(model_profile.rows(network)))


def check_task(run: Run) -> None:
    """Raise a Fault unless the run's task can tell what a training needs."""
    if not hasattr(run.task, "training_inputs"):
        raise Fault(f"RECIPE must be of a classification task, got one of {run.recipe.task}")


def training_of(run: Run) -> Training:
    """What a training of the run needs; its task has been checked, its data prepared."""
    return run.task.training_inputs(run)  # type: ignore[no-any-return]


def begun(run: Run, training: Training) -> keras.Model:
    """The model at the start of a training: seeds and number format are set as the recipe says."""
    trainer.set_up(run.recipe.seed, run.recipe.train)
    return training.assembled()


def train(run: Run, folder: Path, training: Training, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Train = recipe.train
    model = begun(run, training)
    parameters = f"{model.count_params():,} parameters"
    if settings.transfer:
        parameters += f", {transfer.trained_parameters(model):,} of them trained ({settings.transfer.mode})"
    run.console.print(f"          {recipe.model.builder}: {parameters}, {data['splits']['train']:,} {training.noun}s")
    _write_anatomy(model, folder / "anatomy.csv")
    fitted = _fitting(run, training)
    history = transfer.train(model, run, folder, fitted=fitted, ordered=training.ordered, extend_to=extend_to)
    return trainer.concluded(headless(model), history, settings, folder, console=run.console)


def _fitting(run: Run, training: Training) -> Callable[..., list[Row]]:
    """What compiles a model and trains it on these batches, or on others; see `transfer.train`."""

    def fitted(
        model: keras.Model,
        settings: Train,
        folder: Path,
        *,
        batches: Callable[[range], tf.data.Dataset] | None = None,
        validation: tf.data.Dataset | None = None,
        done: int = 0,
        extend_to: int | None = None,
    ) -> list[Row]:
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


def compiled(model: keras.Model, run: Run, settings: Train) -> None:
    """Compile the model with the recipe's objective and these settings, the run's own or like them."""
    steps = -(-run.facts("prepare")["splits"]["train"] // settings.batch_size)
    shares = transfer.shares(model, settings.transfer)
    trainer.compile_model(model, settings, steps=steps, shares=shares, **objective(model, run.recipe))


def feeds(
    model: keras.Model, run: Run, batches: Callable[[range], tf.data.Dataset], validation: tf.data.Dataset
) -> tuple[Callable[[range], tf.data.Dataset], tf.data.Dataset]:
    """Batches for training and for validation with the targets that the model's objective wants, and class weights."""
    recipe, classes = run.recipe, run.facts("prepare")["classes"]
    weights = class_weights(run.finished("prepare"), classes) if recipe.train.class_weights else None
    weighted = targets(model, recipe, len(classes), weights)
    return lambda epochs: batches(epochs).map(weighted), validation.map(targets(model, recipe, len(classes)))


def trained(run: Run) -> keras.Model:
    """The model that the stage train left."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")
