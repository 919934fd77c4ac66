"""Batches: from a prepared split to what `fit` and `predict` eat.

The order of an epoch and every augmentation are functions of (seed, epoch, index), never of state, so a training
that is resumed at epoch k sees exactly the batches it would have seen. A split that fits into memory is decoded
once and gathered from; a larger one is streamed from its shards through a shuffle buffer of encoded images. Where a
streamed JPEG is at least four times as large as it is read at, it is decoded at a reduced size, for training alone;
evaluation and prediction decode as the exported model does. Boxes, landmarks and masks are placed by the stored size.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import host_share, records
from cnn_keras.data.files import image_pixels
from cnn_keras.data.image_decoding import decode_record, image_size, jpeg_reduction, record_pixels
from cnn_keras.data.transforms.augment import Augmentation, Composed, augmented_batches
from cnn_keras.ops import boxes
from cnn_keras.ops import landmarks as points
from cnn_keras.ops.numpy_function import numpy_function
from cnn_keras.ops.resize import resize_image, resize_labels

BUFFER_BYTES = 2**28  # of encoded images in memory, when a split is streamed


class Shape(NamedTuple):
    """What every image becomes: uint8 (*size, channels), 0–255, by the `fit` of `cnn_keras.ops.resize`."""

    size: tuple[int, ...]  # height, width
    channels: int  # 1 grey, 3 RGB
    fit: str = "stretch"


class ImageDecoder:
    """Decodes the images of records and resizes them, in a graph or without one: uint8 (height, width, channels).

    Args:
        shape: of the result.
        reduced: decode a JPEG of at least four times what it becomes at a half, a quarter or an eighth of its size,
            which is faster, and resize by Pillow. The picture stays in its place. For training only: the pixels are not
            quite those of the exported model.
    """

    def __init__(self, shape: Shape, *, reduced: bool = False) -> None:
        height, width = shape.size
        self.shape = (height, width, shape.channels)
        self._size, self._fit, self._reduced = (height, width), shape.fit, reduced
        spec = tf.TensorSpec((None, None, shape.channels), tf.uint8)
        self._resize = tf.function(lambda image: resize_image(image, shape.size, fit=shape.fit), [spec])

    def __call__(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """An image, scalar string."""
        if not self._reduced:
            return self._resize(decode_record(image_bytes, channels=self.shape[-1]))
        image = numpy_function(lambda data: self.decode(np.asarray(data, object).item()), [image_bytes], tf.uint8)
        return tf.ensure_shape(image, self.shape)

    def decode(self, data: bytes) -> np.ndarray:
        """The same, of bytes."""
        image, extent = self.pixels(data)
        if image.shape == self.shape and extent is None:
            return image
        if self._reduced:
            return image_pixels.resize_fast(image, self._size, fit=self._fit, extent=extent)
        resized: np.ndarray = self._resize(image).numpy()
        return resized

    def pixels(self, data: bytes) -> tuple[np.ndarray, tuple[float, float] | None]:
        """An image before it is resized, and, of a reduced one, the picture's extent as of `jpeg_reduction`."""
        reduction, extent = jpeg_reduction(data, self._size, fit=self._fit) if self._reduced else (1, None)
        return record_pixels(data, self.shape[-1], reduction), extent


class Example(NamedTuple):
    """What is read of each record, and what of it becomes a batch.

    `features` are those of `cnn_keras.data.records`; `keys` are carried through augmentation; `pack` makes what Keras
    is given of a dict of them.
    """

    features: Mapping[str, Any]
    keys: tuple[str, ...]
    pack: Callable[[dict[str, Any]], Any]


LABELLED = Example(records.FEATURES, ("image", "label"), lambda batch: (batch["image"], batch["label"]))


def box_example(most: int, landmarks: int = 0, proposals: int = 0, masks: bool = False) -> Example:
    """Images with `most` rows of boxes: batches are dicts of image, boxes float32 (batch, M, 4) and classes (batch, M).

    Boxes are left, top, right, bottom in [0, 1] of the framed image; rows without area are padding. M is `most`, or
    four times that where a mosaic is made. Where things have `landmarks`, these are float32 (batch, M, landmarks, 3);
    `proposals`, where there are some, are float32 (batch, proposals, 4), as boxes; `mask`, with `masks`, is a map of
    `cnn_keras.ops.instance_masks`, uint8 (batch, height, width, 1).
    """
    more = (name for name, count in (("landmarks", landmarks), ("proposals", proposals), ("mask", masks)) if count)
    keys, features = ("image", "boxes", "classes", *more), records.box_features(most, landmarks, proposals, masks)
    return Example(features, keys, lambda batch: {key: batch[key] for key in keys})


