"""What a training step costs in each precision and at each batch size: `cnn bench train`.

Each row of the table is measured in a process of its own, so that its peak of memory is its own, and one that takes
more memory than there is ends alone. A fresh network of the recipe trains for a few seconds on the recipe's batches,
then those batches are read without a network.
"""

import itertools
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from cnn_keras.errors import Fault
from pipelines.data import validation
from pipelines.engine import recipe as recipes
from pipelines.engine import startup
from pipelines.engine.stages import Run, prepared
from pipelines.engine.training import step_timing, task_training

INPUT_SECONDS = 1.0  # for which the input is measured alone
BATCHES = 200  # that are at hand for a measurement, at most

Row = dict[str, Any]


def precisions() -> list[str]:
    """What is measured unless the user says otherwise: float16 on a GPU only, because on a CPU it takes minutes."""
    return ["float32", "bfloat16", *(["float16"] if tf.config.list_physical_devices("GPU") else [])]


def batch_sizes(reference: str, overrides: Sequence[str], size: int) -> list[int]:
    """Half, once and twice the recipe's batch size, as far as the recipe can have them."""
    return [each for each in (size // 2, size, 2 * size) if each == size or _is_possible(reference, overrides, each)]


def measure(
    run: Run,
    reference: str,
    overrides: Sequence[str],
    *,
    wanted: Sequence[tuple[str, int]],
    seconds: float = step_timing.SECONDS,
) -> list[Row]:
    """Prepare the data if need be, then measure; the folder `train` is left alone.

    Args:
        run: of the recipe, with which `reference` and `overrides` agree.
        wanted: pairs of a precision and a batch size.
        seconds: for which each pair trains after its first step.

    Returns:
        For each pair precision, batch_size, and either `failed`, why it cannot be measured, or images_per_second,
        cpu_ms (of CPU time per example), input_cpu_ms (of that what the input takes alone), waiting (share of the time
        in which the network waited for its input) and memory (bytes: peak of the process, or of the GPU's memory).

    Raises:
        Fault: a task that does not train like this, a batch size that the recipe cannot have.
    """
    task_training.check(run)
    plan = getattr(run.recipe.train, "transfer", None)
    if plan and plan.mode == "cached":
        raise Fault(
            "train.transfer.mode must not be cached for `cnn bench train`: what is trained then is a classifier on "
            "features; measure the network with --set train.transfer.mode=head"
        )
    for precision, size in wanted:
        recipes.load(reference, _changed(overrides, precision, size))
    rows, runs = [], run.folder.parents[1]
    with prepared(run), validation.progress(run.console) as bar:
        task = bar.add_task("", total=len(wanted))
        for precision, size in wanted:
            bar.update(task, description=f"{precision}, batch {size}")
            changed = _changed(overrides, precision, size)
            rows.append({"precision": precision, "batch_size": size, **_apart(reference, changed, runs, seconds)})
            bar.advance(task)
    return rows


def show(rows: Sequence[Row], console: Console, *, noun: str = "image") -> None:
    """The table, and a line about the fastest row."""
    table = Table(
        "precision", "batch", f"{noun}s/s", f"CPU ms/{noun}", "of it input", "waiting", "memory", header_style="dim"
    )
    table.box = None
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row["precision"], str(row["batch_size"]), *_cells(row))
    console.print(table)
    measured = [row for row in rows if "failed" not in row]
    if measured:
        best = max(measured, key=lambda row: row["images_per_second"])
        console.print(
            f"the fastest is [bold]{best['precision']} at batch {best['batch_size']}[/]; another batch size may need "
            "another learning rate"
        )


def _cells(row: Row) -> list[str]:
    if "failed" in row:
        return [row["failed"]]
    return [
        f"{row['images_per_second']:,.1f}",
        f"{row['cpu_ms']:,.2f}",
        f"{row['input_cpu_ms'] / row['cpu_ms']:.0%}",
        f"{row['waiting']:.0%}",
        f"{row['memory'] / 2**20:,.0f} MB",
    ]


def _changed(overrides: Sequence[str], precision: str, size: int) -> list[str]:
    changes = {"precision": precision, "batch_size": size, "steps_per_execution": 1}
    return [*overrides, *(f"train.{key}={value}" for key, value in changes.items())]


def _is_possible(reference: str, overrides: Sequence[str], size: int) -> bool:
    try:
        recipes.load(reference, [*overrides, f"train.batch_size={size}"])
    except Fault:
        return False
    return True


def _apart(reference: str, overrides: Sequence[str], runs: Path, seconds: float) -> Row:
    """Measure in a process of its own."""
    context = multiprocessing.get_context("spawn")  # TensorFlow's threads do not survive a fork
    with ProcessPoolExecutor(1, mp_context=context, initializer=startup.load_silently) as pool:
        try:
            return pool.submit(_measured, reference, overrides, runs, seconds).result()
        except BrokenProcessPool:
            return {"failed": "ended by the system; out of memory?"}


def _measured(reference: str, overrides: Sequence[str], runs: Path, seconds: float) -> Row:
    """What a training of this recipe costs; runs in a process that ends after it."""
    run = Run(recipes.load(reference, overrides), Console(quiet=True), runs)
    run.check()
    size = run.recipe.train.batch_size
    try:
        with startup.numerics():
            training = task_training.inputs(run)
            model = training.compiled(task_training.initial_model(run, training), run.recipe.train)
            batches = training.batches(model, step_timing.epochs_for(training.examples, size, count=BATCHES))
            taken = step_timing.steps(model, batches, most=BATCHES, seconds=seconds)
            memory = _peak()
            return {
                **step_timing.speed(taken)._asdict(),
                "input_cpu_ms": _input_cpu_ms(batches),
                "memory": memory,
                "loss": step_timing.mean_loss(taken[: step_timing.LEAST]),
            }
    except tf.errors.ResourceExhaustedError:
        return {"failed": "out of memory"}


def _input_cpu_ms(batches: tf.data.Dataset) -> float:
    """Milliseconds of CPU time per example that reading the batches takes without a network."""
    stream = iter(batches)
    next(stream)  # threads start, buffers fill
    examples, started, cpu = 0, time.perf_counter(), time.process_time()
    for batch in itertools.islice(stream, BATCHES - 1):
        examples += len(tf.nest.flatten(batch)[0])
        if time.perf_counter() - started > INPUT_SECONDS:
            break
    return 1000 * (time.process_time() - cpu) / examples


def _peak() -> int:
    """Bytes: the most that this process has taken, or its GPU's memory where it has one."""
    if tf.config.list_logical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    status = Path("/proc/self/status")  # of this program alone, where `getrusage` begins with its parent's
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
