"""The prepared images of classification, read back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from pipelines.data import image_dataset
from pipelines.engine.stages import Run


def ordered_batches(run: Run, split: str) -> tf.data.Dataset:
    """The examples of a split in their order and as they are, in batches: (images uint8, labels int64)."""
    return image_dataset.ordered_batches(run, split, image_dataset.shape_of(run.recipe.data))


def batches(prepared: Path, split: str, shape: Shape) -> Iterator[tuple[Any, Any, list[str]]]:
    """One pass over a split: (images, labels, ids)."""
    for examples in input_pipeline.decoded_examples(prepared, split, shape).batch(128):
        yield examples["image"], examples["label"].numpy(), [name.decode() for name in examples["id"].numpy()]


def pictures(prepared: Path, split: str, shape: Shape, rows: list[int]) -> list[Any]:
    """The images of these rows of a split, read again."""
    examples = enumerate(input_pipeline.decoded_examples(prepared, split, shape).take(max(rows, default=0) + 1))
    images = {row: example["image"].numpy() for row, example in examples if row in rows}
    return [images[row] for row in rows]
