"""Where a training runs: on one device, or on several that share each batch, of one host or of many.

With several devices every variable is made once on each of them (TensorFlow's MirroredStrategy, and between hosts its
MultiWorkerMirroredStrategy), and a step is run by all of them on their part of the batch, the gradients summed before
the optimiser sees them. Every host reads every batch, its own rows decoded and augmented and the others zeros, as
`cnn_keras.data.host_share` has it. A batch is the recipe's, whatever the number of devices: its examples, their order
and their augmentation are the same, the loss is the mean over all of it, and clipping, accumulation and the learning
rate see the whole gradient. With one device there is no strategy at all.

Differs from what Keras does by itself under a strategy: an uneven batch is shared as evenly as can be and each part
counts by its examples, the gradients are summed before they are clipped, and a dropout mask is drawn for the whole
batch. What cannot be the same is batch normalisation, unless it is synchronised: each device then goes by the
statistics of its own part, and the moving ones are averaged after each epoch; and a loss that compares the examples of
a batch, such as of triplets, which sees the parts one by one.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config

from cnn_keras.data.transforms import deferred
from cnn_keras.errors import Fault

# first and last row of a device's part, and the rows of the batch
_PART: ContextVar[tuple[Any, Any, Any] | None] = ContextVar("part", default=None)
_strategy: tf.distribute.Strategy | None = None
_hosts: tf.distribute.Strategy | None = None  # that of all hosts, once this process has joined them
_chief = True  # whether this process is the first of the hosts
_scope = contextlib.ExitStack()  # in which variables are made for the strategy


@contextlib.contextmanager
def numerics() -> Iterator[dict[str, Any]]:
    """Put back what a training sets in the process: see `startup.numerics`."""
    policy, deterministic = keras.config.dtype_policy(), config.is_op_determinism_enabled()
    record: dict[str, Any] = {}
    try:
        yield record
    finally:
        record["precision"] = keras.config.dtype_policy().name.removeprefix("mixed_")
        record |= {"deterministic": config.is_op_determinism_enabled(), **machine()}
        release()
        keras.config.set_dtype_policy(policy)
        (config.enable_op_determinism if deterministic else config.disable_op_determinism)()


def join(addresses: Sequence[str], index: int, wanted: int | str) -> None:
    """Connect with the other hosts, which waits for all of them; nothing may have been computed in the process before.

    Args:
        addresses: host:port of each; the first is the chief.
        index: of this one.
        wanted: the recipe's `train.devices`, of each host.
    """
    global _hosts, _chief
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices(gpus if wanted == "auto" else [] if wanted == "cpu" else gpus[:wanted], "GPU")
    cluster = tf.train.ClusterSpec({"worker": list(addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type="worker", task_id=index, rpc_layer="grpc"
    )
    _chief, _hosts = index == 0, tf.distribute.MultiWorkerMirroredStrategy(resolver)


def from_chief(message: Any = None) -> Any:
    """What the chief says, a JSON value, on every host; all of them wait for each other here."""
    assert _hosts is not None
    sent = np.frombuffer(json.dumps(message).encode() if _chief else b"", np.uint8).astype(np.int32)
    (length,) = _sum(_hosts)(np.array([len(sent)], np.int32))
    text = _sum(_hosts)(np.pad(sent, (0, int(length) - len(sent))))
    return json.loads(np.asarray(text, np.uint8).tobytes())


@functools.lru_cache
def _sum(strategy: tf.distribute.Strategy) -> Callable[[Any], Any]:
    """What adds up int32 (N,) of all hosts; the first device of each speaks for it."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((None,), tf.int32)])
    def run(values: Any) -> Any:
        def of_device() -> Any:
            replica = tf.distribute.get_replica_context()
            first = tf.cast(replica.replica_id_in_sync_group, tf.int32) % len(strategy.extended.worker_devices) == 0
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, values, 0))

        return strategy.experimental_local_results(strategy.run(of_device))[0]

    return run  # type: ignore[no-any-return]


