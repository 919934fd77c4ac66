"""What a network that steers predicts of a split, beside what is true."""

import csv
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.losses import mixture_density
from pipelines.data import split_manifest
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer.model import Steerer

BATCH = 64  # frames that are measured at once
BLOCK = 25  # frames that are drawn together
DRAWN = 1000  # samples of the bootstrap


class Predictions(NamedTuple):
    """What is true and what was said of a control in the frames of a split, in their order; each float (frames,)."""

    ids: list[str]
    drives: list[str]
    truth: Array
    predicted: Array
    low: Array
    high: Array
    below: Array  # the share of the network's distribution below the truth, in [0, 1]
    losses: Array  # negative log-likelihood, in nats


def predict(run: Run, steerer: Steerer, split: str, advance: Callable[[int], None]) -> dict[str, Predictions]:
    """One pass over a split: what is said of each control."""
    ask, ids = inference.predictor(steerer.model), []
    columns: dict[str, list[dict[str, Any]]] = {name: [] for name in steerer.scales}
    for batch in dataset.examples(run, split).batch(BATCH):
        y = ask(steer_model.seen(batch))
        ids += [name.decode() for name in batch["id"].numpy()]
        parts = zip(steerer.scales.items(), steer_model.parts(y, len(steerer.scales)), strict=True)
        for (name, scale), part in parts:
            columns[name].append(_columns(part, batch[name], scale, run.recipe.evaluate.interval))
        advance(len(batch["id"]))
    drives = _drives(run)
    told = [drives[name] for name in ids]
    return {
        name: Predictions(ids, told, **{key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
        for name, rows in columns.items()
    }


def _columns(y: tf.Tensor, truth: tf.Tensor, scale: steer_model.Scale, interval: float) -> dict[str, Array]:
    """What is true and said of a control in a batch."""
    mixture, outer = scale.read(y), (1 - interval) / 2
    values = {
        "truth": truth,
        "predicted": mixture_density.quantile(mixture, 0.5),
        "low": mixture_density.quantile(mixture, outer),
        "high": mixture_density.quantile(mixture, 1 - outer),
        "below": mixture_density.cumulative(mixture, truth),
        "losses": scale.losses(y, truth),
    }
    return {name: value.numpy() for name, value in values.items()}


def bootstrap_interval(values: Array, confidence: float = 0.95) -> list[float]:
    """The interval of the mean of a series (N,), by a bootstrap of blocks of BLOCK neighbours and a fixed seed."""
    size = min(BLOCK, len(values))
    starts = np.random.default_rng(0).integers(0, len(values) - size + 1, (DRAWN, -(-len(values) // size)))
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    means = ((sums[starts + size] - sums[starts]) / size).mean(axis=1)
    outer = (1 - confidence) / 2
    return [float(value) for value in np.quantile(means, [outer, 1 - outer])]


def drives_of(predictions: Predictions) -> Sequence[slice]:
    """Where the drives of a split begin and end among its frames."""
    edges = [
        0,
        *(np.flatnonzero(np.array(predictions.drives[1:]) != np.array(predictions.drives[:-1])) + 1),
        len(predictions.ids),
    ]
    return [slice(int(start), int(end)) for start, end in itertools.pairwise(edges)]


def as_csv(predictions: Mapping[str, Predictions]) -> str:
    """One row for each frame; the columns of the throttle stand behind those of the angle."""
    out, columns = io.StringIO(), dict[str, Array]()
    for name, own in predictions.items():
        ends = {"low": own.low, "high": own.high, "nll": own.losses}
        columns |= {**steer_model.named(name, {"truth": own.truth}), name: own.predicted}
        columns |= steer_model.named(name, ends)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "drive", *columns])
    first = predictions["angle"]
    for row, (name, drive) in enumerate(zip(first.ids, first.drives, strict=True)):
        writer.writerow([name, drive, *(f"{column[row]:.5f}" for column in columns.values())])
    return out.getvalue()


def _drives(run: Run) -> dict[str, str]:
    """The drive of each frame."""
    return {row["id"]: row["drive"] for row in split_manifest.rows(run.finished("prepare"))}
