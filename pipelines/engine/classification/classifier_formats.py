"""What of a classifier is converted to other formats: from a batch to the probabilities of its classes."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.metrics.classification import wilson_interval
from pipelines.engine.classification import calibration
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.export.formats import Convertible, Outputs
from pipelines.export.savedmodel import Answer


def convertible(
    run: Run,
    model: keras.Model,
    *,
    tensor: tf.TensorSpec,
    preprocessing: dict[str, Any],
    examples: Callable[[str], Iterator[tuple[Any, Any]]],
    answer: Answer = savedmodel.probabilities,
) -> Convertible:
    """The classifier of a run.

    Args:
        model: the trained one.
        tensor: what it takes.
        preprocessing: for `network.json`.
        examples: one pass over a split: (batch of the input, labels int64 (batch,)).
        answer: a batch to probabilities, by asking the model.
    """
    probabilities = partial(answer, model)
    threshold = calibration.acceptance_threshold(run)
    return Convertible(
        model=model,
        answer=lambda batch: {"probabilities": probabilities(batch)},
        tensor=tensor,
        about={
            "preprocessing": preprocessing,
            "outputs": {"probabilities": "of each class, in the order of `classes`; their sum is 1"},
            "classes": run.facts("prepare")["classes"],
            **({"accepted_from": threshold} if threshold is not None else {}),
        },
        examples=examples,
        changed=_changed,
        score=lambda outputs, labels: outputs["probabilities"].argmax(axis=-1) == labels,
        measure=_accuracy,
        metric="accuracy",
    )


def _changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
    classes, others = (outputs["probabilities"].argmax(axis=-1) for outputs in (expected, actual))
    return int((classes != others).sum()), len(classes)


def _accuracy(scores: list[Any]) -> tuple[float, tuple[float, float]]:
    right = np.concatenate(scores)
    return float(right.mean()), wilson_interval(int(right.sum()), len(right))
