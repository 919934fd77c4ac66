"""Grids of floats: signals (length, channels) and volumes (depth, height, width, channels), small enough for memory.

What is written here for one axis holds for one and for three. `resize` is shared by training and the exported graph;
the order of an epoch is a function of (seed, epoch), never of state, as in `cnn_keras.data.input_pipeline`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import host_share

FITS = ("stretch", "crop")


class Split(NamedTuple):
    """A split in memory: values float32 (N, *sizes, channels), labels int64 (N,), ids (N,) of str."""

    values: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


def resize(grids: tf.Tensor, size: tuple[int, ...], *, fit: str = "stretch") -> tf.Tensor:
    """Give every axis of `grids` its length in `size`, inside a graph; what has it already stays as it is.

    Args:
        grids: float32 (N, *any sizes, channels).
        size: the length of each axis between the first and the last.
        fit: "stretch" resamples each axis, linear with anti-aliasing; "crop" cuts the middle out, and where there is
            too little puts zeros on both sides.

    Returns:
        float32 (N, *size, channels).

    Raises:
        ValueError: an unknown `fit`.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    give = _stretched if fit == "stretch" else _cropped
    shape = (grids.shape[0], *size, grids.shape[-1])
    for axis, length in enumerate(size, start=1):
        if grids.shape[axis] == length:
            continue
        fits = tf.equal(tf.shape(grids)[axis], length)
        grids = tf.cond(fits, partial(tf.identity, grids), partial(give, grids, axis, length))
    return tf.ensure_shape(grids, shape)


