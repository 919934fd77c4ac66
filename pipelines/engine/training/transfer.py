"""Transfer learning: what of a network is trained when it starts from weights that were learnt on other data.

`head` trains the classifier alone – of a detector everything but its backbone. `cached` does the same on features that
the frozen part has written to disk once. `partial` trains the last blocks too, `full` everything, and `staged` the
classifier first and then everything, slower.

What is frozen stands still: batch normalisation goes by the statistics of the weights and does not move them. In
`partial` that holds for the blocks that are trained as well. The classifier is `logits` – or, where that has no
weights, the last layer that has – and every dense layer before it that the weights could not fill. Dropout inside the
frozen part is at work in `head`, but not while features are written for `cached`.

A block is what the names of a family group: `stage3_unit2`, `inception4a`, `block2`, `mlp3`, `transition1`, or where
there is no group a layer with its normalisation, such as `stem`, `conv5_3` or `features`.
"""

import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.ops.numpy_function import numpy_function
from pipelines.data import image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.engine.recipe import Transfer, TransferTrain
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
from pipelines.engine.training.task_training import Training, fit, trained_parameters
from pipelines.engine.training.trainer import Row

BLOCK = re.compile(r"mlp\d+|[a-z]+\d*[a-z]?(?:_(?:unit)?\d+)?(?=_|$)")
ROWS = 1024  # feature vectors in a file
BATCH = 64  # examples that go through the frozen part at once


def check(recipe: Any, network: keras.Model, *, cacheable: bool) -> None:
    """Raise a Fault unless the network of the recipe can be trained as `train.transfer` says.

    Args:
        cacheable: whether the task has its examples in order, so that their features can be cached.
    """
    plan: Transfer | None = recipe.train.transfer
    if plan is None:
        return
    if recipe.model.weights is None:
        raise Fault("train.transfer requires model.weights, got none; set it to imagenet or a file")
    if isinstance(network.output, dict):
        heads = ", ".join(network.output)
        raise Fault(f"train.transfer requires a network with one head, got {heads}; set model.auxiliary to false")
    if plan.mode == "cached" and recipe.augment:
        raise Fault(
            "augment must be empty with train.transfer.mode cached, which sees every example once, got "
            f"{len(recipe.augment)} of them; remove augment, or take mode head"
        )
    if plan.mode == "cached" and not cacheable:
        raise Fault(f"train.transfer.mode must not be cached with task {recipe.task}; head gives the same result")
    _last_blocks(network, plan.blocks or 0, {_classifier(network)})


def blocks(network: keras.Model) -> dict[str, list[keras.Layer]]:
    """The layers with weights by the name of their block, from the input to the classifier."""
    grouped: dict[str, list[keras.Layer]] = {}
    for layer in _layers(network):
        if layer.weights:
            named = BLOCK.match(layer.name)
            grouped.setdefault(named[0] if named else layer.name, []).append(layer)
    blocks_: dict[str, list[keras.Layer]] = {}
    for name, layers in grouped.items():
        if blocks_ and all(_is_norm(layer) for layer in layers):  # no block of its own: a last normalisation
            blocks_[list(blocks_)[-1]] += layers
        else:
            blocks_[name] = layers
    return blocks_


def freeze(network: keras.Model, plan: Transfer | None, *, fresh: Sequence[str] = ()) -> None:
    """Freeze the layers of `network` that are not trained, or not trained at first.

    Args:
        plan: the recipe's `train.transfer`.
        fresh: names of the layers that the weights could not fill.
    """
    if plan is None or plan.mode == "full":
        return
    trainable = {_classifier(network), *fresh}
    for layers in _last_blocks(network, plan.blocks or 0, trainable):
        trainable |= {layer.name for layer in layers if not _is_norm(layer)}
    for layer in _layers(network):
        layer.trainable = layer.name in trainable


def shares(model: keras.Model, plan: Transfer | None, *, fresh: Sequence[str] = ()) -> list[float] | None:
    """What each trainable variable's learning rate is multiplied by: `layer_decay` to the power of its block's
    distance from the classifier, which has 1 itself, and so have `fresh` layers; None when all have the same.
    """
    if plan is None or plan.layer_decay is None:
        return None
    powers: dict[int, float] = {}
    network = _network(model)
    grouped, heads = blocks(network), {_classifier(network), *fresh}
    groups = [layers for layers in grouped.values() if heads.isdisjoint(layer.name for layer in layers)]
    shared = {id(layer): distance for distance, layers in enumerate(reversed(groups), start=1) for layer in layers}
    for layer in (layer for layers in grouped.values() for layer in layers):
        share = plan.layer_decay ** shared.get(id(layer), 0)
        powers |= {id(weight): share for weight in layer.trainable_variables}
    return [powers[id(weight)] for weight in model.trainable_variables]


