"""What a network that steers predicts of a split, beside what is true."""

import csv
import io
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.losses import mixture_density
from pipelines.data import split_manifest
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer.model import Steerer

BATCH = 64  # frames that are measured at once


class Predictions(NamedTuple):
    """What is true and what was said of the frames of a split, in their order; each float (frames,)."""

    ids: list[str]
    drives: list[str]
    truth: Array
    angle: Array
    low: Array
    high: Array
    below: Array  # the share of the network's distribution below the truth, in [0, 1]
    losses: Array  # negative log-likelihood, in nats


def predict(run: Run, steerer: Steerer, split: str, advance: Callable[[int], None]) -> Predictions:
    """One pass over a split."""
    ask = inference.predictor(steerer.model)
    columns: dict[str, list[Any]] = {name: [] for name in Predictions._fields}
    for batch in dataset.examples(run, split).batch(BATCH):
        y, truth = ask(batch["image"]), batch["angle"]
        scale = {"unit": steerer.unit, "spread": steerer.spread}
        mixture, outer = mixture_density.decode(y, **scale), (1 - run.recipe.evaluate.interval) / 2
        columns["ids"].append(batch["id"].numpy())
        columns["truth"].append(truth.numpy())
        for name, share in (("angle", 0.5), ("low", outer), ("high", 1 - outer)):
            columns[name].append(mixture_density.quantile(mixture, share).numpy())
        columns["below"].append(mixture_density.cumulative(mixture, truth).numpy())
        columns["losses"].append(mixture_density.negative_log_likelihood(y, truth, **scale).numpy())
        advance(int(tf.size(truth)))
    ids = [name.decode() for name in np.concatenate(columns["ids"])]
    drives = _drives(run)
    arrays = {name: np.concatenate(columns[name]) for name in Predictions._fields[2:]}
    return Predictions(ids, [drives[name] for name in ids], **arrays)


def drives_of(predictions: Predictions) -> Sequence[slice]:
    """Where the drives of a split begin and end among its frames."""
    edges = [
        0,
        *(np.flatnonzero(np.array(predictions.drives[1:]) != np.array(predictions.drives[:-1])) + 1),
        len(predictions.ids),
    ]
    return [slice(int(start), int(end)) for start, end in itertools.pairwise(edges)]


def as_csv(predictions: Predictions) -> str:
    """One row for each frame."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "drive", "truth", "angle", "low", "high", "nll"])
    for row, name in enumerate(predictions.ids):
        figures = (predictions.truth, predictions.angle, predictions.low, predictions.high, predictions.losses)
        writer.writerow([name, predictions.drives[row], *(f"{column[row]:.5f}" for column in figures)])
    return out.getvalue()


def _drives(run: Run) -> dict[str, str]:
    """The drive of each frame."""
    return {row["id"]: row["drive"] for row in split_manifest.rows(run.finished("prepare"))}