def mask_example(borders: bool = False) -> Example:
    """Images with a class at each pixel: batches are dicts of image and mask, uint8 (batch, height, width, 1 or 2).

    The mask's first channel is the number of the class + 1, 0 where nobody knows or beyond the picture; with `borders`
    the second is the weight of the ground between things, 255 for the largest.
    """
    keys = ("image", "mask")
    return Example(records.mask_features(borders), keys, lambda batch: {key: batch[key] for key in keys})


class Arrays(NamedTuple):
    """A decoded split: images uint8 (N, height, width, channels), labels int64 (N,), ids (N,) of str.

    Where images have any number of labels, these are float32 (N, classes) of 0 and 1.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


def decoded_examples(folder: Path, split: str, shape: Shape, *, example: Example = LABELLED) -> tf.data.Dataset:
    """The split's examples in order, each image decoded and framed: uint8 (height, width, channels).

    With boxes, these are of the framed image, and `extent`, int32 (2,), is the height and width of what was decoded.
    """
    read = records.read(folder, split, features=example.features, images=False)
    return read.map(_decoder(shape), num_parallel_calls=tf.data.AUTOTUNE)


def batches(
    folder: Path, split: str, shape: Shape, *, count: int, batch_size: int, example: Example = LABELLED
) -> tf.data.Dataset:
    """The split's `count` examples in order, packed: (images uint8 (batch, …), labels int64 (batch,)) if labelled."""
    examples = decoded_examples(folder, split, shape, example=example).batch(batch_size)
    known = examples.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))  # else Keras warns
    return known.map(example.pack).prefetch(tf.data.AUTOTUNE)


def arrays(folder: Path, split: str, shape: Shape, *, limit: int | None = None) -> Arrays:
    """The split in memory, or its first `limit` examples."""
    examples = decoded_examples(folder, split, shape)
    examples = list((examples if limit is None else examples.take(limit)).batch(1024).as_numpy_iterator())
    images, labels, ids = (np.concatenate([batch[key] for batch in examples]) for key in ("image", "label", "id"))
    return Arrays(images, labels, np.char.decode(ids.astype("S"), "utf-8"))


