"""Framing: how a picture of any size becomes one of the network's size. The exported graph and training share it."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

FITS = ("stretch", "crop", "pad")


def resize_image(image: tf.Tensor, size: tuple[int, ...], *, fit: str = "stretch") -> tf.Tensor:
    """Resize `image` to `size`, bilinear with anti-aliasing, inside a graph; one of that size already stays as it is.

    Args:
        image: uint8 (height, width, channels), 0–255, any height and width.
        size: (height, width) to return.
        fit: "stretch" changes the aspect ratio; "crop" scales the shorter side and cuts the centre; "pad" scales
            the longer side and adds black borders.

    Returns:
        uint8 (*size, channels), 0–255, rounded.

    Raises:
        ValueError: an unknown `fit`.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], size))
    resized = tf.cond(fits, lambda: image, lambda: _resampled(image, size, fit))
    return tf.ensure_shape(resized, (*size, image.shape[-1]))


def resize_labels(labels: tf.Tensor, size: tuple[int, ...], *, fit: str = "stretch") -> tf.Tensor:
    """Resize class numbers as `resize_image` does their picture: the nearest pixel's, 0 beyond the picture.

    Args:
        labels: uint8 (height, width, channels), never blended.

    Returns:
        uint8 (*size, channels).
    """
    extent, target = tf.cast(tf.shape(labels)[:2], tf.float32), tf.constant(size, tf.float32)
    scaled, start = placement(extent, target, fit)
    for axis in (0, 1):
        places = tf.floor((tf.range(target[axis]) + 0.5 - start[axis]) * extent[axis] / scaled[axis])
        inside = (places >= 0) & (places < extent[axis])
        resized = tf.gather(labels, tf.cast(tf.clip_by_value(places, 0, extent[axis] - 1), tf.int32), axis=axis)
        labels = tf.where(tf.reshape(inside, [-1, 1, 1] if axis == 0 else [1, -1, 1]), resized, tf.zeros([], tf.uint8))
    return tf.ensure_shape(labels, (*size, labels.shape[-1]))


def resize_matrices(extent: Sequence[int], size: Sequence[int], *, fit: str = "stretch") -> tuple[Any, Any]:
    """`resize_image` as two products of matrices, for formats without its operation.

    Args:
        extent: height and width of the images.
        size, fit: as there.

    Returns:
        float32 (size[0], extent[0]) and (size[1], extent[1]): the resized image, before it is rounded, is the first one
        times each channel of the image times the second one transposed.
    """
    scaled, start = placement(tf.constant(extent, tf.float32), tf.constant(size, tf.float32), fit)
    matrices = []
    for axis in (0, 1):
        rows = tf.raw_ops.ScaleAndTranslate(
            images=tf.eye(extent[axis])[None, :, None, :],  # each pixel of a column is a channel of its own
            size=(size[axis], 1),
            scale=[scaled[axis] / extent[axis], 1.0],
            translation=[start[axis], 0.0],
            kernel_type="triangle",
            antialias=True,
        )
        matrices.append(rows[0, :, 0, :].numpy())
    return matrices[0], matrices[1]


def placement(extent: tf.Tensor, size: tf.Tensor, fit: str) -> tuple[tf.Tensor, tf.Tensor]:
    """The size that a picture of `extent` is scaled to, and where its top left corner then stands in the frame.

    All float32 (…, 2), heights and widths in pixels; boxes follow the picture by these numbers.
    """
    scaled = size + tf.zeros_like(extent)
    if fit != "stretch":
        ratios = size / extent
        ratio = (tf.reduce_max if fit == "crop" else tf.reduce_min)(ratios, axis=-1, keepdims=True)
        scaled = tf.maximum(tf.round(extent * ratio), 1)
    return scaled, tf.floor((size - scaled) / 2)


def _resampled(image: tf.Tensor, size: tuple[int, ...], fit: str) -> tf.Tensor:
    """Scaling and cutting or padding in one step, so that nothing larger than a few rows of `image` is ever made."""
    extent, target = tf.cast(tf.shape(image)[:2], tf.float32), tf.constant(size, tf.float32)
    scaled, start = placement(extent, target, fit)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size,
        scale=scaled / extent,
        translation=start,
        kernel_type="triangle",
        antialias=True,
    )[0]
    return tf.saturate_cast(tf.round(resized), tf.uint8)
