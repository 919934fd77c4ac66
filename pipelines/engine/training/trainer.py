"""The one training loop: compile, fit, keep the best, resume, stop on NaN.

Keras's `fit` runs the epochs. What happens between two of them is one callback, and everything it decides – is this
the best epoch, has patience run out, must the plateau schedule lower the rate – is a function of the history so far.
So the whole state of a training is its variables (weights, optimiser, random seeds) and its history, written after
every epoch into one file, for good. A killed training goes on from that file and, on a CPU, ends bit-identical.

A finished training that is extended goes on with its optimiser: at the same rate under `constant`, under `step` at the
last one unless milestones are left, under `plateau` at what the whole history makes of it. The rate of `cosine` has
come to zero: it begins again at `learning_rate` and falls to zero over the added epochs, as in the warm restarts of
Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
"""

import csv
import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules
from rich.console import Console
from tensorflow.python.framework import config

from cnn_keras.data.files import durable
from cnn_keras.data.files.durable import write_text
from cnn_keras.data.transforms import deferred
from cnn_keras.errors import Fault
from cnn_keras.schedules import Delayed, WarmUp
from cnn_keras.weights import checkpoints
from pipelines.data.run_files import STATE, is_whole, set_aside
from pipelines.engine import devices, requirement
from pipelines.engine.recipe import Train
from pipelines.engine.training import batch_norm_statistics, optimizers
from pipelines.engine.training.input_profile import Clock, Probe
from pipelines.export import savedmodel
from pipelines.plots import charts

log = logging.getLogger(__name__)

Row = dict[str, float]
TIMINGS = ("seconds", "images_per_second", "input_share")
HDF5_OVERHEAD = 4096  # bytes, the most that a variable takes in a file besides its values
UNMEASURED = ("learning_rate", *TIMINGS)  # what a row of the history holds besides losses and metrics


class Numerics(Protocol):
    """What a section says of how its numbers are computed."""

    @property
    def deterministic(self) -> bool | Literal["auto"]: ...

    @property
    def precision(self) -> str: ...

    @property
    def xla(self) -> bool: ...


def set_up(seed: int, settings: Numerics) -> None:
    """Make the process ready for a training: devices, generators from one seed, determinism, number format.

    All of them are the process's; `startup.numerics` puts back what was there before.

    Raises:
        Fault: fewer devices than the recipe wants, or several with XLA; a precision that has not been chosen.
    """
    if settings.precision == "auto":
        raise Fault(
            "train.precision must name a precision in a task of your own, unless its training begins with "
            "pipelines.engine.training.precision_choice.settled, got auto"
        )
    devices_used = devices.use(settings.devices if isinstance(settings, Train) else 1)  # what is painted is no batch
    if settings.xla and devices.count() > 1:
        raise Fault(f"train.xla must be false with several devices, got {devices.count()}; or set train.devices to 1")
    precision, gpus = settings.precision, [name for name in devices_used if "GPU" in name]
    deterministic = settings.deterministic
    if deterministic == "auto":
        deterministic = not (settings.xla or gpus)
        if not deterministic:
            log.warning(
                "train.deterministic: auto is off with %s: a second training differs in the last bits",
                "train.xla" if settings.xla else "a GPU",
            )
    keras.utils.set_random_seed(seed)
    (config.enable_op_determinism if deterministic else config.disable_op_determinism)()
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    if precision == "float16" and not gpus:
        log.warning(
            "train.precision: float16 is for GPUs: on a CPU its gradients take tens of times as long; bfloat16 is the "
            "half precision of CPUs"
        )


