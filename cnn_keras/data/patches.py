"""Patches drawn from pictures or volumes of any sizes, which are in memory one behind the other.

As in `cnn_keras.data.input_pipeline`, what an epoch draws is a function of (seed, epoch), never of state. Beyond an
image stands its mirror image, as where answers to patches are put together (`cnn_keras.ops.sliding_window`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import host_share
from cnn_keras.data.transforms.augment import Augmentation, augmented_batches
from cnn_keras.ops.sliding_window import Patches, reflect

PLACES = 4096  # pixels of a class, in each image, that a balanced draw chooses from


class Store(NamedTuple):
    """Images and their masks.

    images: (pixels of all, channels), of any dtype; masks: uint8 (pixels of all, 1 or 2), see
    `input_pipeline.mask_example`; starts: int64 (N,), where each image begins; sizes: int32 (N, axes); places: int64
    (classes, P), for each class some pixels of it, counted through all images, and drawn again where there are fewer.
    """

    images: tf.Tensor
    masks: tf.Tensor
    starts: tf.Tensor
    sizes: tf.Tensor
    places: tf.Tensor


def store(examples: Iterable[tuple[np.ndarray, np.ndarray]], *, seed: int = 0) -> Store:
    """The store of pairs of an image, (*sizes, channels), and its mask, uint8 (*sizes, 1 or 2)."""
    images, masks, starts, sizes = [], [], [0], []
    places: dict[int, list[np.ndarray]] = {}
    generator = np.random.default_rng(seed)
    for image, mask in examples:
        flat = mask.reshape(-1, mask.shape[-1])
        for number in np.unique(flat[:, 0]):
            indices = np.flatnonzero(flat[:, 0] == number)
            sample = indices if len(indices) <= PLACES else generator.choice(indices, PLACES, replace=False)
            places.setdefault(int(number), []).append(sample + starts[-1])
        images.append(image.reshape(-1, image.shape[-1]))
        masks.append(flat)
        sizes.append(image.shape[:-1])
        starts.append(starts[-1] + len(flat))
    known = [generator.permutation(np.concatenate(parts)) for number, parts in sorted(places.items()) if number]
    longest = max(map(len, known), default=1)
    return Store(
        tf.constant(np.concatenate(images)),
        tf.constant(np.concatenate(masks)),
        tf.constant(starts[:-1], tf.int64),
        tf.constant(sizes, tf.int32),
        tf.constant([np.resize(rows_, longest) for rows_ in known] or [np.zeros(1, int)], tf.int64),
    )


def training(
    stored: Store,
    patches: Patches,
    *,
    count: int,
    epochs: range,
    batch_size: int,
    seed: int,
    balance: float = 0.0,
    augment: Augmentation | None = None,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches of `count` patches for each of `epochs`, one after the other.

    Every place of every image is as likely as any other, so that a large image gives more patches.

    Args:
        balance: the share of patches that are laid over a pixel of a class which is drawn first, each as likely as any
            other, however rare; in [0, 1].
        augment: a function of ({"image", "mask"}, seed).
        share: as in `host_share`; the patches of other hosts are zeros.

    Yields:
        {"image": (batch, *patches.size, channels), "mask": uint8 (batch, *patches.size, 1 or 2)}
    """

    def one(key: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        place, moved = tf.unstack(tf.random.experimental.stateless_split(key, 2))
        return crop(stored, *_drawn(stored, patches, place, balance), patches), moved

    def work(keys: tf.data.Dataset, size: int) -> tf.data.Dataset:
        examples = keys.map(one, num_parallel_calls=tf.data.AUTOTUNE)
        return augmented_batches(examples, lambda *rows: rows, augment, size)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int32), tf.cast(number, tf.int32))
        keys = tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_split(key, count))
        return host_share.batches(keys, work, share=share, count=count, batch_size=batch_size)

    stream = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    return stream.with_options(options)


def grid_batches(stored: Store, patches: Patches, batch_size: int) -> tf.data.Dataset:
    """Batches of patches whose answers cover every image, side by side, the last of a row moved back into it."""
    rows, corners = [], []
    for row, size in enumerate(stored.sizes.numpy().tolist()):
        sides = [_starts(length, answered) for length, answered in zip(size, patches.answered, strict=True)]
        starts = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(size))
        corners.append(starts)
        rows += [row] * len(starts)
    positions = (tf.constant(rows), tf.constant(np.concatenate(corners), tf.int32))
    patches_ = tf.data.Dataset.from_tensor_slices(positions).map(lambda row, corner: crop(stored, row, corner, patches))
    known = patches_.batch(batch_size).apply(tf.data.experimental.assert_cardinality(math.ceil(len(rows) / batch_size)))
    return known.prefetch(tf.data.AUTOTUNE)


def crop(stored: Store, row: tf.Tensor, corner: tf.Tensor, patches: Patches) -> dict[str, Any]:
    """The patch of an image whose answers begin at a corner, int32 (axes,)."""
    size = stored.sizes[row]
    places = tf.zeros([], tf.int64)
    for axis, (seen, answered) in enumerate(zip(patches.size, patches.answered, strict=True)):
        along = reflect(corner[axis] - (seen - answered) // 2 + tf.range(seen), size[axis])
        places = places[..., None] * tf.cast(size[axis], tf.int64) + tf.cast(along, tf.int64)
    places += stored.starts[row]
    return {
        "image": tf.ensure_shape(tf.gather(stored.images, places), [*patches.size, stored.images.shape[-1]]),
        "mask": tf.ensure_shape(tf.gather(stored.masks, places), [*patches.size, stored.masks.shape[-1]]),
    }


def _drawn(stored: Store, patches: Patches, key: tf.Tensor, balance: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The row of an image and the corner of a patch in it."""
    which, where, number, place, offset = tf.unstack(tf.random.experimental.stateless_split(key, 5))
    classes, longest = stored.places.shape
    anywhere = tf.random.stateless_uniform([], where, 0, tf.shape(stored.masks, tf.int64)[0], tf.int64)
    of_class = stored.places[tf.random.stateless_uniform([], number, 0, classes, tf.int32)]
    position = of_class[tf.random.stateless_uniform([], place, 0, longest, tf.int32)]
    balanced = tf.random.stateless_uniform([], which) < balance
    pixel = tf.where(balanced, position, anywhere)
    row = tf.searchsorted(stored.starts, pixel[None], side="right")[0] - 1
    size = stored.sizes[row]
    inner = tf.unravel_index(pixel - stored.starts[row], tf.cast(size, tf.int64))
    shares = tf.random.stateless_uniform([len(patches.size)], offset)
    room = tf.maximum(size - patches.answered, 0)
    laid = tf.cast(inner, tf.int32) - tf.cast(shares * patches.answered, tf.int32)
    even = tf.cast(shares * tf.cast(room + 1, tf.float32), tf.int32)
    corner = tf.clip_by_value(tf.where(balanced, laid, tf.minimum(even, room)), 0, room)
    small = tf.minimum(size - patches.answered, 0) // 2  # an image smaller than a patch stands in its middle
    return row, corner + small


def _starts(length: int, answered: int) -> Sequence[int]:
    last = max(length - answered, 0)
    return [min(start, last) for start in range(0, max(length, 1), answered)]
