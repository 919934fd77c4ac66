"""What of a network that answers with numbers is converted to other formats: the numbers and their intervals."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.metrics import regression
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.regress import dataset, model
from pipelines.tasks.regress.report import BATCH

MEANINGS = {
    "values": "the numbers, each in its unit, in the order of `names`",
    "low": "the lower end of each interval",
    "high": "the upper end",
}


def convertible(run: Run) -> Convertible:
    """From images of the network's size to numbers; a decision is a number, to `export.tolerance`."""
    reader, tolerance = model.regressor(run), run.recipe.export.tolerance
    shape, unit = image_dataset.shape_of(run.recipe.data), reader.standard.deviation
    measured = unit if len(reader.names) > 1 else np.ones_like(unit)

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for batch in dataset.examples(run, split).batch(BATCH):
            yield batch["image"].numpy(), batch[dataset.KEY].numpy()

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        far = np.abs(expected["values"] - actual["values"]) / unit > tolerance
        return int(far.sum()), far.size

    return Convertible(
        model=reader.model,
        answer=reader.answer,
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": MEANINGS,
            "names": reader.names,
            "units": reader.units,
            "interval": run.recipe.head.interval,
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, truth: (np.abs(outputs["values"] - truth) / measured).mean(axis=1),
        measure=_error,
        metric="mae",
        sign=-1,
    )


def _error(scores: list[Any]) -> tuple[float, tuple[float, float]]:
    errors = np.concatenate(scores).astype(float)
    low, high = regression.bootstrap_interval(regression.mean_absolute_error, np.zeros_like(errors), errors)
    return float(errors.mean()), (low, high)
