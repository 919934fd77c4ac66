"""Images in tar archives and TFRecord files, as other tools write them."""

import io
import tarfile

import tensorflow as tf


def add(archive, name, data):
    """Put a file into an open tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def example(values):
    """A tf.train.Example of texts and whole numbers."""
    features = {
        key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        if isinstance(value, int)
        else tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for key, value in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features))
