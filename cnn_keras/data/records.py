"""TFRecord shards: a split of encoded images, frozen as it was validated, read back in the order it was written."""

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

SHARD_BYTES = 2**27  # large enough to stream, small enough to shuffle by shard
FEATURES = {
    "id": tf.io.FixedLenFeature((), tf.string),
    "image": tf.io.FixedLenFeature((), tf.string),
    "label": tf.io.FixedLenFeature((), tf.int64),
}


def write(folder: Path, split: str, rows: Iterable[tuple[str, bytes, int]]) -> None:
    """Write (id, encoded image, label) rows as `<split>-00000.tfrecord` and so on, memory bounded by one row."""
    shard, written = 0, 0
    writer = tf.io.TFRecordWriter(_shard(folder, split, shard))
    for name, image, label in rows:
        if written > SHARD_BYTES:
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
    writer.close()


def read(folder: Path, split: str) -> tf.data.Dataset:
    """Examples of a split in the order written: {"id": string, "image": encoded bytes, "label": int64}, scalars."""
    shards = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not shards:
        raise FileNotFoundError(f"{folder} holds no records of the split {split!r}")
    return tf.data.TFRecordDataset(shards).map(lambda record: tf.io.parse_single_example(record, FEATURES))


def _shard(folder: Path, split: str, number: int) -> str:
    return str(folder / f"{split}-{number:05d}.tfrecord")
