"""The rows of each batch that one of several hosts trains on, so that it leaves the work on all others to them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def batches(
    source: tf.data.Dataset,
    work: Callable[[tf.data.Dataset, int], tf.data.Dataset],
    *,
    share: tuple[int, int],
    count: int,
    batch_size: int,
) -> tf.data.Dataset:
    """Batches of what `work` makes of elements; what it would make of the rows of other hosts is zeros.

    Args:
        source: `count` elements, cheap to read.
        work: takes a data set of elements and the size of a batch; gives batches, a row for each element.
        share: (h, n), this host and how many there are: it works on the rows from h · rows // n on, at most
            ceil(batch_size / n) of a batch.
    """
    host, hosts = share
    if hosts == 1:
        return work(source, batch_size)
    most = -(-batch_size // hosts)

    def extent(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first row that is worked on and the number of rows, of a batch by its number."""
        rows = tf.minimum(count - batch * batch_size, batch_size)
        return tf.minimum(host * rows // hosts, tf.maximum(rows - most, 0)), rows

    def is_own(number: tf.Tensor, *_: Any) -> tf.Tensor:
        first, _ = extent(number // batch_size)
        return (first <= number % batch_size) & (number % batch_size < first + most)

    def padded(number: tf.Tensor, batch: Any) -> Any:
        first, rows = extent(number)

        def pad(values: tf.Tensor) -> tf.Tensor:
            after = rows - first - tf.shape(values, tf.int64)[0]
            around = tf.concat([[[first, after]], tf.zeros((values.shape.rank - 1, 2), tf.int64)], axis=0)
            return tf.ensure_shape(tf.pad(values, around), (None, *values.shape[1:]))

        return tf.nest.map_structure(pad, batch, expand_composites=True)

    own = source.enumerate().filter(is_own).map(lambda _, element: element)
    return work(own, most).enumerate().map(padded, num_parallel_calls=tf.data.AUTOTUNE)
