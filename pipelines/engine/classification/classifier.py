"""The model and the training of every classifier, whatever it looks at. The tasks hand in where examples come from.

Images, signals and volumes differ in how they are read, drawn and served; the loss, the report, the requirements and
the card are the same: see `classifier_report` and `classifier_export` too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.utils import compute_class_weight

from cnn_keras import models
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.ops import monte_carlo_dropout
from cnn_keras.weights import pretrained
from pipelines.data import image_normalization, split_manifest
from pipelines.engine.classification import compression, label_kind
from pipelines.engine.classification.classifier_config import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer, transfer
from pipelines.engine.training.task_training import Training, announce, initial_model
from pipelines.export import savedmodel


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
    _require_logits(network, recipe.model.builder, arguments["classes"])
    if recipe.evaluate.dropout_samples:
        monte_carlo_dropout.require(network)
    transfer.check(recipe, network, cacheable=cacheable)
    keras.utils.clear_session()


def _require_logits(network: keras.Model, builder: str, classes: int) -> None:
    """Raise a Fault unless a network gives a number for each class, before the softmax."""
    output = network.output["logits"] if isinstance(network.output, dict) else network.output
    if output.shape[1:] != (classes,):
        raise Fault(f"{builder} must return (batch, {classes}) for classes={classes}, got {tuple(output.shape)}")
    last = network.layers[-1]
    probabilities = (keras.activations.softmax, keras.activations.sigmoid)
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in probabilities:
        raise Fault(f"{builder} must return logits, got the activation of {last.name}; leave it out: the loss has it")


def assemble(
    recipe: Any,
    data: dict[str, Any],
    *,
    shape: tuple[int, ...],
    dtype: str = "uint8",
    name: str = "image",
    prepared: Path | None = None,
) -> keras.Model:
    """The network of the recipe behind its normalisation: `name`, `dtype` (batch, *shape), to logits.

    `data["normalization"]` is what `image_normalization.fit` gave, with a file in the folder `prepared`; None gives
    each example, channel by channel, the mean 0 and the variance 1. Weights to start from bring their own. A network
    with auxiliary heads gives a dictionary of logits, `logits` among them.
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
        normalized = image_normalization.layer(normalization, prepared)(entry)
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


def objective(model: keras.Model, recipe: Any, positive_weights: Any = None) -> dict[str, Any]:
    """What `trainer.compile_model` is to minimise and to measure, for each head by its name where there are several."""
    kind = label_kind.of(recipe)
    logits = model.output["logits"] if isinstance(model.output, dict) else model.output
    loss, metrics = kind.loss(recipe, positive_weights), kind.metrics(recipe, logits.shape[-1])
    if not isinstance(model.output, dict):
        return {"loss": loss, "metrics": metrics}
    share = models.auxiliary_weight(recipe.model.builder)
    return {
        "loss": dict.fromkeys(model.output, loss),
        "metrics": {"logits": metrics},
        "loss_weights": {head: 1.0 if head == "logits" else share for head in model.output},
    }


def targets(
    model: keras.Model, recipe: Any, classes: int, weights: np.ndarray[Any, Any] | None = None
) -> Callable[..., Any]:
    """A map from batches of (examples, labels) to what `fit` takes for this objective; `weights` are the classes'.

    Labels are integers (batch,), or shares (batch, classes) of examples that were mixed or have several labels.
    """
    heads = list(model.output) if isinstance(model.output, dict) else None
    wants_shares = label_kind.of(recipe).shares(recipe)

    def apply(examples: Any, labels: Any) -> tuple[Any, ...]:
        shares = labels if labels.shape.rank == 2 else tf.one_hot(labels, classes)
        target_values = shares if wants_shares else labels
        answer = dict.fromkeys(heads, target_values) if heads else target_values
        return (examples, answer) if weights is None else (examples, answer, tf.linalg.matvec(shares, weights))

    return apply


def class_weights(prepared: Path, classes: Sequence[str]) -> np.ndarray[Any, Any]:
    """What an example of each class must count for all classes to count the same: float32 (classes,), of mean 1."""
    labels = [row["label"] for row in split_manifest.rows(prepared) if row["split"] == "train"]
    return np.asarray(compute_class_weight("balanced", classes=np.array(classes), y=labels), np.float32)


def _write_anatomy(model: keras.Model, path: Path) -> None:
    """The model layer by layer: shapes, parameters, multiply-adds, receptive fields."""
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    durable.write_text(path, model_profile.as_csv(model_profile.rows(network)))


def training(
    run: Run,
    *,
    assembled: Callable[[], keras.Model],
    batches: Callable[[range], tf.data.Dataset],
    validation: tf.data.Dataset,
    plain: Callable[[], tf.data.Dataset],
    noun: str = "image",
    ordered: Callable[[str], tf.data.Dataset] | None = None,
) -> Training:
    """The training of a classifier; see `Training`. Batches are (examples, labels)."""
    recipe, data = run.recipe, run.facts("prepare")
    names, count = data["classes"], data["splits"]["train"]
    positive_weights = label_kind.of(recipe).positive_weights(recipe, data)
    by_class = recipe.train.class_weights and positive_weights is None
    weights = class_weights(run.finished("prepare"), names) if by_class else None

    def start() -> keras.Model:
        model = assembled()
        if recipe.train.prune:
            compression.prune(model, recipe.train.prune)
        return model

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        steps, shares = -(-count // settings.batch_size), transfer.shares(model, settings.transfer)
        trainer.compile_model(model, settings, steps=steps, shares=shares, **objective(model, recipe, positive_weights))
        if settings.prune:
            compression.keep_zeros(model)
        if settings.distill:
            compression.distill(model, compression.load_teacher(settings.distill, names, model), settings.distill)
        return model

    def target_of(model: keras.Model, *, weighted: bool) -> Callable[..., Any]:
        return targets(model, recipe, len(names), weights if weighted else None)

    return Training(
        assembled=start,
        compiled=compiled,
        batches=lambda model, epochs: batches(epochs).map(target_of(model, weighted=True)),
        validation=lambda model: validation.map(target_of(model, weighted=False)),
        examples=count,
        noun=noun,
        plain=plain,
        ordered=ordered,
        targets=target_of,
    )


def train(run: Run, folder: Path, training: Training, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    model = initial_model(run, training)
    announce(run, training, model)
    if run.recipe.train.prune:
        run.console.print(f"          pruned: {compression.zeros(model):.1%} of the weights of kernels are zero")
    _write_anatomy(model, folder / "anatomy.csv")
    history = transfer.train(run, training, model, folder, extend_to=extend_to)
    metric = label_kind.of(run.recipe).metric
    return trainer.conclude(headless(model), history, run.recipe.train, folder, console=run.console, metric=metric)


def load_trained(run: Run) -> keras.Model:
    """Load the model that the stage train wrote."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")
