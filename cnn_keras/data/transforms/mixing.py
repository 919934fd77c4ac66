"""Augmentations of whole batches, which mix their examples. In a recipe they stand after all others.

A batch is a dict: `image` uint8 (N, height, width, channels), 0–255; `label` float32 (N, classes), one-hot or already
soft; where there are boxes, `boxes` (N, count, 4) and `classes` (N, count). The partners of an example are others of
the same batch, drawn from the seed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from cnn_keras.data.transforms.transform import KEPT, check_amounts
from cnn_keras.errors import Fault

GREY = 114  # what stands where no picture of a mosaic reaches


@dataclasses.dataclass(frozen=True)
class Mixing:
    """A step that can be called with (batch, seed)."""

    name: str
    moves: frozenset[str]  # what it knows of a batch
    mix: Callable[[dict[str, Any], tf.Tensor], dict[str, Any]]

    @tf.autograph.experimental.do_not_convert
    def __call__(self, batch: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        if unknown := sorted(batch.keys() - self.moves - {"id"}):
            raise Fault(f"augment.{self.name} must be able to mix all that a batch holds, and cannot mix "
                        f"{', '.join(unknown)}; it knows {', '.join(sorted(self.moves))}")  # fmt: skip
        mixed = self.mix({key: tf.convert_to_tensor(values) for key, values in batch.items()}, seed)
        return {**mixed, "image": tf.ensure_shape(mixed["image"], batch["image"].shape)}


def mixup(*, alpha: float = 0.2) -> Mixing:
    """Every example blended with another, pictures and labels alike (Zhang et al., 2018).

    Args:
        alpha: shares are drawn from Beta(alpha, alpha), one for each example; the paper takes 0.1 to 0.4.

    Differs from the paper: the blend is rounded to uint8.
    """
    check_amounts("mixup", alpha=alpha)

    def mix(batch: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        share, partner = _shares(batch, seed, alpha), _partners(batch, seed)
        image = tf.cast(batch["image"], tf.float32)
        blended = _blended(image, tf.gather(image, partner), share)
        label = _blended(batch["label"], tf.gather(batch["label"], partner), share)
        return {**batch, "image": tf.saturate_cast(tf.round(blended), tf.uint8), "label": label}

    return Mixing("mixup", frozenset({"image", "label"}), mix)


def cutmix(*, alpha: float = 1.0) -> Mixing:
    """A window of every picture replaced by the same window of another, labels by its area (Yun et al., 2019).

    Args:
        alpha: the windows' areas are drawn from Beta(alpha, alpha); the paper takes 1.
    """
    check_amounts("cutmix", alpha=alpha)

    def mix(batch: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        partner, image = _partners(batch, seed), batch["image"]
        sides = tf.cast(tf.shape(image)[1:3], tf.float32)
        reach = tf.sqrt(1 - _shares(batch, seed, alpha))[:, None] * sides / 2
        middle = tf.random.stateless_uniform([tf.shape(image)[0], 2], _seed(seed, 2)) * sides
        start, end = tf.round(tf.maximum(middle - reach, 0)), tf.round(tf.minimum(middle + reach, sides))
        y, x = tf.range(sides[0])[None, :, None], tf.range(sides[1])[None, None]
        first, last = (edge[:, :, None, None] for edge in (start, end))
        inside = (y >= first[:, 0]) & (y < last[:, 0]) & (x >= first[:, 1]) & (x < last[:, 1])
        share = 1 - tf.reduce_prod(end - start, axis=1) / tf.reduce_prod(sides)
        label = _blended(batch["label"], tf.gather(batch["label"], partner), share)
        return {**batch, "image": tf.where(inside[..., None], tf.gather(image, partner), image), "label": label}

    return Mixing("cutmix", frozenset({"image", "label"}), mix)


def mosaic(*, scale: Sequence[float] = (0.5, 1.0), middle: float = 0.25) -> Mixing:
    """Four pictures around a point, for detectors (Bochkovskiy et al., 2020).

    Args:
        scale: least and largest factor by which a picture is made smaller; where it does not reach, there is grey.
        middle: how far the point may be from the middle, as a fraction of each side, either way.

    A batch then has four times as many rows of boxes; those that keep less than KEPT of their area are all zeros.

    Differs from the paper: the canvas has the size of the pictures, so nothing is cut from it afterwards.

    Raises:
        Fault: `scale` or `middle` is out of range.
    """
    check_amounts("mosaic", middle=middle)
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise Fault(f"augment.mosaic.scale must be [least, largest], above 0 and at most 1, got {scale!r}")
    if middle >= 0.5:
        raise Fault(f"augment.mosaic.middle must be below 0.5, got {middle!r}")

    def mix(batch: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        count = tf.shape(batch["image"])[0]
        point = 0.5 + middle * tf.random.stateless_uniform([count, 2], _seed(seed, 0), -1.0, 1.0)  # y, x in [0, 1]
        factors = tf.random.stateless_uniform([count, 4], _seed(seed, 1), scale[0], scale[1])
        image, boxes, classes = tf.zeros_like(batch["image"]), [], []
        for number, (low, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            partner = _partners(batch, seed, number) if number else tf.range(count)
            corner = tf.constant([1.0 - low, 1.0 - right])  # of the picture, laid on the point
            quarter = _Quarter(point, factors[:, number, None], corner)
            image = quarter.laid(image, tf.gather(batch["image"], partner))
            if "boxes" in batch:
                boxes.append(quarter.moved(tf.gather(batch["boxes"], partner)))
                classes.append(tf.gather(batch["classes"], partner))
        both = {"boxes": tf.concat(boxes, axis=1), "classes": tf.concat(classes, axis=1)} if boxes else {}
        return {**batch, "image": image, **both}

    return Mixing("mosaic", frozenset({"image", "boxes", "classes"}), mix)


class _Quarter:
    """One of the four: its `corner` (y, x of 0 or 1) lies on `point`, (N, 2) in [0, 1], at a `factor`, (N, 1)."""

    def __init__(self, point: tf.Tensor, factor: tf.Tensor, corner: tf.Tensor) -> None:
        self.point, self.factor, self.corner = point, factor, corner
        self.low = tf.where(corner > 0, tf.zeros_like(point), point)  # the quarter itself, (N, 2)
        self.high = tf.where(corner > 0, point, tf.ones_like(point))

    def laid(self, canvas: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        """The canvas with this picture on its quarter, by the nearest pixel; grey where the picture ends."""
        sides = tf.cast(tf.shape(image)[1:3], tf.float32)
        rows, columns = ((tf.range(side) + 0.5) / side for side in tf.unstack(sides))
        mine = [
            (place[None] >= self.low[:, axis, None]) & (place[None] < self.high[:, axis, None])
            for axis, place in enumerate((rows, columns))
        ]
        source = [
            (place[None] - self.point[:, axis, None]) / self.factor + self.corner[axis]
            for axis, place in enumerate((rows, columns))
        ]
        there = [(place >= 0) & (place < 1) for place in source]
        index = [
            tf.cast(tf.clip_by_value(tf.floor(place * side), 0, side - 1), tf.int32)
            for place, side in zip(source, tf.unstack(sides), strict=True)
        ]
        quarter = tf.gather(tf.gather(image, index[0], axis=1, batch_dims=1), index[1], axis=2, batch_dims=1)
        quarter = tf.where(_crossed(*there), quarter, tf.constant(GREY, image.dtype))
        return tf.where(_crossed(*mine), quarter, canvas)

    def moved(self, boxes: tf.Tensor) -> tf.Tensor:
        """Boxes (N, count, 4) where this quarter shows them."""
        point, low, high = (edge[:, None, ::-1] for edge in (self.point, self.low, self.high))  # (N, 1, 2) of x, y
        factor, corner = self.factor[:, None], self.corner[::-1]
        starts, ends = ((edge - corner) * factor + point for edge in (boxes[..., :2], boxes[..., 2:]))
        inner_starts, inner_ends = tf.maximum(starts, low), tf.minimum(ends, high)
        inside = tf.reduce_prod(tf.maximum(inner_ends - inner_starts, 0), axis=-1)
        area = tf.reduce_prod(tf.maximum(ends - starts, 0), axis=-1)
        is_kept = (area > 0) & (inside >= KEPT * area)
        return tf.where(is_kept[..., None], tf.concat([inner_starts, inner_ends], axis=-1), tf.zeros([]))


def _crossed(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Where both a row and a column are meant: bool (N, height, width, 1)."""
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)


def _shares(batch: dict[str, Any], seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """The share of each example in its mixture, from Beta(alpha, alpha): float32 (N,); all 1 where alpha is 0."""
    count = tf.shape(batch["image"])[0]
    if alpha == 0:
        return tf.ones([count])
    first, second = tf.unstack(tf.random.stateless_gamma([2, count], _seed(seed, 0), alpha))
    return tf.math.divide_no_nan(first, first + second) + tf.cast(first + second == 0, tf.float32)


def _partners(batch: dict[str, Any], seed: tf.Tensor, number: int = 1) -> tf.Tensor:
    """Another example of the batch for each, int32 (N,): a shuffled circle, `number` places on."""
    count = tf.shape(batch["image"])[0]
    order = tf.random.experimental.stateless_shuffle(tf.range(count), _seed(seed, 1000))
    return tf.gather(tf.roll(order, number, axis=0), tf.argsort(order))


def _blended(first: tf.Tensor, second: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    share = tf.reshape(share, [-1] + [1] * (first.shape.rank - 1))
    return second + (first - second) * share
