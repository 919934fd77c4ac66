"""TFRecord shards: a split of encoded images, frozen as it was validated, read back in the order it was written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

SHARD_BYTES = 2**27  # large enough to stream, small enough that an epoch can mix the shards
FEATURES = {  # of a labelled image
    "id": tf.io.FixedLenFeature((), tf.string),
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}


def box_features(
    most: int, landmarks: int = 0, proposals: int = 0, masks: bool = False
) -> dict[str, tf.io.FixedLenFeature]:
    """The features of an image with boxes, padded to `most` rows: left, top, right, bottom in [0, 1] of the image.

    `classes` are numbers; `difficult` is 1 for what is measured apart. Rows without area are padding, and all zeros.
    Where things have landmarks, these are x, y in [0, 1] of the image and 1 for visible. `proposals` are as many boxes
    that may hold something. With `masks`, `mask` is a PNG as large as the image, the map of
    `cnn_keras.ops.instance_masks`: at each pixel the row of the box that it belongs to, plus 1.
    """
    marks = {"landmarks": tf.io.FixedLenFeature((most, landmarks, 3), tf.float32)} if landmarks else {}
    regions = {"proposals": tf.io.FixedLenFeature((proposals, 4), tf.float32)} if proposals else {}
    return {
        "id": tf.io.FixedLenFeature((), tf.string),
        "image": tf.io.FixedLenFeature((), tf.string),
        "boxes": tf.io.FixedLenFeature((most, 4), tf.float32),
        "classes": tf.io.FixedLenFeature((most,), tf.int64),
        "difficult": tf.io.FixedLenFeature((most,), tf.int64),
        **marks,
        **regions,
        **({"mask": tf.io.FixedLenFeature((), tf.string)} if masks else {}),
    }


def mask_features(borders: bool = False) -> dict[str, tf.io.FixedLenFeature]:
    """The features of an image with a class at each pixel: `mask` is a PNG of the class's number + 1, 0 for unknown.

    With `borders` there is a PNG more, of how much each pixel lies between two things, 255 for wholly.
    """
    names = ("id", "image", "mask", *(["borders"] if borders else []))
    return {name: tf.io.FixedLenFeature((), tf.string) for name in names}


def write(folder: Path, split: str, rows: Iterable[tuple[Any, ...]], *, features: Mapping[str, Any] = FEATURES) -> None:
    """Write rows as `<split>-00000.tfrecord` and so on, memory bounded by one row.

    Args:
        rows: tuples of the values of `features`, in their order: (id, encoded image, label) unless told otherwise.
    """
    shard, count = 0, 0
    writer = tf.io.TFRecordWriter(_shard(folder, split, shard))
    try:
        for row in rows:
            if count >= SHARD_BYTES:
                writer.close()
                shard, count = shard + 1, 0
                writer = tf.io.TFRecordWriter(_shard(folder, split, shard))
            values = dict(zip(features, row, strict=True))
            feature = {name: _feature(value, features[name].dtype) for name, value in values.items()}
            writer.write(
                tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
            )
            count += len(values["image"])
    finally:
        writer.close()


def shards(folder: Path, split: str) -> list[str]:
    """The files of a split, in the order in which they were written."""
    paths = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no records of the split {split!r}")
    return paths


def read(
    folder: Path, split: str, *, seed: tf.Tensor | None = None, features: Mapping[str, Any] = FEATURES
) -> tf.data.Dataset:
    """Examples of a split, dicts of `features`: {"id": string, "image": encoded bytes, "label": int64}, scalars.

    They come in the order written; with a stateless `seed`, int32 (2,), its shards change places.
    """
    files = tf.constant(shards(folder, split))
    if seed is not None:
        files = tf.random.experimental.stateless_shuffle(files, seed)
    return tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, dict(features)))


def _feature(value: Any, dtype: tf.DType) -> tf.train.Feature:
    if dtype == tf.string:
        encoded = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    flat = np.ravel(value)
    if dtype == tf.float32:
        return tf.train.Feature(float_list=tf.train.FloatList(value=flat))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=flat))


def _shard(folder: Path, split: str, number: int) -> str:
    return str(folder / f"{split}-{number:05d}.tfrecord")
