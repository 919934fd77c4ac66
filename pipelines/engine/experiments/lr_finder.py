"""The learning-rate finder: the loss while the rate climbs from far too low to far too high.

Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3. Differs from the paper: the rate
climbs exponentially, as Smith's later work and everybody since has it, and the loss of each batch is taken instead of
the accuracy of an epoch.

Two rates are read off the smoothed loss: where it falls most steeply, and a tenth of the rate at its minimum. They
are rules of thumb; between the two there is seldom a wrong rate.
"""

import csv
import io
import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import validation
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, task_training
from pipelines.plots import charts

Array = np.ndarray[Any, np.dtype[Any]]

LOW, HIGH, STEPS = 1e-7, 10.0, 300
WIDTH = 1 / 50  # of the smoothing, as a share of the steps: a Gaussian's standard deviation
DIVERGED = 4.0  # times the lowest loss, averaged: where the climb ends
MEMORY = 0.9  # of that average
LEAST = 20  # steps without which there is nothing to read off


@dataclass(frozen=True)
class Climb:
    """The rates and the loss of each batch, float64 (steps,), and what was read off: rates."""

    rates: Array
    losses: Array
    smooth: Array
    steepest: float
    tenth: float  # of the rate at the minimum


def find(run: Run, *, low: float = LOW, high: float = HIGH, steps: int = STEPS) -> Climb:
    """Prepare the data if need be, then train a fresh model of the run for at most `steps` batches, and forget it.

    Writes `lr.csv` and `lr.png` into the folder `lr` of the run, whose own training is left alone.

    Raises:
        Fault: settings that make no climb, a task that does not train like this, or a loss that is no number at once.
    """
    if not 0 < low < high:
        raise Fault(f"--low must be above 0 and below --high, got {low:g} and {high:g}")
    run = precision_choice.settled(run)
    training = task_training.inputs(run)
    constant = {"schedule": "constant", "milestones": (), "warmup_epochs": 0, "steps_per_execution": 1}
    model = training.compiled(task_training.initial_model(run, training), run.recipe.train.model_copy(update=constant))
    epochs = math.ceil(steps / math.ceil(training.examples / run.recipe.train.batch_size))
    losses = _climbed(run, model, training.batches(model, range(epochs)), np.geomspace(low, high, steps))
    climb = read_off(np.geomspace(low, high, steps)[: len(losses)], losses)
    folder = run.folder / "lr"
    folder.mkdir(exist_ok=True)
    durable.write_text(folder / "lr.csv", _csv(climb))
    charts.rates(climb.rates, climb.losses, climb.smooth, folder / "lr.png", marked=_marked(run, climb))
    return climb


def read_off(rates: Array, losses: Array) -> Climb:
    """Smooth the losses without delay and find the two rates.

    Raises:
        Fault: too few losses.
    """
    if len(losses) < LEAST:
        raise Fault(
            f"the loss must stay a number for {LEAST} batches, got {len(losses)}; use a lower --low or more --steps",
            code=Fault.DIVERGED,
        )
    width = max(1.0, WIDTH * len(losses))
    smooth = smooth_curve(losses, width)
    lowest = int(smooth.argmin())
    slopes = np.gradient(smooth_curve(losses, 2 * width), np.log(rates))
    steepest = int(slopes[: lowest + 1].argmin())
    return Climb(rates, losses, smooth, float(rates[steepest]), float(rates[lowest]) / 10)


def smooth_curve(values: Array, width: float) -> Array:
    """The values, float64 (steps,), under a Gaussian of this standard deviation, their ends repeated beyond."""
    reach = round(4 * width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _climbed(run: Run, model: Any, batches: Any, rates: Array) -> Array:
    """The loss of each batch, at its rate, until it diverges."""
    losses: list[float] = []
    with validation.progress(run.console) as bar:
        task = bar.add_task("climbing", total=len(rates))

        class Climber(keras.callbacks.Callback):
            average, lowest = 0.0, math.inf

            def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
                model.reset_metrics()  # else the loss is a mean since the beginning
                model.optimizer.learning_rate = rates[batch]

            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                loss = float(logs["loss"])
                self.average = MEMORY * self.average + (1 - MEMORY) * loss
                settled = self.average / (1 - MEMORY ** (batch + 1))
                self.lowest = min(self.lowest, settled)
                model.stop_training = not math.isfinite(loss) or settled > DIVERGED * self.lowest
                if math.isfinite(loss):
                    losses.append(loss)
                bar.advance(task)

        model.fit(batches, epochs=1, steps_per_epoch=len(rates), shuffle=False, callbacks=[Climber()], verbose=0)
    return np.array(losses)


def _marked(run: Run, climb: Climb) -> dict[str, float]:
    return {
        "steepest descent": climb.steepest,
        "a tenth of the minimum's": climb.tenth,
        "now": float(run.recipe.train.learning_rate),
    }


def _csv(climb: Climb) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["learning_rate", "loss", "smooth_loss"])
    writer.writerows(
        (f"{rate:.6g}", f"{loss:.6g}", f"{smooth:.6g}")
        for rate, loss, smooth in zip(climb.rates, climb.losses, climb.smooth, strict=True)
    )
    return out.getvalue()
