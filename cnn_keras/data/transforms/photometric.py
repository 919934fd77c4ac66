"""Augmentations that change values and leave everything where it is: colour, blur, noise, holes.

Neighbours in a recipe are one pass in floating point, rounded and cut to 0–255 at its end. Those that are linear say so
by a matrix: a row for each channel of the result, which weighs the channels of the pixel, their means over the picture,
and 1.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data.transforms.stateless_random import Draw, Normal, Uniform
from cnn_keras.data.transforms.transform import Colour, check_amounts
from cnn_keras.errors import Fault

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # how bright red, green and blue look (BT.601)
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
GREYED = np.tile(LUMA, (3, 1))
TURNED = (np.linalg.inv(TO_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ TO_YIQ).astype(np.float32)  # hue, a quarter on


def brighten(*, brightness: float = 0.0, contrast: float = 0.0) -> Colour:
    """Brightness moved by up to ± `brightness` × 255, contrast scaled by a factor in 1 ± `contrast` about the mean."""
    check_amounts("brighten", brightness=brightness, contrast=contrast)

    def matrix(draws: tf.Tensor, channels: int) -> tf.Tensor:
        factor, mean = 1 + contrast * draws[..., :1, None], tf.fill([channels, channels], 1 / channels)
        offset = 255 * brightness * draws[..., 1:, None] * tf.ones([channels, 1])
        return tf.concat([factor * tf.eye(channels), (1 - factor) * mean, offset], axis=-1)

    return _linear("brighten", Uniform(2, -1.0, 1.0), matrix)


def saturate(*, saturation: float = 0.0, hue: float = 0.0) -> Colour:
    """Saturation scaled by a factor in 1 ± `saturation`, hue turned by up to `hue` degrees either way.

    Both are linear, in YIQ: brightness as the eye weighs it stays, 0 is grey and 180° a colour's opposite.
    """
    check_amounts("saturate", saturation=saturation, hue=hue)

    def matrix(draws: tf.Tensor, channels: int) -> tf.Tensor:
        factor, angle = 1 + saturation * draws[..., :1, None], draws[..., 1:, None] * math.radians(hue)
        turned = tf.cos(angle) * (np.eye(3, dtype=np.float32) - GREYED) + tf.sin(angle) * TURNED
        return _mixed(GREYED + factor * turned)

    return _linear("saturate", Uniform(2, -1.0, 1.0), matrix, channels=3)


def tint(*, shift: float = 0.08) -> Colour:
    """Every channel moved by a number of its own, up to ± `shift` × 255."""
    check_amounts("tint", shift=shift)

    def matrix(draws: tf.Tensor, channels: int) -> tf.Tensor:
        return _shifted(255 * shift * draws[..., :channels], channels)

    return _linear("tint", Uniform(4, -1.0, 1.0), matrix)


def pca_colour(
    *, amount: float = 0.1, values: Sequence[float] | None = None, vectors: Sequence[Sequence[float]] | None = None
) -> Colour:
    """Colours moved along the principal components of the training split's (Krizhevsky et al., 2012, section 4.1).

    Args:
        amount: standard deviation of the factors that the eigenvalues are multiplied by.
        values: three eigenvalues of the covariance of RGB in [0, 1]; `fit_pca_colour` finds them.
        vectors: three eigenvectors, one per row. Both come from the prepared data, not from a recipe.

    Raises:
        Fault: `values` and `vectors` are missing, or of other shapes.
    """
    check_amounts("pca_colour", amount=amount)
    if values is not None and (np.shape(values), np.asarray(vectors).shape) != ((3,), (3, 3)):
        raise Fault("augment.pca_colour.values and vectors must hold 3 and 3 × 3 numbers; leave both to the task")

    def matrix(draws: tf.Tensor, channels: int) -> tf.Tensor:
        if values is None:
            raise Fault("augment.pca_colour must be given values and vectors, fitted on the training split, got none")
        components = np.asarray(values, np.float32)[:, None] * np.asarray(vectors, np.float32)
        return _shifted(255 * amount * tf.reduce_sum(draws[..., None] * components, axis=-2), channels)

    return _linear("pca_colour", Normal(3), matrix, channels=3)


def fit_pca_colour(images: Iterable[np.ndarray]) -> dict[str, list[Any]]:
    """The arguments `values` and `vectors` of `pca_colour`, in one pass over batches of uint8 (N, height, width, 3).

    Raises:
        Fault: the images have not three channels.
    """
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for batch in images:
        if np.shape(batch)[-1] != 3:
            raise Fault(f"augment.pca_colour must be given 3 channels, got {np.shape(batch)[-1]}; leave it out")
        pixels = np.reshape(batch, (-1, 3)).astype(np.float64) / 255
        count, total, products = count + len(pixels), total + pixels.sum(axis=0), products + pixels.T @ pixels
    mean = total / max(count, 1)
    values, vectors = np.linalg.eigh(products / max(count, 1) - np.outer(mean, mean))
    signs = np.where(vectors.sum(axis=0) < 0, -1, 1)  # of an eigenvector, either sign is right: one is chosen
    return {"values": np.maximum(values[::-1], 0).tolist(), "vectors": (vectors * signs).T[::-1].tolist()}


def grey(*, chance: float = 0.2) -> Colour:
    """Colours taken away, with a probability of `chance`; still three channels."""
    _check_share("grey", chance=chance)

    def matrix(draws: tf.Tensor, channels: int) -> tf.Tensor:
        return _mixed(tf.where(draws[..., None] < chance, GREYED, np.eye(3, dtype=np.float32)))

    return _linear("grey", Uniform(1), matrix, channels=3)


def cutout(*, size: float = 0.5, holes: int = 1, fill: float = 0.0) -> Colour:
    """Squares blanked out around random places; at the border a part of one is outside (DeVries and Taylor, 2017).

    Args:
        size: side of a square, as a fraction of the picture's shorter side; 0.5 is the paper's for CIFAR-10.
        holes: how many squares.
        fill: the level inside, 0–255.

    Boxes, landmarks and masks still say what is there, not what can be seen.

    Raises:
        Fault: `holes` is no whole number above 0, or `size` no amount.
    """
    _check_share("cutout", size=size)
    check_amounts("cutout", fill=fill)
    if not isinstance(holes, int) or holes < 1:
        raise Fault(f"augment.cutout.holes must be a whole number of at least 1, got {holes!r}")

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        half = size * tf.minimum(height, width) / 2
        y, x = tf.range(height)[:, None] + 0.5, tf.range(width)[None] + 0.5
        for number in range(holes):
            down, across = draws[2 * number] * height, draws[2 * number + 1] * width
            inside = (tf.abs(y - down) < half) & (tf.abs(x - across) < half)
            image = tf.where(inside[..., None], tf.constant(fill, tf.float32), image)
        return image

    return Colour("cutout", Uniform(2 * holes), change)


def blur(*, sigma: float = 1.5) -> Colour:
    """A Gaussian blur whose standard deviation is drawn evenly from 0 to `sigma` pixels; the border is mirrored."""
    check_amounts("blur", sigma=sigma)

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        for axis in (0, 1):
            image = _smoothed(image, tf.maximum(sigma * draws[0], 1e-3), axis, reach=math.ceil(2.5 * sigma))
        return image

    return Colour("blur", Uniform(1), change)


def noise(*, amount: float = 0.05) -> Colour:
    """Noise added to every value, its standard deviation drawn evenly from 0 to `amount` × 255.

    Differs from Gaussian noise in its tails: a number is the sum of four random bytes and never beyond 3.5 sigma.
    """
    check_amounts("noise", amount=amount)

    def draw(seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.bitcast(tf.convert_to_tensor(seed, tf.int32), tf.uint32), tf.random.stateless_uniform((), seed)

    def change(image: tf.Tensor, draws: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        bits = _hashed(tf.reshape(tf.range(tf.size(image)), tf.shape(image)), draws[0])
        bytes_ = (tf.bitwise.right_shift(bits, tf.constant(8 * byte, tf.uint32)) for byte in range(4))
        four = sum(tf.cast(tf.bitwise.bitwise_and(part, 255), tf.int32) for part in bytes_)
        return image + 255 * amount * draws[1] * (tf.cast(four, tf.float32) - 510) / math.sqrt((256**2 - 1) / 3)

    return Colour("noise", draw, change)


def _hashed(numbers: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Random bits, uint32, for whole numbers and a key, uint32 (2,): Wellons's lowbias32, twice.

    A tenth of the time of TensorFlow's generator, and every value can be had alone.
    """
    bits = tf.cast(numbers, tf.uint32)
    for half in (0, 1):
        bits += key[half]
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32)))
            bits *= tf.constant(factor, tf.uint32)
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(16, tf.uint32)))
    return bits


