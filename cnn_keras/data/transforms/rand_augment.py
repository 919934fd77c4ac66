"""RandAugment: a few augmentations at random, all at one strength."""

import dataclasses
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import tensorflow as tf

from cnn_keras.data.transforms.geometric import about_centre
from cnn_keras.data.transforms.photometric import GREYED, mean_level, mix_channels
from cnn_keras.data.transforms.stateless_random import Uniform
from cnn_keras.data.transforms.transform import Chain, Colour, Geometry, Placement
from cnn_keras.errors import Fault

GEOMETRY = ("rotate", "shear_x", "shear_y", "shift_x", "shift_y")
COLOURS = (
    "identity", "auto_contrast", "equalize", "solarize", "posterize",
    "saturation", "contrast", "brightness", "sharpness",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Policy:
    """The two halves of an augmentation that is both geometry and colour; each draws the same from the same seed."""

    geometry: Geometry
    colour: Colour

    @property
    def steps(self) -> tuple[Geometry, Colour]:
        """The two steps that a `Chain` runs."""
        return self.geometry, self.colour

    @cached_property
    def _chain(self) -> Chain:
        return Chain(self.steps)

    def __call__(self, example: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        return self._chain(example, [seed, seed])


def rand_augment(*, count: int = 2, magnitude: float = 9.0, fill: str = "constant") -> Policy:
    """`count` of fourteen augmentations, drawn evenly, each at `magnitude` (Cubuk et al., 2020).

    Args:
        count: how many, N in the paper; the same one may come twice.
        magnitude: how strong, M in the paper, from 0 to 10: at 10 a rotation by 30°, a shear by 0.3, a shift by 0.45
            of a side, factors of 1 ± 0.9 for saturation, contrast, brightness and sharpness, 4 bits of 8, all levels
            inverted. All but the last two go either way.
        fill: what stands beyond the border: "constant" (black), "nearest", "reflect" or "wrap".

    Differs from the paper: the geometry among those drawn is one resampling, and comes before the colours.

    Raises:
        Fault: `count`, `magnitude` or `fill` is none of these.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise Fault(f"augment.rand_augment.count must be a whole number of at least 1, got {count!r}")
    if not isinstance(magnitude, int | float) or not 0 <= magnitude <= 10:
        raise Fault(f"augment.rand_augment.magnitude must be a number from 0 to 10, got {magnitude!r}")
    if fill not in ("constant", "nearest", "reflect", "wrap"):
        raise Fault(f"augment.rand_augment.fill must be constant, nearest, reflect or wrap, got {fill!r}")
    strength = magnitude / 10

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        matrix = tf.eye(3)
        for number in range(count):
            kind, sign = _drawn(draws, number)
            options = [*_matrices(strength * sign, extent), *[tf.eye(3)] * len(COLOURS)]
            matrix = tf.matmul(matrix, tf.gather(tf.stack(options), kind))
        return Placement(matrix)

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        for number in range(count):
            kind, sign = _drawn(draws, number)
            which = tf.maximum(kind - len(GEOMETRY), 0)  # geometry is the identity of colour
            image = tf.switch_case(which, _changes(tf.clip_by_value(image, 0.0, 255.0), strength, sign))
        return image

    draw = Uniform(2 * count)
    return Policy(Geometry("rand_augment", draw, place, fill=fill), Colour("rand_augment", draw, change, channels=3))


def _drawn(draws: tf.Tensor, number: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Which augmentation, int32, and −1 or 1."""
    kinds = len(GEOMETRY) + len(COLOURS)
    kind = tf.minimum(tf.cast(draws[2 * number] * kinds, tf.int32), kinds - 1)
    return kind, tf.where(draws[2 * number + 1] < 0.5, -1.0, 1.0)


def _matrices(amount: tf.Tensor, extent: tf.Tensor) -> list[tf.Tensor]:
    """One matrix for each of GEOMETRY, `amount` in [−1, 1]."""
    centre, zero = (extent - 1) / 2, tf.zeros([2])
    slant = tf.atan(0.3 * amount)
    still = {"angle": tf.zeros([]), "shear": tf.zeros([]), "scale": 1.0, "move": zero, "centre": centre}
    flat = about_centre(**{**still, "shear": slant})
    upright = about_centre(**{**still, "shear": slant, "centre": centre[::-1]})
    exchange = tf.constant([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    return [
        about_centre(**{**still, "angle": amount * math.radians(30)}),
        flat,
        tf.matmul(exchange, tf.matmul(upright, exchange)),
        about_centre(**{**still, "move": tf.stack([0.0, 0.45 * amount * extent[1]])}),
        about_centre(**{**still, "move": tf.stack([0.45 * amount * extent[0], 0.0])}),
    ]


def _changes(image: tf.Tensor, strength: float, sign: tf.Tensor) -> list[Callable[[], tf.Tensor]]:
    """One function for each of COLOURS."""
    factor = 1 + 0.9 * strength * sign

    def blended(other: tf.Tensor) -> tf.Tensor:
        return other + (image - other) * factor

    bits = 2.0 ** round(4 * strength)
    return [
        lambda: image,
        lambda: _stretched(image),
        lambda: _equalized(image),
        lambda: tf.where(image < 256 - 256 * strength, image, 255 - image),
        lambda: tf.floor(image / bits) * bits,
        lambda: blended(mix_channels(image, tf.constant(GREYED))),
        lambda: blended(tf.zeros_like(image) + mean_level(mix_channels(image, tf.constant(GREYED)))),
        lambda: image * factor,
        lambda: blended(_smoothed(image)),
    ]


def _stretched(image: tf.Tensor) -> tf.Tensor:
    """Each channel over the whole range; an even one stays."""
    low, high = tf.reduce_min(image, axis=(0, 1)), tf.reduce_max(image, axis=(0, 1))
    return tf.where(high > low, (image - low) * 255 / tf.maximum(high - low, 1.0), image)


def _equalized(image: tf.Tensor) -> tf.Tensor:
    """Each channel's levels spread so that they are about equally frequent."""
    levels = tf.cast(tf.round(image), tf.int32) + 256 * tf.range(3)
    ones = tf.ones([tf.size(levels)], tf.int32)
    counts = tf.reshape(tf.math.unsorted_segment_sum(ones, tf.reshape(levels, [-1]), 768), [3, 256])
    last = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    step = (tf.reduce_sum(counts, axis=1) - tf.gather(counts, last, batch_dims=1)) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.minimum((below + step[:, None] // 2) // tf.maximum(step[:, None], 1), 255)
    table = tf.where(step[:, None] > 0, table, tf.range(256))
    return tf.cast(tf.gather(tf.reshape(table, [-1]), levels), tf.float32)


def _smoothed(image: tf.Tensor) -> tf.Tensor:
    """Each value averaged with its eight neighbours, itself counted five times; the border stays."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    around = tf.pad(image, [[1, 1], [1, 1], [0, 0]])
    total = sum(around[y : y + height, x : x + width] for y in range(3) for x in range(3))
    inside = tf.pad(tf.ones([height - 2, width - 2, 1], tf.bool), [[1, 1], [1, 1], [0, 0]])
    return tf.where(inside, (total + 4 * image) / 13, image)