def training(
    split: Split,
    *,
    epochs: range,
    batch_size: int,
    seed: int,
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Shuffled batches of `epochs`, one after the other; ceil(N / batch_size) batches each.

    Args:
        epochs: their numbers, for example range(3, 20) when three are already done.
        augment: a function of (grid, seed) from `augmentation`.
        share: as in `host_share`; the grids of other hosts are zeros, where there is an `augment`.

    Yields:
        (values float32 (batch, *sizes, channels), labels int64 (batch,))
    """
    values, labels = tf.constant(split.values), tf.constant(split.labels)
    count = len(split.labels)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), tf.cast(number, tf.int32))
        rows = tf.random.experimental.stateless_shuffle(tf.range(count), key)
        if augment is None:
            batches_ = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
            return batches_.map(lambda rows: (tf.gather(values, rows), tf.gather(labels, rows)))
        seeds = tf.gather(tf.random.experimental.stateless_split(key, count), rows)
        drawn = tf.data.Dataset.from_tensor_slices((rows, seeds))

        def augmented(drawn: tf.data.Dataset, size: int) -> tf.data.Dataset:
            examples = drawn.map(
                lambda row, seed: (augment(values[row], seed), labels[row]), num_parallel_calls=tf.data.AUTOTUNE
            )
            return examples.batch(size)

        return host_share.batches(drawn, augmented, share=share, count=count, batch_size=batch_size)

    stream = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    return stream.with_options(options)


def batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """The split in order, as (values (batch, *sizes, channels), labels (batch,))."""
    return tf.data.Dataset.from_tensor_slices((split.values, split.labels)).batch(batch_size)


def augmentation(
    steps: Sequence[dict[str, Any]], *, step: Callable[..., Any] | None = None
) -> Callable[..., Any] | None:
    """The `augment` of each of `steps`, one after the other, as a function of (grid, stateless seed int32 (2,)).

    With `augment_with_mask` for `step` it is one of ({"image", "mask"}, seed).
    """

    def apply(grids_: Any, seed: tf.Tensor) -> Any:
        for number, arguments in enumerate(steps):
            grids_ = (step or augment)(grids_, tf.random.experimental.stateless_fold_in(seed, number), **arguments)
        return grids_

    return apply if steps else None


def augment(
    grid: tf.Tensor,
    seed: tf.Tensor,
    *,
    jitter: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
    flip: Sequence[int] = (),
    mask: float = 0.0,
) -> tf.Tensor:
    """`grid`, float32 (*sizes, channels), a little changed; the same seed, int32 (2,), changes it in the same way.

    Args:
        jitter: standard deviation of Gaussian noise, as a share of the grid's own.
        scale: 0.1 multiplies all by a factor in [0.9, 1.1].
        shift: largest move along each axis, as a fraction of it, either way; the border's value is held.
        flip: the axes, from 0, that are turned round every second time.
        mask: largest length, as a fraction of each axis, of the stretch of a signal, or block of a volume, whose values
            become the mean of their channel (Park et al., "SpecAugment", 2019, masks time steps in this way; theirs
            become 0, the mean of what is normalised).
    """
    first, second, *keys = _keys(seed, grid)
    noise = jitter * tf.math.reduce_std(grid) * tf.random.stateless_normal(tf.shape(grid), first)
    changed = grid * tf.random.stateless_uniform((), second, 1 - scale, 1 + scale) + noise
    moved = _shift_and_flip(changed, keys, shift, flip)
    return _mask(moved, tf.random.experimental.stateless_fold_in(seed, 1), mask) if mask else moved


def augment_with_mask(
    example: dict[str, Any], seed: tf.Tensor, *, shift: float = 0.0, flip: Sequence[int] = (), **values: Any
) -> dict[str, Any]:
    """A grid, `image` (*sizes, channels), changed as by `augment`, and its `mask` (*sizes, 1) moved with it."""
    _, _, *keys = _keys(seed, example["image"])
    image = augment(example["image"], seed, shift=shift, flip=flip, **values)
    return {**example, "image": image, "mask": _shift_and_flip(example["mask"], keys, shift, flip)}


def _keys(seed: tf.Tensor, grid: tf.Tensor) -> list[tf.Tensor]:
    """Two seeds for the values, and two for each axis."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, 2 * len(grid.shape)))


def _shift_and_flip(grid: tf.Tensor, keys: Sequence[tf.Tensor], shift: float, flip: Sequence[int]) -> tf.Tensor:
    """The grid moved and turned along each axis."""
    result = grid
    for axis, (far, way) in enumerate(zip(keys[0::2], keys[1::2], strict=True)):
        length = tf.shape(grid)[axis]
        step = shift * tf.cast(length, tf.float32) * tf.random.stateless_uniform((), far, -1.0, 1.0)
        places = tf.clip_by_value(tf.range(length) - tf.cast(tf.round(step), tf.int32), 0, length - 1)
        is_mirrored = tf.random.stateless_uniform((), way) < 0.5
        if axis in flip:
            places = tf.where(is_mirrored, places[::-1], places)
        result = tf.gather(result, places, axis=axis)
    return tf.ensure_shape(result, grid.shape)


def _mask(grid: tf.Tensor, seed: tf.Tensor, share: float) -> tf.Tensor:
    """The grid with the mean of each channel in a block whose sides are drawn up to a share of each axis."""
    axes = len(grid.shape) - 1
    inside = tf.ones([], tf.bool)
    for axis, key in enumerate(tf.unstack(tf.random.experimental.stateless_split(seed, axes))):
        length = tf.cast(tf.shape(grid)[axis], tf.float32)
        size, place = tf.unstack(tf.random.stateless_uniform([2], key))
        side = tf.round(size * share * length)
        first = tf.floor(place * (length - side + 1))
        along = tf.range(length)
        inside = inside[..., None] & (along >= first) & (along < first + side)
    means = tf.reduce_mean(grid, axis=list(range(axes)))
    return tf.ensure_shape(tf.where(inside[..., None], means, grid), grid.shape)


def write(folder: Path, name: str, split: Split) -> None:
    """Write a split as `<name>.npz`."""
    with (folder / f"{name}.npz").open("wb") as file:
        np.savez(file, values=split.values, labels=split.labels, ids=split.ids)


def read(folder: Path, name: str) -> Split:
    """A split that `write` wrote."""
    with np.load(folder / f"{name}.npz") as file:
        return Split(file["values"], file["labels"], file["ids"])


def _stretched(grids: tf.Tensor, axis: int, length: int) -> tf.Tensor:
    """One axis resampled as the height of an image whose width is 1 and whose channels are the axes behind it."""
    shape = tf.shape(grids)
    before, behind = tf.reduce_prod(shape[:axis]), tf.reduce_prod(shape[axis + 1 :])
    columns = tf.reshape(grids, tf.stack([before, shape[axis], 1, behind]))
    resized = tf.image.resize(columns, (length, 1), antialias=True)
    return tf.reshape(resized, tf.concat([shape[:axis], [length], shape[axis + 1 :]], axis=0))


def _cropped(grids: tf.Tensor, axis: int, length: int) -> tf.Tensor:
    before = tf.shape(grids)[axis]
    missing = tf.maximum(length - before, 0)
    paddings = [(0, 0)] * len(grids.shape)
    paddings[axis] = (missing // 2, missing - missing // 2)
    start = tf.maximum(before - length, 0) // 2
    return tf.gather(tf.pad(grids, paddings), tf.range(start, start + length), axis=axis)