def fit(
    model: keras.Model,
    settings: Train,
    folder: Path,
    *,
    batches: Callable[[range], tf.data.Dataset],
    validation: tf.data.Dataset,
    images: int,
    console: Console,
    on_epoch: Callable[[int, Row], None],
    extend_to: int | None = None,
    probe: Probe | None = None,
) -> list[Row]:
    """Train a compiled `model` in `folder`, going on from the state found there; leave it with its best weights.

    Args:
        batches: the training batches of the epochs in a range, ceil(images / batch_size) for each epoch.
        images: how many training images there are.
        on_epoch: told the number of an epoch, from 1, and its row; those of a training that goes on are told again.
        extend_to: train up to this epoch instead of `settings.epochs`, whatever patience says.
        probe: tells how fast the input is beside the network.

    Returns:
        The history: one row per epoch with losses, metrics, learning rate and timings.

    Raises:
        Fault: the loss stopped being a number, or the monitored value never was one (code DIVERGED); what was
            reached before stays in `folder`.
    """
    clock = Clock() if settings.steps_per_execution == 1 else None
    reporting = {"images": images, "console": console, "on_epoch": on_epoch, "clock": clock, "probe": probe}
    keeper = _keeper(model, settings, folder, **reporting)
    keeper.restore()
    done = len(keeper.history)
    if devices.count() > 1:
        told_of = devices.explanation(settings.batch_size, synchronized=settings.synchronize_batch_norm)
        console.print(f"          {told_of}")
    for number, row in enumerate(keeper.history, 1):
        on_epoch(number, row)
    epochs, steps = extend_to or settings.epochs, math.ceil(images / settings.batch_size)
    if done:
        console.print(f"          resumed after epoch {done} of {epochs}")
    stopped = not extend_to and patience_is_over(keeper.history, settings)
    if done < epochs and not stopped:
        keeper.epochs, keeper.patient = epochs, bool(extend_to)
        if extend_to:
            keeper.extend(extend_to, steps)
        stream = batches(range(done, epochs))
        if probe and clock:
            probe.measure(stream)
        model.fit(
            clock.stamped(stream) if clock else stream,
            validation_data=validation,
            initial_epoch=done,
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the batches come in their order
            callbacks=[keeper],
            verbose=0,
        )
    keeper.restore_best()
    return list(keeper.history)


def compile_model(
    model: keras.Model,
    settings: Train,
    *,
    loss: Any,
    metrics: Any,
    steps: int,
    loss_weights: Any = None,
    shares: Sequence[float] | None = None,
) -> None:
    """Compile with the recipe's optimiser and schedule. A step first augments the images of a batch left to it.

    Args:
        steps: the batches of one epoch.
        shares: of the learning rate, one for each trainable variable; all have the whole of it unless given.
    """
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    kind = optimizer[settings.optimizer]
    if devices.count() > 1:
        kind = optimizers.of_all_devices(kind)
    if settings.ema is not None and settings.accumulate > 1:
        kind = optimizers.averaging(kind)
    with devices.scope():
        optimizer_ = (optimizers.layerwise(kind, shares) if shares else kind)(
            schedule(settings, steps),
            **({"momentum": settings.momentum} if settings.optimizer == "sgd" else {}),
            weight_decay=settings.weight_decay or (0.0 if settings.optimizer == "adamw" else None),
            global_clipnorm=settings.clip_norm,
            gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
            use_ema=settings.ema is not None,
            ema_momentum=settings.ema or 0.0,
        )
        if settings.weight_decay:  # biases and normalisation are not decayed
            optimizer_.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "coefficient"])
        if settings.precision == "float16":  # whose small gradients would be 0; bfloat16 has the range of float32
            optimizer_ = keras.optimizers.LossScaleOptimizer(optimizer_)
        model.compile(
            optimizer_,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            jit_compile=settings.xla,
            steps_per_execution=settings.steps_per_execution if devices.count() == 1 else 1,
        )
    model.train_step = lambda batch: type(model).train_step(model, deferred.augmented(batch))
    devices.distribute(model, synchronized=settings.synchronize_batch_norm)


