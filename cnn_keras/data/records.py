"""TFRecord shards: a split of encoded images, frozen as it was validated, read back in the order it was written."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

SHARD_BYTES = 2**27  # large enough to stream, small enough that an epoch can mix the shards
FEATURES = {
    "id": tf.io.FixedLenFeature((), tf.string),
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}


def write(folder: Path, split: str, rows: Iterable[tuple[str, bytes, int]]) -> None:
    """Write (id, encoded image, label) rows as `<split>-00000.tfrecord` and so on, memory bounded by one row."""
    shard, written = 0, 0
    writer = tf.io.TFRecordWriter(_shard(folder, split, shard))
    try:
        for name, image, label in rows:
            if written >= SHARD_BYTES:
                writer.close()
                shard, written = shard + 1, 0
                writer = tf.io.TFRecordWriter(_shard(folder, split, shard))
            features = {
                "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
            written += len(image)
    finally:
        writer.close()


def shards(folder: Path, split: str) -> list[str]:
    """The files of a split, in the order in which they were written."""
    found = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no records of the split {split!r}")
    return found


def read(folder: Path, split: str, *, seed: tf.Tensor | None = None) -> tf.data.Dataset:
    """Examples of a split: {"id": string, "image": encoded bytes, "label": int64}, scalars.

    They come in the order written; with a stateless `seed`, int32 (2,), its shards change places.
    """
    files = tf.constant(shards(folder, split))
    if seed is not None:
        files = tf.random.experimental.stateless_shuffle(files, seed)
    return tf.data.TFRecordDataset(files).map(lambda record: tf.io.parse_single_example(record, FEATURES))


def _shard(folder: Path, split: str, number: int) -> str:
    return str(folder / f"{split}-{number:05d}.tfrecord")