def device_names(devices: int | str) -> list[str]:
    """The devices that `train.devices` means: `auto` is every GPU, or the CPU where there is none.

    Raises:
        Fault: there are fewer.
    """
    gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
    names = [device.name for device in (gpus if gpus and devices != "cpu" else cpus)]
    if _hosts:  # those of the other hosts are listed too
        names = list(_hosts.extended.worker_devices)
    if not isinstance(devices, int):
        return names
    if devices > len(names):
        raise Fault(f"train.devices must be at most {len(names)}, the devices of this machine, got {devices}")
    return names[:devices]


def use(devices: int | str) -> list[str]:
    """Let what is built from here on live on these devices, until `release`; return their names."""
    global _strategy
    release()
    names = device_names(devices)
    unwanted_gpu = devices == "cpu" and tf.config.list_logical_devices("GPU")
    if _hosts or len(names) > 1 or unwanted_gpu:
        _strategy = _hosts or _mirrored(tuple(names))
        _scope.enter_context(tf.variable_creator_scope(functools.partial(_create, _strategy)))
    return names


def release() -> None:
    """Build on one device again."""
    global _strategy
    _scope.close()
    _strategy = None


def count() -> int:
    """How many devices share a batch."""
    return _strategy.num_replicas_in_sync if _strategy else 1


def host_count() -> int:
    """How many hosts share a batch."""
    return count() // len(_strategy.extended.worker_devices) if _strategy else 1


def machine() -> dict[str, int]:
    """What the last bits of a training depend on: its devices, its hosts and the cores of the processor."""
    return {"devices": count(), "hosts": host_count(), "cores": os.cpu_count() or 1}


def scope() -> Any:
    """What an optimiser is made in."""
    return _strategy.scope() if _strategy else contextlib.nullcontext()


def distribute(model: keras.Model, *, synchronized: bool) -> None:
    """Have a compiled model's steps run on the devices in use; on one device nothing changes.

    Args:
        synchronized: whether batch normalisation goes by the statistics of the whole batch.
    """
    if _strategy is None:
        return
    with _strategy.scope():
        model.optimizer.build(model.trainable_variables)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized
        if isinstance(layer, keras.layers.Dropout):
            layer.call = functools.partial(_dropped, layer)
    model.train_function = _shared(model, _strategy, _train)
    model.test_function = _shared(model, _strategy, _test)


def merge_statistics(model: keras.Model) -> None:
    """Give every device the mean of what they have in variables that are not trained, such as moving averages."""
    if _strategy is None:
        return
    moving = [variable for variable in model.non_trainable_variables if tf.as_dtype(variable.dtype).is_floating]
    for variable, values in zip(moving, _gather(_strategy, [each.value for each in moving]), strict=True):
        values = values.numpy()
        if any((value != values[0]).any() for value in values):
            variable.assign(sum(values) / len(values))


def _gather(strategy: tf.distribute.Strategy, variables: Sequence[Any]) -> list[Any]:
    """The values of each variable on all devices: (devices, ...).

    The graph is of these variables alone: one that is kept for others of their shapes would read the first ones again.
    """

    @tf.function(autograph=False)
    def run() -> list[Any]:
        def of_device() -> list[Any]:
            gather = tf.distribute.get_replica_context().all_gather
            return [gather(variable[None], axis=0) for variable in variables]

        return [strategy.experimental_local_results(values)[0] for values in strategy.run(of_device)]

    return run()  # type: ignore[no-any-return]


def explanation(batch: int, *, synchronized: bool) -> str:
    """A line for people: how a batch is divided among the devices."""
    statistics = "the whole batch" if synchronized else "each device's part"
    where = f" of {host_count()} hosts" if host_count() > 1 else ""
    return (
        f"{count()} devices{where} share each batch of {batch}, {-(-batch // count())} examples each; learning rate "
        f"and loss are those of the whole batch, batch normalisation is that of {statistics}"
    )


@functools.lru_cache
def _mirrored(names: tuple[str, ...]) -> tf.distribute.Strategy:
    """One for a process: two of them get in each other's way."""
    return tf.distribute.MirroredStrategy(list(names))


def _create(strategy: tf.distribute.Strategy, create: Callable[..., Any], **arguments: Any) -> Any:
    """A variable on each device of the strategy."""
    if tf.distribute.has_strategy():
        return create(**arguments)
    with strategy.scope():
        return tf.Variable(**arguments)


