"""Records of images with one number or several: written split by split, read back in their order."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.input_pipeline import Example
from pipelines.data import image_dataset
from pipelines.data import validation as data_validation
from pipelines.data.run_files import Run

SPLITS = ("train", "validation", "test")


def example(key: str, shape: tuple[int, ...] = ()) -> Example:
    """What a record holds: batches are (images, numbers float32 (batch, *shape)); `key` names the numbers."""
    return Example(_features({key: shape}), ("image", key), lambda record: (record["image"], record[key]))


def named_example(keys: tuple[str, ...], inputs: Mapping[str, tuple[int, ...]] | None = None) -> Example:
    """The same of numbers with a name each: batches are (images, numbers float32 (batch, keys)).

    Where the network takes more `inputs`, float32 of these shapes, the images are `image` of a dict with them.
    """
    more = inputs or {}

    def pack(record: dict[str, Any]) -> Any:
        return input_of(record, more), tf.stack([record[key] for key in keys], axis=-1)

    return Example(_features({**dict.fromkeys(keys, ()), **more}), ("image", *keys, *more), pack)


def input_of(record: Mapping[str, Any], more: Collection[str]) -> Any:
    """What a network takes of a record or a batch: the image, or a dict of it and of what it takes more."""
    return {name: record[name] for name in ("image", *more)} if more else record["image"]


def write(
    run: Run,
    folder: Path,
    members_of: Mapping[str, Sequence[Any]],
    *,
    example: Example,
    values: Callable[[Any], tuple[Any, ...]],
) -> None:
    """Write the shards of each split, the training split shuffled; `values` are those of the example's features."""
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("writing records", total=sum(map(len, members_of.values())))
        for split, members in members_of.items():
            if split == "train":
                order = np.random.default_rng(run.recipe.seed).permutation(len(members))
                members = [members[row] for row in order]
            if members:
                records.write(
                    folder,
                    split,
                    members,
                    features=example.features,
                    values=values,
                    resume=True,
                    parallel_map=run.parallel_map,
                    after_row=partial(bar.advance, task),
                )


def encoded_images(folder: Path, split: str, count: int, example: Example) -> list[bytes]:
    """The first pictures of a split as they were recorded."""
    rows = records.read(folder, split, features=example.features).take(count)
    return [row["image"] for row in rows.as_numpy_iterator()]


def examples(run: Run, split: str, example: Example) -> tf.data.Dataset:
    """The examples of a split in their order: dicts of id, image of `data.size` and the numbers."""
    shape = image_dataset.shape_of(run.recipe.data)
    return input_pipeline.decoded_examples(run.finished("prepare"), split, shape, example=example)


def _features(numbers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Those of a record: its id, its encoded image, and float32 of these shapes."""
    features = {name: tf.io.FixedLenFeature((), tf.string) for name in ("id", "image")}
    return features | {name: tf.io.FixedLenFeature(shape, tf.float32) for name, shape in numbers.items()}
