"""The normalisation of images: fitted on the training split, and the layer that a network begins with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras.data import input_pipeline
from cnn_keras.data.files import durable
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.transforms import whitening
from cnn_keras.layers import Whitening
from pipelines.data import run_files
from pipelines.data.image_config import WHITENED

FILE = "whitening.npz"  # of a prepared folder: `mean` and `matrix`


def fit(folder: Path, shape: Shape, kind: str, size: int) -> dict[str, Any]:
    """What `layer` takes, fitted on the training split in one pass: the arguments of Keras's Normalization.

    Of `zca` and `pca` they are the name of a file in `folder`, and its digest.
    """
    if kind == "rescale":
        return {"axis": None, "mean": 0.0, "variance": 255.0**2}
    batches = input_pipeline.batches(folder, "train", shape, count=size, batch_size=256).as_numpy_iterator()
    if kind in WHITENED:
        mean, matrix = whitening.fit((images for images, _ in batches), kind)
        with durable.atomic_write(folder / FILE, suffix=".npz") as temporary:
            np.savez(temporary, mean=mean, matrix=matrix)
        return {"whitening": FILE, "digest": run_files.file_digest(folder / FILE)}
    count, total, squares = (
        0,
        np.zeros((*shape.size, shape.channels)),
        np.zeros((*shape.size, shape.channels)),
    )
    for images, _ in batches:
        exact = images.astype(np.float64)
        count += len(images)
        total += exact.sum(axis=0)
        squares += (exact**2).sum(axis=0)
    if kind == "mean_image":
        return {"axis": [1, 2, 3], "mean": (total / count).tolist(), "variance": np.ones_like(total).tolist()}
    mean = (total / count).mean(axis=(0, 1))
    variance = (squares / count).mean(axis=(0, 1)) - mean**2
    if kind == "mean":
        return {"axis": -1, "mean": mean.tolist(), "variance": np.ones_like(mean).tolist()}
    return {"axis": -1, "mean": mean.tolist(), "variance": np.maximum(variance, 1.0).tolist()}


def layer(fitted: Mapping[str, Any], prepared: Path | None = None) -> keras.layers.Layer:
    """The layer `normalization` of what `fit` gave; `prepared` is the folder that it was given."""
    if "whitening" not in fitted:
        return keras.layers.Normalization(**fitted, name="normalization")
    assert prepared is not None, "a matrix is in a file of the prepared folder"
    with np.load(prepared / fitted["whitening"]) as values:
        return Whitening(values["mean"], values["matrix"], name="normalization")