def _shared(model: keras.Model, strategy: tf.distribute.Strategy, step: Callable[..., Any]) -> Callable[[Any], Any]:
    """What Keras's `fit` calls for a batch: the step on each device, and the mean of what they answer."""

    def mean(values: Any) -> Any:
        return tf.reduce_mean(tf.stack(strategy.experimental_local_results(values)), axis=0)

    @tf.function(reduce_retracing=True, autograph=False)
    def run(batch: Any) -> Any:
        return tf.nest.map_structure(mean, strategy.run(step, args=(model, batch)))

    def function(batches: Any) -> Any:
        seen = tf.function(deferred.augmented).get_concrete_function(batches.element_spec).structured_outputs
        model._symbolic_build(data_batch=seen)  # metrics, before a device wants them
        return run(next(batches))

    return function


def _train(model: keras.Model, batch: Any) -> Any:
    """Keras's `train_step` on a device's part of the batch."""
    part, rows, share = _part(batch)
    x, y, weights = keras.utils.unpack_x_y_sample_weight(deferred.augmented(part))
    with tf.GradientTape() as tape:
        token = _PART.set(rows)
        answer = model(x, training=True)
        _PART.reset(token)
        loss = _loss(model, x, y, answer, weights, training=True)
        model._loss_tracker.update_state(loss, sample_weight=share * tf.cast(rows[2], "float32"))
        scaled = model.optimizer.scale_loss(loss * tf.cast(share, loss.dtype))
    variables = model.trainable_variables
    gradients = tape.gradient(scaled, variables)
    known = [tf.cast(loss, "float32") * share, *(gradient for gradient in gradients if gradient is not None)]
    whole, *summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, known)
    rest = iter(summed)
    model.optimizer.apply([None if gradient is None else next(rest) for gradient in gradients], variables)
    # The loss of the whole batch: every host must see where it is no number.
    return {**model.compute_metrics(x, y, answer, sample_weight=weights), "loss": whole}


def _test(model: keras.Model, batch: Any) -> Any:
    """Keras's `test_step` on a device's part of the batch, where there is one."""
    part, rows, share = _part(batch)

    def measure() -> Any:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(part)
        answer = model(x, training=False)
        loss = _loss(model, x, y, answer, weights, training=False)
        model._loss_tracker.update_state(loss, sample_weight=share * tf.cast(rows[2], "float32"))
        return model.compute_metrics(x, y, answer, sample_weight=weights)

    return tf.cond(share > 0, measure, model.get_metrics_result)


def _part(batch: Any) -> tuple[Any, tuple[Any, Any, Any], Any]:
    """A device's part of the batch, its rows, its share of them all. Where it has none it gets one, and the share 0."""
    replica = tf.distribute.get_replica_context()
    rows, parts = tf.shape(tf.nest.flatten(batch, expand_composites=True)[0])[0], replica.num_replicas_in_sync
    number = tf.cast(replica.replica_id_in_sync_group, tf.int32)
    first, last = number * rows // parts, (number + 1) * rows // parts
    end = tf.maximum(last, first + 1)
    with tf.device("/CPU:0"):  # a device is sent its part alone
        part = tf.nest.map_structure(lambda values: values[first:end], batch, expand_composites=True)
    return part, (first, end, rows), tf.cast(last - first, "float32") / tf.cast(rows, "float32")


def _loss(model: keras.Model, x: Any, y: Any, answer: Any, weights: Any, *, training: bool) -> Any:
    """The mean loss of a part; Keras's own divides by the number of devices, a model's that has its own does not."""
    loss = model.compute_loss(x=x, y=y, y_pred=answer, sample_weight=weights, training=training)
    divided = type(model).compute_loss is keras.Model.compute_loss
    return loss * tf.cast(count(), loss.dtype) if divided else loss


def _dropped(layer: Any, inputs: Any, training: bool = False) -> Any:
    """Dropout, its mask that of these rows among those of the batch."""
    part = _PART.get()
    if part is None or not training or not layer.rate:
        return type(layer).call(layer, inputs, training=training)
    first, end, rows = part
    whole = tf.ones(tf.concat([[rows], tf.shape(inputs)[1:]], axis=0), inputs.dtype)
    mask = type(layer).call(layer, tf.ensure_shape(whole, (None, *inputs.shape[1:])), training=True)
    return inputs * mask[first:end]
