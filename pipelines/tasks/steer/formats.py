"""What of a network that steers is converted to other formats: the mixture of angles that it thinks likely.

With `export.donkeycar` it is what a Donkey Car's pilot `linear` takes and answers instead: donkeycar 5's
`parts.interpreter.TfLite` gives `img_in`, float32 (1, height, width, channels) in [0, 1], of the camera's own size, and
reads the angle and the throttle from `n_outputs0` and `n_outputs1`, each (1, 1).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import records
from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault
from cnn_keras.losses import mixture_density
from cnn_keras.losses.mixture_density import Mixture
from cnn_keras.ops.resize import resize_matrices
from pipelines.data import image_dataset
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.steer import dataset
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer.model import Steerer, named
from pipelines.tasks.steer.predictions import BATCH, bootstrap_interval

MEANINGS = {
    "weights": "of the normal distributions of the mixture; their sum is 1",
    "means": "of each, as shares of full lock, −1 for full left to 1 for full right; the angle is the mixture's median",
    "scales": "standard deviation of each",
}


def convertible(run: Run) -> Convertible:
    """From frames of the network's size to mixtures; a decision is the angle, their median, to `export.tolerance`."""
    steerer, tolerance = steer_model.steerer(run), run.recipe.export.tolerance
    shape = image_dataset.shape_of(run.recipe.data)
    if run.recipe.export.donkeycar:
        return _donkeycar(run, steerer)

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for batch in dataset.examples(run, split).batch(BATCH):
            yield batch["image"].numpy(), batch["angle"].numpy().reshape(-1)

    def answer(images: Any) -> Outputs:
        mixtures = steerer.mixtures(images).items()
        return {key: value for name, mixture in mixtures for key, value in named(name, mixture._asdict()).items()}

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        far = np.abs(_angle(expected) - _angle(actual)) > tolerance
        return int(far.sum()), len(far)

    return Convertible(
        model=steerer.model,
        answer=answer,
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": {key: text for name in steerer.scales for key, text in named(name, MEANINGS).items()},
            "interval": run.recipe.export.interval,
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, angles: np.abs(_angle(outputs) - angles),
        measure=_error,
        metric="mae",
        sign=-1,
    )


def _donkeycar(run: Run, steerer: Steerer) -> Convertible:
    """From frames as the camera takes them, in [0, 1], to angle and throttle; a decision is either."""
    example, tolerance = dataset.example(run), run.recipe.export.tolerance
    shape, folder = image_dataset.shape_of(run.recipe.data), run.finished("prepare")

    def frames(split: str) -> tf.data.Dataset:
        rows = records.read(folder, split, features=example.features)
        return rows.map(lambda row: (decode(row["image"], channels=shape.channels), example.pack(row)[1]))

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for images, truth in frames(split).batch(BATCH):
            yield images.numpy() / np.float32(255), truth.numpy()

    sizes = {tuple(image.shape) for split in run.facts("prepare")["splits"] for image, _ in frames(split)}
    if len(sizes) > 1:
        raise Fault(f"export.donkeycar requires frames of one size, got {' and '.join(map(str, sorted(sizes)[:2]))}")
    (camera,) = sizes
    down, across = resize_matrices(camera[:2], shape.size, fit=shape.fit)

    def answer(images: Any) -> Outputs:
        rows = tf.matmul(
            tf.transpose(tf.round(images * 255.0), (0, 2, 3, 1)), down.T
        )  # LiteRT reads no einsum of these
        resized = tf.transpose(tf.matmul(tf.transpose(rows, (0, 3, 2, 1)), across.T), (0, 1, 3, 2))
        mixtures = steerer.mixtures(tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8))
        erf = mixture_density.simple_erf  # LiteRT has none
        medians = [mixture_density.quantile(mixture, 0.5, erf=erf)[:, None] for mixture in mixtures.values()]
        return {f"n_outputs{number}": median for number, median in enumerate(medians)}

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        far = [np.abs(expected[name] - actual[name]) > tolerance for name in expected]
        return int(np.sum(far)), int(np.size(far))

    return Convertible(
        model=steerer.model,
        answer=answer,
        tensor=tf.TensorSpec((None, *camera), tf.float32, name="img_in"),
        about={
            "preprocessing": {
                "kind": "image",
                "channels": shape.channels,
                "size": list(camera[:2]),
                "values": "0 to 1",
            },
            "outputs": {"n_outputs0": "the angle, −1 for full left to 1 for full right", "n_outputs1": "the throttle"},
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, truth: np.abs(outputs["n_outputs0"][:, 0] - truth[:, 0]),
        measure=_error,
        metric="mae",
        sign=-1,
    )


def _angle(outputs: Outputs) -> Any:
    return mixture_density.quantile(Mixture(*(outputs[name] for name in Mixture._fields)), 0.5).numpy()


def _error(scores: list[Any]) -> tuple[float, tuple[float, float]]:
    errors = np.concatenate(scores)
    low, high = bootstrap_interval(errors)
    return float(errors.mean()), (low, high)
