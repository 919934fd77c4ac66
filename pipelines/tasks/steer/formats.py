"""What of a network that steers is converted to other formats: the mixture of angles that it thinks likely."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.losses import mixture_density
from cnn_keras.losses.mixture_density import Mixture
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer.predictions import BATCH
from pipelines.tasks.steer.report import bootstrap_interval

MEANINGS = {
    "weights": "of the normal distributions of the mixture; their sum is 1",
    "means": "of each, as shares of full lock, −1 for full left to 1 for full right; the angle is the mixture's median",
    "scales": "standard deviation of each",
}


def convertible(run: Run) -> Convertible:
    """From frames of the network's size to mixtures; a decision is the angle, their median, to `export.tolerance`."""
    steerer, tolerance = steer_model.steerer(run), run.recipe.export.tolerance
    shape = image_dataset.shape_of(run.recipe.data)

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for batch in dataset.examples(run, split).batch(BATCH):
            yield batch["image"].numpy(), batch["angle"].numpy().reshape(-1)

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        far = np.abs(_angle(expected) - _angle(actual)) > tolerance
        return int(far.sum()), len(far)

    return Convertible(
        model=steerer.model,
        answer=lambda images: dict(steerer.mixture(images)._asdict()),
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": MEANINGS,
            "interval": run.recipe.export.interval,
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, angles: np.abs(_angle(outputs) - angles),
        measure=_error,
        metric="mae",
        sign=-1,
    )


def _angle(outputs: Outputs) -> Any:
    return mixture_density.quantile(Mixture(**outputs), 0.5).numpy()


def _error(scores: list[Any]) -> tuple[float, tuple[float, float]]:
    errors = np.concatenate(scores)
    low, high = bootstrap_interval(errors)
    return float(errors.mean()), (low, high)