def _linear(name: str, draw: Draw, matrix: Callable[..., tf.Tensor], *, channels: int | None = None) -> Colour:
    """A colour that `matrix`, of what was drawn and the number of channels, says all about."""

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        count = image.shape[-1]
        mixing, of_means, offset = tf.split(matrix(draws, count), [count, count, 1], axis=1)
        return mix_channels(image, mixing) + tf.linalg.matvec(of_means, _means(image)) + offset[:, 0]

    return Colour(name, draw, change, channels=channels, matrix=matrix)


def _mixed(matrix: tf.Tensor) -> tf.Tensor:
    """The matrix that mixes the three channels, (…, 3, 3), and nothing else."""
    return tf.matmul(matrix, tf.eye(3, 7))


def _shifted(levels: tf.Tensor, channels: int) -> tf.Tensor:
    """The matrix that adds a level, (…, channels), to each channel."""
    return tf.eye(channels, 2 * channels + 1) + levels[..., None] * tf.one_hot(2 * channels, 2 * channels + 1)


def mix_channels(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Channels of the result are sums of channels, a row of the square `matrix` for each."""
    return sum(image[..., channel, None] * matrix[:, channel] for channel in range(image.shape[-1]))


def _means(image: tf.Tensor) -> tf.Tensor:
    """The mean of each channel; sums by columns first, which a compiler can do side by side."""
    pixels = tf.cast(tf.size(image) // image.shape[-1], tf.float32)
    return tf.reduce_sum(tf.reduce_sum(image, axis=0), axis=0) / pixels


def mean_level(image: tf.Tensor) -> tf.Tensor:
    """The mean of all values, a float32 scalar; sums by columns first, which a compiler can vectorize."""
    return tf.reduce_sum(tf.reduce_sum(image, axis=0)) / tf.cast(tf.size(image), tf.float32)


def _smoothed(image: tf.Tensor, sigma: tf.Tensor, axis: int, *, reach: int) -> tf.Tensor:
    """Each value averaged with its neighbours along an axis, up to `reach` pixels away."""
    side = image.shape[axis] or tf.shape(image)[axis]
    reach = min(reach, side) if isinstance(side, int) else reach
    weights = tf.exp(-0.5 * (tf.range(-reach, reach + 1.0) / sigma) ** 2)
    weights /= tf.reduce_sum(weights)
    padded = tf.pad(image, [[reach, reach] if number == axis else [0, 0] for number in range(3)], "SYMMETRIC")
    parts = (padded[n : n + side] if axis == 0 else padded[:, n : n + side] for n in range(2 * reach + 1))
    return sum(part * weights[number] for number, part in enumerate(parts))


def _check_share(name: str, **shares: float) -> None:
    for key, share in shares.items():
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
            raise Fault(f"augment.{name}.{key} must be a number from 0 to 1, got {share!r}")
