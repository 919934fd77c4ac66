"""How long training waits for its input, and what makes it wait.

A batch is stamped with the time at which the last step of the input pipeline lets go of it; the callback of the
training knows when each step begins. What lies between – if the batch came later – is the wait, and `input_share` is
the sum of an epoch's waits over the time of its steps. The stamp is a call of Python for each batch, in a thread of
tf.data, ahead of the training; the batch goes through untouched.

Not counted are the first step of a training, while TensorFlow compiles, and what input and network cost each other by
sharing a processor. With several steps per execution the waits between them are not seen, and nothing is measured.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from cnn_keras.ops.numpy_function import numpy_function
from pipelines.engine.stages import Run
from pipelines.engine.training import input_benchmark

TINY = 1000  # examples: an epoch of fewer is over before its input is worth a word
SECONDS = 0.5  # for which each pipeline is measured, or one epoch
SETTLED = 2.0  # seconds of training before its speed is told
MUCH = 0.2  # a share of the time that is worth a second line


class Clock:
    """When batches were ready, when steps began and ended. The figures are of the epoch that is running."""

    def __init__(self) -> None:
        self.ready: dict[int, tuple[float, int]] = {}  # by a batch's number: when, and how many examples
        self.step = 0  # of this training
        self.new_epoch()

    def new_epoch(self) -> None:
        """Forget the times of the epoch before."""
        self.waited = self.worked = 0.0  # seconds; the second includes the first
        self.examples = 0

    def stamped(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches; when each one comes is noted."""

        def note(number: Any, labels: Any) -> Any:
            self.ready[int(number)] = time.perf_counter(), len(labels)
            return labels

        def stamp(number: Any, batch: Any) -> Any:
            *others, last = tf.nest.flatten(batch)  # labels or weights, few bytes; what goes nowhere is not called
            noted = numpy_function(note, [number, last], last.dtype)
            return tf.nest.pack_sequence_as(batch, [*others, tf.ensure_shape(noted, last.shape)])

        return batches.enumerate().map(stamp).prefetch(2)

    def begin(self) -> None:
        """Note the beginning of a step."""
        self.begun = time.perf_counter()

    def end(self) -> None:
        """A step is over; the first, which compiles, does not count."""
        arrived, examples = self.ready.pop(self.step, (self.begun, 0))
        if self.step:
            self.waited += max(arrived - self.begun, 0.0)
            self.worked += time.perf_counter() - self.begun
            self.examples += examples
        self.step += 1

    @property
    def share(self) -> float:
        """Of the time of this epoch's steps, how much was spent waiting for input: 0 to 1."""
        return self.waited / self.worked if self.worked else 0.0


class Probe:
    """Tells once, after the first seconds of a training, how fast its input is and how fast its network."""

    def __init__(self, run: Run, plain: Callable[[], tf.data.Dataset], noun: str) -> None:
        self.run, self.plain, self.noun = run, plain, noun
        self.whole: float | None = None  # examples per second of the whole pipeline, alone
        self.bare: float | None = None  # and without augmentation

    def measure(self, batches: tf.data.Dataset) -> None:
        """Measure the input alone, before the training begins: half a second, and another without augmentation."""
        count, size = self.run.facts("prepare")["splits"]["train"], self.run.recipe.train.batch_size
        if count < TINY:
            return
        self.whole = speed(batches, count // size)
        self.bare = speed(self.plain(), count // size) if self.run.recipe.augment else None

    def tell(self, clock: Clock, *, now: bool = False) -> None:
        """Say the line when enough is known, or `now`."""
        if self.whole is None or not clock.worked or not (now or clock.worked > SETTLED):
            return
        bare = f", {self.bare:,.0f} without augmentation" if self.bare else ""
        network = clock.examples / (clock.worked - clock.waited)
        say = self.run.console.print
        say(
            f"          [dim]input {self.whole:,.0f} {self.noun}s/s{bare}; the network takes {network:,.0f}: "
            f"waiting for input {clock.share:.0%} of the time[/]"
        )
        if clock.share > MUCH:
            say(
                f"          [yellow]training is limited by its input[/], mostly by {self._slowest()}; "
                f"`cnn bench input RECIPE` measures each step"
            )
        self.whole = None

    def _slowest(self) -> str:
        """What the input spends its time on."""
        if self.whole is None or self.bare is None or self.whole > 0.8 * self.bare:
            return "reading and decoding"
        if not input_benchmark.has_pictures(self.run.recipe):
            return "augmentation"
        images = next(iter(self.plain()))[0]
        speeds = input_benchmark.augmentations(self.run.recipe, images, seconds=0.2)
        slowest = max(speeds, key=lambda speed: speed.milliseconds)
        return f"the augmentation {slowest.step}"


def speed(batches: tf.data.Dataset, most: int, *, seconds: float = SECONDS) -> float:
    """Examples per second of batches of (examples, …): measured for so long, or `most` batches; 0 if there are none."""
    stream = iter(batches)
    next(stream, None)  # threads start, buffers fill
    examples, started = 0, time.perf_counter()
    for batch in itertools.islice(stream, most):
        examples += len(tf.nest.flatten(batch)[0])
        if time.perf_counter() - started > seconds:
            break
    return examples / (time.perf_counter() - started)
