"""Augmentations by the image operations of tensorflow-addons: filters, and warps that move pixels alone.

`cnn_keras.addons` says which of its operations work. `cutout` of `photometric` stands for its `random_cutout`, which
XLA cannot compile; `elastic` of `geometric` also moves boxes, masks and landmarks, which the warps here refuse.
`tests/benchmarks/bench_addons.py` measures each beside ours.
"""

import tensorflow as tf

from cnn_keras import addons
from cnn_keras.data.transforms.stateless_random import Normal, Uniform
from cnn_keras.data.transforms.transform import Colour, check_amounts
from cnn_keras.errors import Fault

NODES = 4  # along a side, of a field
POINTS = 3  # along a side, that a sparse warp moves


def addons_mean_filter(*, size: int = 3, chance: float = 0.5) -> Colour:
    """The mean of `size` × `size` pixels, with a probability of `chance`; the border is mirrored."""
    return _filter("addons_mean_filter", "mean_filter2d", size, chance)


def addons_median_filter(*, size: int = 3, chance: float = 0.5) -> Colour:
    """The median of `size` × `size` pixels, with a probability of `chance`; the border is mirrored."""
    return _filter("addons_median_filter", "median_filter2d", size, chance)


def addons_dense_warp(*, amount: float = 4.0) -> Colour:
    """Every pixel moved by a field, whose nodes have a standard deviation of `amount` pixels.

    Differs from `elastic` in the field, bilinear between 4 × 4 nodes, and moves nothing but the picture.
    """
    check_amounts("addons_dense_warp", amount=amount)

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        nodes = tf.reshape(draws, [1, NODES, NODES, 2])
        flow = amount * tf.image.resize(nodes, tf.shape(image)[:2])
        return tf.ensure_shape(addons.image.dense_image_warp(image[None], flow)[0], image.shape)

    return Colour("addons_dense_warp", Normal(2 * NODES * NODES), change, moves_pixels=True)


def addons_sparse_warp(*, amount: float = 4.0) -> Colour:
    """Nine points moved by up to ± `amount` pixels, and what lies between by a polyharmonic spline; the sides stay."""
    check_amounts("addons_sparse_warp", amount=amount)

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        places = (tf.range(POINTS, dtype=tf.float32) + 1) / (POINTS + 1)
        points = tf.reshape(tf.stack(tf.meshgrid(places, places, indexing="ij"), axis=-1), [1, -1, 2]) * size
        moved = points + amount * tf.reshape(draws, [1, -1, 2])
        warped, _ = addons.image.sparse_image_warp(image[None], points, moved, num_boundary_points=2)
        return tf.ensure_shape(warped[0], image.shape)

    return Colour("addons_sparse_warp", Uniform(2 * POINTS * POINTS, -1.0, 1.0), change, moves_pixels=True)


def _filter(name: str, operation: str, size: int, chance: float) -> Colour:
    if not isinstance(size, int) or size < 2:
        raise Fault(f"augment.{name}.size must be a whole number of at least 2, got {size!r}")
    check_amounts(name, chance=chance)
    if chance > 1:
        raise Fault(f"augment.{name}.chance must be at most 1, got {chance:g}")

    def change(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        filtered = getattr(addons.image, operation)(image, filter_shape=size)
        return tf.where(draws[0] < chance, tf.ensure_shape(filtered, image.shape), image)

    return Colour(name, Uniform(1), change)
