"""TFRecord shards: a split of encoded images, frozen as it was validated, read back in the order it was written.

A shard has its name only when it is whole and on the disk, so that an interrupted writing can go on behind the last.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data.files import durable
from cnn_keras.data.files.input_file import CHANGED
from cnn_keras.ops.numpy_function import numpy_function

SHARD_BYTES = 2**27  # large enough to stream, small enough that an epoch can mix the shards
MANY, SHARDS = 2**16, 64  # a split of so many examples has at least so many shards, for as many readers
FEATURES = {  # of a labelled image
    "id": tf.io.FixedLenFeature((), tf.string),
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}

PLACE = {  # of an image that stays in its file; the path is empty where the record holds the image all the same
    "path": tf.io.FixedLenFeature((), tf.string),
    "start": tf.io.FixedLenFeature((), tf.int64, 0),  # in the file, which is the image if 0
    "bytes": tf.io.FixedLenFeature((), tf.int64),
    "hash": tf.io.FixedLenFeature((), tf.int64),
}


def label_feature(classes: int) -> tf.io.FixedLenFeature:
    """The feature `label` of images with any number of labels: 1 for those it has, else 0, float32 (classes,)."""
    return tf.io.FixedLenFeature((classes,), tf.float32)


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


def write(
    folder: Path,
    split: str,
    rows: Iterable[Any],
    *,
    features: Mapping[str, Any] = FEATURES,
    values: Callable[[Any], tuple[Any, ...]] = tuple,
    resume: bool = False,
    parallel_map: Callable[[Callable[[Any], Any], Any], Iterable[Any]] | None = None,
    after_row: Callable[[], object] = int,
) -> None:
    """Write rows as `<split>-00000.tfrecord` and so on, memory bounded by one row.

    A shard ends with the image that fills SHARD_BYTES. Those of a sequence of MANY rows or more end after a part of
    them, too: there are at least SHARDS shards.

    Args:
        values: what makes of a row, when its turn comes, the values of `features` in their order: (id, encoded image,
            label) unless told otherwise.
        resume: whether shards that are there stay; the first row that is in none of them comes next. `rows` must be a
            sequence.
        parallel_map: what makes the records instead of the built-in `map`, as lazily and in the same order.
        after_row: is called when a row has been written.
    """
    most = -(-len(rows) // SHARDS) if isinstance(rows, Sized) and len(rows) >= MANY else sys.maxsize
    shard = 0
    if resume and isinstance(rows, Sequence):
        whole = sorted(folder.glob(f"{split}-*.tfrecord"))
        shard, done = len(whole), sum(_length(path) for path in whole)
        rows = rows[done:]
        if whole and not rows:
            return
    left = iter((parallel_map or map)(partial(_record, values=values, features=features), rows))
    first = next(left, None)
    while True:
        with (
            durable.atomic_write(folder / f"{split}-{shard:05d}.tfrecord") as temporary,
            tf.io.TFRecordWriter(str(temporary)) as writer,
        ):
            count = size = 0
            for record, image_bytes in chain([first] if first else (), left):
                writer.write(record)
                count, size = count + 1, size + image_bytes
                after_row()
                if count == most or size >= SHARD_BYTES:
                    break
        shard += 1
        first = next(left, None)
        if first is None:
            return


def shards(folder: Path, split: str) -> list[str]:
    """The files of a split, in the order in which they were written."""
    paths = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no records of the split {split!r}")
    return paths


def read(
    folder: Path,
    split: str,
    *,
    seed: tf.Tensor | None = None,
    features: Mapping[str, Any] = FEATURES,
    images: bool = True,
) -> tf.data.Dataset:
    """Examples of a split, dicts of `features`: {"id": string, "image": encoded bytes, "label": int64}, scalars.

    Where the records hold several labels of an image, see `label_feature`, `label` is float32 (classes,). They come in
    the order written; with a stateless `seed`, int32 (2,), its shards change places. Without `images`, those that stay
    in their files are left to `load`.
    """
    paths = shards(folder, split)
    files, kinds = tf.constant(paths), dict(features) | _stored(paths[0], features)
    if seed is not None:
        files = tf.random.experimental.stateless_shuffle(files, seed)
    examples = tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, kinds))
    return examples.map(load) if images and "path" in kinds else examples


def load(example: dict[str, Any]) -> dict[str, Any]:
    """The example with its image, read from its file where it has stayed there.

    Raises:
        tf.errors.OpError: the file is not there any more, or is another than that recorded: the message holds CHANGED.
    """
    if "path" not in example:
        return example
    image = tf.cond(tf.equal(example["path"], ""), lambda: example["image"], lambda: _file(example))
    return {key: value for key, value in example.items() if key not in PLACE} | {"image": image}


def place(path: str, start: int, data: bytes) -> tuple[str, int, int, int]:
    """The values of PLACE for an image that stays in a file, which holds `data` from `start` on."""
    return str(Path(path).absolute()), start, len(data), int(_hash(data))


def _stored(shard: str, features: Mapping[str, Any]) -> dict[str, tf.io.FixedLenFeature]:
    """What the records of a shard have else than `features` say: PLACE, several labels in place of one.

    Looked at outside of a graph that is being traced.
    """
    with tf.init_scope():
        first = next(tf.data.TFRecordDataset(shard).take(1).as_numpy_iterator(), b"")
    stored = tf.train.Example.FromString(first).features.feature
    kinds = dict(PLACE) if "path" in stored else {}
    shares = stored["label"].float_list.value if "label" in features and "label" in stored else ()
    if shares:
        kinds["label"] = label_feature(len(shares))
    return kinds


def _file(example: dict[str, Any]) -> tf.Tensor:
    def part() -> tf.Tensor:
        return numpy_function(_part, [example[key] for key in ("path", "start", "bytes")], tf.string)

    data = tf.cond(tf.equal(example["start"], 0), lambda: tf.io.read_file(example["path"]), part)
    same = tf.equal(tf.strings.length(data), tf.cast(example["bytes"], tf.int32)) & (_hash(data) == example["hash"])
    with tf.control_dependencies([tf.debugging.Assert(same, [CHANGED, example["path"]])]):
        return tf.identity(data)


def _part(path: bytes, start: int, size: int) -> bytes:
    """A part of a file; nothing where the file is not there any more, which then is another than that recorded."""
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError:
        return b""


def _hash(data: tf.Tensor | bytes) -> tf.Tensor:
    """FarmHash of bytes, int64: TensorFlow computes it in a graph, much faster than it decodes an image."""
    return tf.strings.to_hash_bucket_fast(data, 2**63 - 1)


def _length(shard: Path) -> int:
    """How many records a shard has."""
    return sum(1 for _ in tf.data.TFRecordDataset(str(shard)))


def _record(row: Any, *, values: Callable[[Any], tuple[Any, ...]], features: Mapping[str, Any]) -> tuple[bytes, int]:
    """The record of a row, and how many bytes of it are its image."""
    example = dict(zip(features, values(row), strict=True))
    feature = {name: _feature(value, features[name].dtype) for name, value in example.items()}
    message = tf.train.Example(features=tf.train.Features(feature=feature))
    return bytes(message.SerializeToString(deterministic=True)), len(example["image"])


def _feature(value: Any, dtype: tf.DType) -> tf.train.Feature:
    if dtype == tf.string:
        encoded = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    flat = np.ravel(value)
    if dtype == tf.float32:
        return tf.train.Feature(float_list=tf.train.FloatList(value=flat))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=flat))