def train(run: Run, training: Training, model: keras.Model, folder: Path, *, extend_to: int | None = None) -> list[Row]:
    """Train an assembled model as the recipe says; leave it with its best weights and return the history."""
    settings: TransferTrain = run.recipe.train
    match settings.transfer and settings.transfer.mode:
        case "staged":
            return _staged(run, training, model, folder, extend_to=extend_to)
        case "cached":
            trunk, model = split_model(model)
            training = _cached(run, training, trunk)
    return fit(run, training, training.compiled(model, settings), settings, folder, extend_to=extend_to)


def _staged(run: Run, training: Training, model: keras.Model, folder: Path, *, extend_to: int | None) -> list[Row]:
    """The classifier in `folder/head`, at a constant rate; then everything, by the recipe's schedule, in `folder`.

    Each part is a training of its own, so that either goes on where it was interrupted.
    """
    settings: TransferTrain = run.recipe.train
    plan: Transfer = settings.transfer  # type: ignore[assignment]  # its mode has been looked at
    done, slow = plan.head_epochs, settings.learning_rate * plan.unfrozen_rate
    durable.mkdir(folder / "head")
    constant = {"epochs": done, "schedule": "constant", "milestones": (), "warmup_epochs": 0, "patience": None}
    head = settings.model_copy(update=constant)
    first = fit(run, training, training.compiled(model, head), head, folder / "head")
    for layer in _network(model).layers:
        layer.trainable = True
    run.console.print(f"          everything unfrozen: {trained_parameters(model):,} parameters at the rate {slow:g}")
    rest = settings.model_copy(update={"epochs": settings.epochs - done, "learning_rate": slow})
    whole = training.compiled(model, rest)
    second = fit(run, training, whole, rest, folder, done=done, extend_to=extend_to and extend_to - done)
    best = trainer.best_epoch(first + second, settings.monitor)
    if best <= done:
        trainer.load_best(model, folder / "head", best)
    trainer.write_history(first + second, folder)
    return first + second