def training(
    folder: Path,
    split: str,
    shape: Shape,
    *,
    count: int,
    epochs: range,
    batch_size: int,
    seed: int,
    augment: Augmentation | None = None,
    memory: int = 2**31,
    classes: int | None = None,
    example: Example = LABELLED,
    share: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Shuffled, augmented batches of `epochs`, one after the other; ceil(count / batch_size) batches each.

    Args:
        count: how many examples the split holds.
        epochs: their numbers, for example range(3, 20) when three are already done.
        augment: a function of (example, seed) from `cnn_keras.data.transforms.augment`.
        memory: bytes that the decoded split may take – twice that while it is read; a larger one is streamed.
        classes: how many there are; needed where `augment.mixes` labels.
        example: what is read and becomes a batch; `box_example` for images with boxes.
        share: as in `host_share`; the examples of other hosts are zeros, neither decoded nor augmented, unless mixed.

    Yields:
        What `example.pack` makes of a batch: (images uint8 (batch, height, width, channels), labels int64 (batch,)), or
        labels float32 (batch, classes) where examples are mixed.
    """
    if isinstance(augment, Composed) and augment.source:
        shape = shape._replace(size=augment.source)  # more than the network sees, for crops to cut from
    whole = count * math.prod((*shape.size, shape.channels)) <= memory
    if isinstance(augment, Composed) and augment.mixes:
        share = (0, 1)  # an example of this host may be mixed with one of another
    into_batches = partial(host_share.batches, share=share, count=count, batch_size=batch_size)
    epoch = (_gathered if whole else _streamed)(
        folder, split, shape, count=count, seed=seed, augment=augment, example=example, into_batches=into_batches
    )
    if isinstance(augment, Composed) and augment.mixes:
        epoch = _mixing(epoch, augment, classes=classes, seed=seed)
    stream = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch)
    stream = stream.map(example.pack).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    return stream.with_options(options)


def _gathered(
    folder: Path,
    split: str,
    shape: Shape,
    *,
    count: int,
    seed: int,
    augment: Augmentation | None,
    example: Example,
    into_batches: Callable[..., tf.data.Dataset],
) -> Callable[..., Any]:
    """An epoch drawn from memory by a permutation of row numbers."""
    examples = (
        decoded_examples(folder, split, shape, example=example)
        .map(_only(example.keys))
        .batch(count)
        .get_single_element()
    )

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = _key(seed, number)
        rows = tf.random.experimental.stateless_shuffle(tf.range(count), key)
        drawn = tf.data.Dataset.from_tensor_slices((rows, tf.gather(_seeds(key, count), rows)))

        def gathered(rows: tf.Tensor, seeds: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
            return {key: tf.gather(values, rows) for key, values in examples.items()}, seeds

        if augment is None:
            return into_batches(drawn, lambda own, size: own.batch(size).map(lambda *rows: gathered(*rows)[0]))
        return into_batches(drawn, lambda own, size: augmented_batches(own, gathered, augment, size))

    return epoch


def _streamed(
    folder: Path,
    split: str,
    shape: Shape,
    *,
    count: int,
    seed: int,
    augment: Augmentation | None,
    example: Example,
    into_batches: Callable[..., tf.data.Dataset],
) -> Callable[..., Any]:
    """An epoch read from the shards, their order drawn, and mixed window by window.

    What is mixed is the encoded image, because it is small, or the name of its file. A window is in memory three times
    while one is read.
    """
    size = sum(Path(path).stat().st_size for path in records.shards(folder, split))
    window = max(1, min(count, BUFFER_BYTES // 3 * count // max(size, 1)))
    only, decoder = _only(example.keys), ImageDecoder(shape, reduced=True)

    def framed(row: dict[str, Any], seed_: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        row = records.load(row)
        return only(_framed(row, image_size(row["image"]), shape)), seed_

    def work(own: tf.data.Dataset, size: int) -> tf.data.Dataset:
        if {"boxes", "mask"} & {*example.keys} or "path" in own.element_spec[0]:
            own = own.map(framed, num_parallel_calls=tf.data.AUTOTUNE)
        return augmented_batches(own, lambda rows, seeds: (only(rows), seeds), augment, size, decoder)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        key = _key(seed, number)
        seeds = tf.data.Dataset.from_tensor_slices(_seeds(key, count))
        stored = records.read(folder, split, seed=key, features=example.features, images=False)
        examples = tf.data.Dataset.zip(stored, seeds)
        shuffled = examples.batch(window).map(lambda *window_: _mixed(window_, key)).unbatch()
        return into_batches(shuffled, work)

    return epoch


def _mixing(epoch: Callable[..., Any], augment: Composed, *, classes: int | None, seed: int) -> Callable[..., Any]:
    """The same epoch, the examples of each batch mixed and their labels, where there are any, one-hot."""

    def mixed(number: tf.Tensor) -> tf.data.Dataset:
        key = _key(seed, number)

        def mix(place: tf.Tensor, batch: dict[str, Any]) -> dict[str, Any]:
            seed_ = tf.random.experimental.stateless_fold_in(tf.reverse(key, [0]), tf.cast(place, tf.int32))
            if "label" in batch and batch["label"].shape.rank == 1:  # several labels of an image are shares already
                batch = {**batch, "label": tf.one_hot(batch["label"], classes)}
            return augment.mix(batch, seed_)

        return epoch(number).enumerate().map(mix, num_parallel_calls=tf.data.AUTOTUNE)

    return mixed


def _only(keys: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda example: {key: example[key] for key in keys}


def _mixed(window: tuple[Any, ...], key: tf.Tensor) -> tuple[Any, ...]:
    """A window of examples in another order. Unlike `Dataset.shuffle`, TensorFlow's global seed has no say in it."""
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(window[1])[0]), key)
    return tf.nest.map_structure(lambda values: tf.gather(values, order), window)


def _decoder(shape: Shape) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def read(example: dict[str, Any]) -> dict[str, Any]:
        example = records.load(example)
        image = decode_record(example["image"], channels=shape.channels)
        framed = _framed(example, tf.shape(image)[:2], shape)
        return {**framed, "image": resize_image(image, shape.size, fit=shape.fit)}

    return read


def _framed(example: dict[str, Any], extent: tf.Tensor, shape: Shape) -> dict[str, Any]:
    """The example with all but its image framed as this is; `extent`, int32 (2,), is the stored height and width."""
    framed = {**example}
    if "boxes" in example:
        framed["extent"] = extent
        for key in ("boxes", "proposals") if "proposals" in example else ("boxes",):
            placed = boxes.letterbox(example[key], extent, shape.size, fit=shape.fit)
            framed[key] = tf.ensure_shape(placed, example[key].shape)
        if "landmarks" in example:
            framed["landmarks"] = points.letterbox(example["landmarks"], extent, shape.size, fit=shape.fit)
    if "mask" in example:
        framed["mask"] = resize_labels(decode_mask(example), shape.size, fit=shape.fit)
    return framed


def decode_mask(example: dict[str, Any]) -> tf.Tensor:
    """The mask of a record, uint8 (height, width, 1 or 2), as `mask_example` says, before any framing."""
    layers = [tf.io.decode_png(example[key], channels=1) for key in ("mask", "borders") if key in example]
    return tf.concat(layers, axis=-1)


def _key(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """A stateless seed, int32 (2,), of the run's seed and an epoch's number."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int32), tf.cast(epoch, tf.int32))


def _seeds(key: tf.Tensor, count: int) -> tf.Tensor:
    """A seed for each example of an epoch, int32 (count, 2)."""
    return tf.random.experimental.stateless_split(key, count)