def schedule(settings: Train, steps: int) -> Any:
    """The learning rate as a number or as a Keras schedule of the optimiser's step counter, `steps` per epoch."""
    rate = settings.learning_rate
    match settings.schedule:
        case "cosine":
            chosen_schedule = schedules.CosineDecay(rate, settings.epochs * steps)
        case "step":
            boundaries = [epoch * steps for epoch in settings.milestones]
            values = [rate / 10**drop for drop in range(len(boundaries) + 1)]
            chosen_schedule = schedules.PiecewiseConstantDecay(boundaries, values)
        case "constant" if settings.warmup_epochs:
            chosen_schedule = schedules.PiecewiseConstantDecay([0], [rate, rate])
        case _:  # the plateau schedule sets the rate between epochs
            return rate
    return WarmUp(chosen_schedule, settings.warmup_epochs * steps) if settings.warmup_epochs else chosen_schedule


def extension(settings: Train, start: int, end: int, steps: int) -> Any:
    """The rate when training is extended from epoch `start` to `end`, of `steps` each; None leaves it as it was."""
    if settings.schedule != "cosine":
        return None
    return Delayed(schedules.CosineDecay(settings.learning_rate, (end - start) * steps), start * steps)


def conclude(
    model: keras.Model,
    history: list[Row],
    settings: Train,
    folder: Path,
    *,
    console: Console,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Leave `model.keras` and the curves, with this metric where there is one; the facts of a training that is over."""
    savedmodel.save_keras(model, folder / "model.keras")
    best, digest = best_epoch(history, settings.monitor), weights_digest(model)
    charts.curves(history, folder / "curves.png", metric=metric, best=best)
    console.print(f"          best epoch {best} of {len(history)}; weights {digest}")
    return {
        "digest": digest,
        "epochs": len(history),
        "best_epoch": best,
        "parameters": model.count_params(),
        "metrics": {f"best_{key}": value for key, value in history[best - 1].items() if key.startswith("val_")},
    }


def best_epoch(history: list[Row], monitor: str) -> int:
    """The number, from 1, of the best epoch; the first of equals; 0 when there is none. What is no number never is."""
    place = requirement.best([row[monitor] for row in history], lowest=monitor.endswith("loss"))
    return 0 if place is None else place + 1


def patience_is_over(history: list[Row], settings: Train) -> bool:
    """Whether the watched figure has not improved for `patience` epochs."""
    waited = len(history) - best_epoch(history, settings.monitor)
    return settings.patience is not None and waited >= settings.patience


def plateau_rate(history: list[Row], settings: Train) -> float:
    """The rate that the plateau schedule gives the next epoch: a tenth each time patience runs out."""
    drops, since = 0, 0
    for epoch in range(1, len(history) + 1):
        last = max(best_epoch(history[:epoch], settings.monitor), since)
        if epoch - last >= settings.plateau_patience:
            drops, since = drops + 1, epoch
    return float(settings.learning_rate / 10**drops)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over the bytes of the weights, in order."""
    sha = hashlib.sha256()
    for weight in model.weights:
        sha.update(weight.numpy().tobytes())
    return f"sha256:{sha.hexdigest()}"


def _keeper(model: keras.Model, settings: Train, folder: Path, **reporting: Any) -> Any:
    """The callback, made here because its base class costs an import of Keras."""
    clock: Clock | None = reporting["clock"]
    probe: Probe | None = reporting["probe"]

    class Keeper(keras.callbacks.Callback):
        """Between two epochs: append to the history, keep the best, write the state, say a line, decide to stop."""

        def __init__(self) -> None:
            super().__init__()
            self.history: list[Row] = []
            self.extended = {"start": 0, "end": 0}  # the epochs that the training was extended from and to at last
            self.epochs = settings.epochs
            self.patient = False
            self.hinted, self.steps = False, math.ceil(reporting["images"] / settings.batch_size)
            model.optimizer.build(model.trainable_variables)
            self.variables = [*model.variables, *model.optimizer.variables]

        def restore(self) -> None:
            """Go on from the state in the folder, if there is one and it is whole, and so are the weights kept."""
            if not is_whole(folder / STATE):
                return
            with np.load(folder / STATE) as state:
                history = json.loads(str(state["history"]))
                best = best_epoch(history, settings.monitor)
                if best and not _is_sound(folder / best_file(best)):
                    return
                self.history = history
                self.extended = json.loads(str(state["extended"])) if "extended" in state else self.extended
                self._compare(json.loads(str(state["machine"])) if "machine" in state else devices.machine())
                for number, variable in enumerate(self.variables):
                    variable.assign(state[str(number)])
            self._set_plateau_rate()
            write_history(self.history, folder)

        def _compare(self, before: dict[str, int]) -> None:
            """Tell what keeps the training from ending as one that was not interrupted, to the bit."""
            now = devices.machine()
            before = {"hosts": 1, **before}  # earlier versions knew of no others
            changed = [f"{before[key]} {key}, now {now[key]}" for key in now if before[key] != now[key]]
            if changed:
                reporting["console"].print(
                    f"          [yellow]started on {' and '.join(changed)}[/]: the last bits will differ"
                )

        def extend(self, epochs: int, steps: int) -> None:
            """Set the rate for the way to `epochs`, unless that was begun before it was interrupted."""
            if self.extended["end"] != epochs:
                self.extended = {"start": len(self.history), "end": epochs}
            rate = extension(settings, self.extended["start"], epochs, steps)
            if rate is not None:
                model.optimizer.learning_rate = rate

        def restore_best(self) -> None:
            best = best_epoch(self.history, settings.monitor)
            if not best:
                raise Fault(
                    f"training must give a {settings.monitor} that is a number, got none in {len(self.history)} "
                    f"epochs; lower train.learning_rate (now {settings.learning_rate}), or check the validation "
                    "split for examples whose loss is not a number",
                    code=Fault.DIVERGED,
                )
            load_best(model, folder, best)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()
            if clock:
                clock.new_epoch()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if clock:
                clock.begin()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                raise _diverged(settings, len(self.history) + 1)
            self.trained = time.perf_counter()
            if clock:
                clock.end()
                if probe:
                    probe.tell(clock)

        def on_test_begin(self, logs: Any = None) -> None:
            devices.merge_statistics(model)
            _swap_average(model, settings)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seconds, training = time.perf_counter() - self.started, self.trained - self.started
            row = _figures(logs)
            row["learning_rate"] = float(tf.convert_to_tensor(model.optimizer.learning_rate))
            row |= {"seconds": round(seconds, 3), "images_per_second": round(reporting["images"] / training, 1)}
            if clock:
                row["input_share"] = round(clock.share, 4)
                if probe:
                    probe.tell(clock, now=True)
            self.history.append(row)
            best = best_epoch(self.history, settings.monitor)
            if best == epoch + 1:
                _save_weights(model, folder / best_file(best))
            _swap_average(model, settings)
            self._set_plateau_rate()
            self._write()
            for path in folder.glob(best_file("*")):
                if path.name != best_file(best):
                    path.unlink()
            reporting["console"].print(_line(self.history, self.epochs, is_best=best == epoch + 1))
            if not math.isfinite(row[settings.monitor]):
                missing = f"{settings.monitor} of epoch {epoch + 1} is not a number"
                reporting["console"].print(f"          [yellow]{missing}[/]: this epoch cannot be the best")
            if not self.hinted and (hint := batch_norm_statistics.hint(model, self.history, steps=self.steps)):
                self.hinted = True
                reporting["console"].print(f"          [yellow]{hint}[/]")
            reporting["on_epoch"](epoch + 1, row)
            if patience_is_over(self.history, settings) and not self.patient:
                reporting["console"].print(
                    f"          stopped: no improvement of {settings.monitor} for {settings.patience} epochs"
                )
                model.stop_training = True

        def _set_plateau_rate(self) -> None:
            if settings.schedule == "plateau":
                model.optimizer.learning_rate = plateau_rate(self.history, settings)

        def _write(self) -> None:
            values: dict[str, Any] = {"history": json.dumps(self.history), "extended": json.dumps(self.extended)}
            values["machine"] = json.dumps(devices.machine())
            values |= {str(number): variable.numpy() for number, variable in enumerate(self.variables)}
            with durable.atomic_write(folder / STATE) as temporary, temporary.open("wb") as file:
                np.savez(file, **values)
            write_history(self.history, folder)

    return Keeper()


def best_file(epoch: int | str) -> str:
    """The name of the file that holds the weights of an epoch."""
    return f"best-{epoch}.weights.h5"


def load_best(model: keras.Model, folder: Path, epoch: int) -> None:
    """Give the model the weights that an epoch left; a Fault if the file is damaged."""
    checkpoints.check(folder / best_file(epoch))
    model.load_weights(folder / best_file(epoch))


def _is_sound(path: Path) -> bool:
    """Whether a file of weights is there and is what was written; a damaged one is told and set aside."""
    try:
        checkpoints.check(path)
    except Fault:
        if path.is_file():
            set_aside(path)
        return False
    return True


def _figures(logs: dict[str, Any]) -> Row:
    """Losses and metrics as plain numbers; beside auxiliary heads those of `logits` go by the plain names."""
    row = {key: float(value) for key, value in logs.items()}
    if "logits_loss" in row:
        row = {key.replace("logits_", ""): value for key, value in row.items() if key not in ("loss", "val_loss")}
    return row


def _swap_average(model: keras.Model, settings: Train) -> None:
    """Exchange the weights and their moving average, exactly: Keras's own swap rounds."""
    if settings.ema is None:
        return
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    for weight, average in zip(model.trainable_variables, optimizer._model_variables_moving_average, strict=True):
        value = weight.numpy()
        weight.assign(average)
        average.assign(value)


def size_in_bytes(variables: Sequence[Any]) -> int:
    """What the values of variables take."""
    return sum(math.prod(variable.shape) * tf.as_dtype(variable.dtype).size for variable in variables)


def _save_weights(model: keras.Model, path: Path) -> None:
    variables = [*model.weights, *(model.optimizer.variables if model.optimizer else ())]  # Keras writes them all
    durable.require_space(path.parent, size_in_bytes(variables) + HDF5_OVERHEAD * len(variables))
    with durable.atomic_write(path, suffix=".weights.h5") as temporary:
        model.save_weights(temporary)
        checkpoints.add_checksum(temporary)


def _diverged(settings: Train, epoch: int) -> Fault:
    return Fault(
        f"training diverged: the loss is not a number in epoch {epoch}. Lower train.learning_rate (now "
        f"{settings.learning_rate}), warm up with train.warmup_epochs, or check the labels.",
        code=Fault.DIVERGED,
    )


def _line(history: list[Row], epochs: int, *, is_best: bool) -> str:
    """One epoch for people: metrics, speed, time left, a star at the best so far."""
    row = history[-1]
    keys = sorted((key for key in row if key not in UNMEASURED), key=lambda key: key.split("_")[::-1])
    figures = "  ".join(f"{key} {row[key]:.4f}" for key in keys)
    recent = [row["seconds"] for row in history[-5:]]
    left = (epochs - len(history)) * sum(recent) / len(recent)
    speed = f"{row['images_per_second']:,.0f}/s"
    star = "[yellow]★[/]" if is_best else " "
    return f"          {len(history):>3}/{epochs} {star} {figures}  [dim]{speed}, {left:.0f} s left[/]"


def write_history(history: list[Row], folder: Path) -> None:
    """The rows of the epochs, numbered from 1, as `history.csv`."""
    write_text(folder / "history.csv", _csv(history))


def _csv(history: list[Row]) -> str:
    out = io.StringIO()
    columns = dict.fromkeys(key for row in history for key in row)  # rows of an older version may have fewer
    writer = csv.DictWriter(out, ["epoch", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": number, **row} for number, row in enumerate(history, 1))
    return out.getvalue()