def split_model(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The frozen part, from examples to features, and the trained one, from features to logits, of the same layers.

    Raises:
        Fault: what is trained is not a chain of layers at the end.
    """
    network = _network(model)
    first = next(place for place, layer in enumerate(network.layers) if layer.trainable_variables)
    while isinstance(network.layers[first - 1], keras.layers.Dropout):  # is another one in every epoch
        first -= 1
    chain, before = network.layers[first:], network.layers[first - 1]
    for layer in chain:
        if layer.input is not before.output:
            raise Fault(f"train.transfer.mode must not be cached with {network.name}, which branches at {before.name}")
        before = layer
    frozen = keras.Model(network.input, chain[0].input, name="frozen")
    trunk = keras.Model(model.input, frozen(model.get_layer("normalization").output), name="trunk")
    x = features = keras.Input(chain[0].input.shape[1:], name="features")
    for layer in chain:
        x = layer(x)
    return trunk, keras.Model(features, x, name="head")


def _cached(run: Run, training: Training, trunk: keras.Model) -> Training:
    """The same training on features, which are written to the disk first unless they are there."""
    assert training.ordered  # the recipe has been checked
    data, size = run.facts("prepare"), run.recipe.train.batch_size
    folder = run.cache / "features" / _key(run, trunk)
    for other in folder.parent.glob("*"):
        if other != folder:  # of other weights, other data or another network
            shutil.rmtree(other)
    durable.mkdir(folder)
    validating = image_dataset.validation_split(data)
    for split in dict.fromkeys(("train", validating)):
        store(trunk, training.ordered(split), folder, split=split, count=data["splits"][split], run=run)
    train, validation = Features(folder, "train"), Features(folder, validating)
    return on_features(
        training, lambda epochs: train.epochs(epochs, size, run.recipe.seed), lambda: validation.batches(size)
    )


def on_features(
    training: Training, batches: Callable[[range], tf.data.Dataset], validation: Callable[[], tf.data.Dataset]
) -> Training:
    """The same training on batches of (features, labels) in the place of (examples, labels)."""
    assert training.targets  # where there are features, there are targets for them
    targets = training.targets
    return replace(
        training,
        batches=lambda model, epochs: batches(epochs).map(targets(model, weighted=True)),
        validation=lambda model: validation().map(targets(model, weighted=False)),
        plain=None,
    )


def _key(run: Run, trunk: keras.Model) -> str:
    """Changes with whatever features depend on: weights, data, how they are read, framed and normalised, code."""
    recipe = run.recipe
    manifest = run_files.read_json(run.finished("prepare") / run_files.MANIFEST)
    parts = [trainer.weights_digest(trunk), trunk.get_layer("normalization").get_config(), manifest["digest"]]
    parts += [recipe.model.builder, recipe.model.arguments, run.code("train")]
    parts += [recipe.train.precision, run_files.versions()]
    return run_files.digest(parts).removeprefix("sha256:")[:16]


def store(trunk: keras.Model, examples: tf.data.Dataset, folder: Path, *, split: str, count: int, run: Run) -> None:
    """Write what `trunk` makes of each example, and the labels, in files of 1,024; those already there are kept.

    Args:
        examples: the split's `count` examples in order, as (examples, labels) in batches.
    """
    files = math.ceil(count / ROWS)
    done = next((number for number in range(files) if not _file(folder, split, number).is_file()), files)
    if done == files:
        run.console.print(f"          features of {count:,} {split} examples exist already")
        return
    answer = inference.predictor(trunk, lambda batch: tf.cast(trunk(batch, training=False), tf.float32))
    batches = iter(examples.rebatch(BATCH).skip(done * ROWS // BATCH))
    with data_validation.progress(run.console) as bar:
        task = bar.add_task(f"features of {split}", total=files, completed=done)
        for number in range(done, files):
            pairs = [(answer(batch), labels.numpy()) for batch, labels in islice(batches, ROWS // BATCH)]
            features, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
            _save(_file(folder, f"{split}-labels", number), labels)
            _save(_file(folder, split, number), features)
            bar.advance(task)
    run.console.print(f"          wrote features of {count:,} {split} examples to {folder}")


class Features:
    """A split's features as `store` left them: float32 (N, …), read from the disk as they are needed; labels (N,)."""

    def __init__(self, folder: Path, split: str) -> None:
        self.files = list(_loaded(folder, split, mmap_mode="r"))
        self.labels = np.concatenate(list(_loaded(folder, f"{split}-labels")))

    def rows(self, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The features of the examples with these numbers, float32 (N, …)."""
        return np.stack([self.files[number // ROWS][number % ROWS] for number in numbers])

    def batches(self, size: int) -> tf.data.Dataset:
        """In order: (features (batch, …), labels int64 (batch,))."""
        return tf.data.Dataset.range(len(self.labels)).batch(size).map(self._gathered).prefetch(tf.data.AUTOTUNE)

    def epochs(self, epochs: range, size: int, seed: int) -> tf.data.Dataset:
        """Batches of `epochs`, one after the other, in the order of `input_pipeline.training`, from memory."""
        draw, count = tf.random.experimental, len(self.labels)

        def epoch(number: Any) -> Any:
            key = draw.stateless_fold_in(tf.constant([seed, 0], tf.int32), tf.cast(number, tf.int32))
            rows = draw.stateless_shuffle(tf.range(count), key)
            return tf.data.Dataset.from_tensor_slices(rows).batch(size).map(self._gathered)

        return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch).prefetch(tf.data.AUTOTUNE)

    def _gathered(self, numbers: Any) -> Any:
        features = numpy_function(self.rows, [numbers], tf.float32)
        return tf.ensure_shape(features, (None, *self.files[0].shape[1:])), tf.gather(self.labels, numbers)


def _loaded(folder: Path, split: str, **how: Any) -> Iterator[np.ndarray[Any, Any]]:
    number = 0
    while _file(folder, split, number).is_file():
        yield np.load(_file(folder, split, number), **how)
        number += 1


def _file(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05d}.npy"


def _save(path: Path, values: np.ndarray[Any, Any]) -> None:
    with durable.atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)


def _network(model: keras.Model) -> keras.Model:
    """The network behind the normalisation."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def _layers(network: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a network, those of a backbone that is a model inside it among them."""
    for layer in network.layers:
        yield from layer.layers if hasattr(layer, "layers") else [layer]


def _is_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _classifier(network: keras.Model) -> str:
    return str([layer.name for layer in network.layers if layer.trainable_weights][-1])


def _last_blocks(network: keras.Model, count: int, heads: AbstractSet[str]) -> list[list[keras.Layer]]:
    """The last `count` blocks before the layers of these names, which are trained in any case."""
    grouped = blocks(network)
    candidates = {name: layers for name, layers in grouped.items() if heads.isdisjoint(each.name for each in layers)}
    if count > len(candidates):
        names = ", ".join(candidates)
        raise Fault(f"train.transfer.blocks must be at most {len(candidates)}, got {count}; the blocks are {names}")
    return list(candidates.values())[len(candidates) - count :]
