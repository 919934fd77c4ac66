"""`train.precision: auto`: the precision in which the steps of this recipe are fastest on this machine, by measurement.

Before a training begins, a fresh network of the recipe takes a few of its steps in each precision: the same weights,
batches and dropout seed. Taken is the fastest whose mean loss over the first steps is that of float32 within
`TOLERANCE` of it, and float32 where none gains `GAIN`. What was measured is written beside the training, in
`precision.json`; a training that is resumed or extended keeps to it, and so does a finished one on another machine. The
recipe's word, `auto`, is in the fingerprint of the stage and the choice in its manifest, under `numerics`: what comes
after the training depends on its weights, and so on the choice. A setting that changes has it measured anew.

The weights are those of a recipe that names the precision which was chosen, to the bit.
"""

import copy
import gc
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.data.run_files import kept_json, write_json
from pipelines.engine import devices
from pipelines.engine.stages import Run
from pipelines.engine.training import step_timing, task_training
from pipelines.engine.training.step_timing import Step

FILE = "precision.json"
TOLERANCE = 0.05  # of the mean loss of float32: how far that of another precision may be from it
GAIN = 1.1  # times the speed of float32, without which its exactness is worth more
COMPARED = 3  # steps whose losses are compared
STEPS = 20  # of a precision at most
SECONDS = 2.0  # of steps in each precision
WARM_UP = 2  # steps before: one compiles, one allocates


class Choice(NamedTuple):
    """A precision, and why."""

    precision: str
    reason: str


def settled(run: Run, folder: Path | None = None) -> Run:
    """The run with a precision in the place of `auto`; itself where the recipe names one.

    Args:
        folder: of the training, where the choice is written, and read where there is one; None measures and forgets.

    Raises:
        Fault: several hosts, of which each would choose for itself.
    """
    if run.recipe.train.precision != "auto":
        return run
    if run.recipe.untrained:
        return with_settings(run, precision="float32")
    if run.share[1] > 1:
        raise Fault("train.precision must name a precision where several hosts share a training, got auto")
    kept = kept_json(folder / FILE) if folder else None
    if kept is None:
        taken = {precision: _measured(run, precision) for precision in candidates()}
        choice = choose(taken)
        kept = {**choice._asdict(), "milliseconds": {name: 1e3 * step_timing.fastest(taken[name]) for name in taken}}
        kept["loss"] = {name: _loss(taken[name]) for name in taken}
        if folder:
            write_json(folder / FILE, kept)
    run.console.print(f"          precision {kept['precision']}: {kept['reason']}", highlight=False)
    return with_settings(run, precision=kept["precision"])


def candidates() -> list[str]:
    """The precisions that are measured: float16 on GPUs only, because on a CPU it takes tens of times as long."""
    return ["float32", "bfloat16", *(["float16"] if tf.config.list_logical_devices("GPU") else [])]


def choose(taken: Mapping[str, Sequence[Step]]) -> Choice:
    """The fastest precision whose loss agrees with that of float32; the steps are those of each precision."""
    exact = step_timing.fastest(taken["float32"])
    loss = _loss(taken["float32"])
    gains = {name: exact / step_timing.fastest(taken[name]) for name in taken if name != "float32"}
    agree = {name: abs(_loss(taken[name]) - loss) <= TOLERANCE * abs(loss) for name in gains}
    best = max((name for name in gains if agree[name]), key=lambda name: gains[name], default=None)
    told = [
        f"{name} {gain:.2f} times as fast as float32"
        + ("" if agree[name] else f", but its loss {_loss(taken[name]):.4g}")
        for name, gain in gains.items()
    ]
    reason = f"{'; '.join(told)}; a step takes {1e3 * exact:,.1f} ms in float32, with a loss of {loss:.4g}"
    return Choice(best if best and gains[best] >= GAIN else "float32", reason)


def with_settings(run: Run, **changes: Any) -> Run:
    """The same run with other settings of its section `train`."""
    other = copy.copy(run)
    other.recipe = run.recipe.model_copy(update={"train": run.recipe.train.model_copy(update=changes)})
    return other


def _measured(run: Run, precision: str) -> list[Step]:
    """The first steps of a fresh network in a precision, without those of the warm-up."""
    other = with_settings(run, precision=precision, steps_per_execution=1)
    training, size = task_training.inputs(other), other.recipe.train.batch_size
    model = training.compiled(task_training.initial_model(other, training), other.recipe.train)
    few_epochs = step_timing.epochs_for(training.examples, size, count=STEPS)
    batches = training.batches(model, few_epochs)
    taken = step_timing.steps(model, batches, most=STEPS, seconds=SECONDS, warm_up=WARM_UP)
    del model, training, batches
    keras.backend.clear_session()
    gc.collect()
    devices.release()
    return taken


def _loss(taken: Sequence[Step]) -> float:
    """The mean loss of the steps that are compared; infinite where one is no number, which agrees with nothing."""
    loss = step_timing.mean_loss(taken[:COMPARED])
    return loss if math.isfinite(loss) else math.inf
