"""What the steps of a training take, one by one: time, processor time, waiting for input, and the loss of each."""

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from pipelines.engine.training.input_profile import Clock

SECONDS = 3.0  # of training steps that are timed
WARM_UP = 1  # steps before those that are timed: the first one compiles
LEAST = 3  # steps that are timed in any case


class Step(NamedTuple):
    """One step of a training; the time includes the wait for its batch."""

    seconds: float
    waited: float
    cpu: float  # seconds of all threads together, those of the input included
    examples: int
    loss: float  # of this batch, before the step


class Speed(NamedTuple):
    """What some steps of a training came to."""

    images_per_second: float
    cpu_ms: float  # of CPU time per example, input included
    waiting: float  # share of the time in which the step waited for its batch, 0 to 1


def steps(
    model: keras.Model, batches: tf.data.Dataset, *, most: int, seconds: float = SECONDS, warm_up: int = WARM_UP
) -> list[Step]:
    """Train a compiled model for some seconds, `LEAST` steps or more; the model is changed by that.

    Args:
        batches: what `fit` takes, at least `warm_up` + `LEAST` of them.
        most: how many steps there may be, those of the warm-up included.
        warm_up: steps that are not told of, at least 1.
    """
    clock, taken = Clock(), []

    class Timer(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            model.reset_metrics()  # else the loss is a mean since the beginning
            clock.new_epoch()
            self.cpu = time.process_time()
            clock.begin()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            loss = float(logs["loss"])  # waits for the device
            clock.end()
            if batch >= warm_up:
                cpu = time.process_time() - self.cpu
                taken.append(Step(clock.worked, clock.waited, cpu, clock.examples, loss))
            model.stop_training = len(taken) >= LEAST and sum(step.seconds for step in taken) > seconds

    model.fit(
        clock.stamped(batches),
        steps_per_epoch=max(most, warm_up + LEAST),
        shuffle=False,
        callbacks=[Timer()],
        verbose=0,
    )
    return taken


def epochs_for(examples: int, batch_size: int, *, count: int) -> range:
    """The first epochs, as many as have `count` batches: several of a tiny split."""
    return range(math.ceil(count / math.ceil(examples / batch_size)))


def speed(taken: Sequence[Step]) -> Speed:
    """The speed of some steps together."""
    seconds, examples = sum(step.seconds for step in taken), sum(step.examples for step in taken)
    return Speed(
        images_per_second=examples / seconds,
        cpu_ms=1000 * sum(step.cpu for step in taken) / examples,
        waiting=sum(step.waited for step in taken) / seconds,
    )


def fastest(taken: Sequence[Step]) -> float:
    """Seconds of the fastest step without its wait: the time that other programs disturb least."""
    return min(step.seconds - step.waited for step in taken)


def mean_loss(taken: Sequence[Step]) -> float:
    """The mean loss of some steps."""
    return statistics.fmean(step.loss for step in taken)
