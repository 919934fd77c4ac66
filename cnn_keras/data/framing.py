"""Framing: how a picture of any size becomes one of the network's size. The exported graph and training share it."""

import tensorflow as tf

FITS = ("stretch", "crop", "pad")


def frame(image: tf.Tensor, size: tuple[int, int], *, fit: str = "stretch") -> tf.Tensor:
    """Resize `image` to `size`, bilinear with anti-aliasing, inside a graph.

    Args:
        image: uint8 (height, width, channels), 0–255, any height and width.
        size: (height, width) to return.
        fit: "stretch" changes the aspect ratio; "crop" scales the shorter side and cuts the centre; "pad" scales
            the longer side and adds black borders.

    Returns:
        uint8 (*size, channels), 0–255, rounded.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    channels = image.shape[-1]
    target = tf.cast(tf.constant(size), tf.float32)
    given = tf.cast(tf.shape(image)[:2], tf.float32)
    if fit == "stretch":
        scaled = tf.constant(size)
    else:
        ratios = target / given
        ratio = tf.reduce_max(ratios) if fit == "crop" else tf.reduce_min(ratios)
        scaled = tf.maximum(tf.cast(tf.round(given * ratio), tf.int32), 1)
    resized = tf.image.resize(image, scaled, antialias=True)
    if fit != "stretch":
        resized = tf.image.resize_with_crop_or_pad(resized, *size)
    resized = tf.saturate_cast(tf.round(resized), tf.uint8)
    return tf.ensure_shape(resized, (*size, channels))
