"""Images whose pixels are left to the device that trains: the host draws and multiplies matrices, a step applies them.

Boxes, landmarks and masks are moved on the host by the same matrices, so what crosses to the device is the decoded
images and a few numbers for each. There a whole batch is warped by one operation, exactly, where OpenCV computes in
fixed point: see `cnn_keras.data.transforms.opencv`, which says by how much the two differ.
"""

from typing import Any

import tensorflow as tf

COLOUR = "colour"  # what stands in place of a border's fill where a pass mixes colours


class DeferredImages(tf.experimental.ExtensionType):
    """A batch of images and the passes over them that are still to be made.

    Attributes:
        pixels: uint8 (N, height, width, channels), 0–255.
        matrices: of each pass, float32 (N, 3, 3) from pixels of the result to those of the source, or, of colours, (N,
            channels, 2 · channels + 1), of a pixel, the mean of the image, and 1.
        fills: of each pass, what stands beyond the border, of `warp.FILLS`, or COLOUR.
        sizes: of each pass, (height, width) of the result.
    """

    pixels: tf.Tensor
    matrices: tuple[tf.Tensor, ...]
    fills: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> tf.TensorShape:
        """Of the images after all passes."""
        first, height, width, channels = self.pixels.shape
        return tf.TensorShape([first, *(self.sizes[-1] if self.sizes else (height, width)), channels])

    def __len__(self) -> int:
        return len(self.pixels)

    def augmented(self) -> tf.Tensor:
        """The images after all passes, each rounded as on the host: uint8 (N, *size, channels)."""
        image = tf.cast(self.pixels, tf.float32)
        for matrix, fill, size in zip(self.matrices, self.fills, self.sizes, strict=True):
            changed = _recoloured(image, matrix) if fill == COLOUR else _warped(image, matrix, size, fill)
            image = tf.clip_by_value(tf.round(changed), 0.0, 255.0)
        return tf.cast(image, tf.uint8)


def augmented(batch: Any) -> Any:
    """A nest of tensors with every `DeferredImages` in it augmented; without one, the nest itself."""

    def each(values: Any) -> Any:
        return values.augmented() if isinstance(values, DeferredImages) else values

    return tf.nest.map_structure(each, batch)


def _warped(image: tf.Tensor, matrix: tf.Tensor, size: tuple[int, int], fill: str) -> tf.Tensor:
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image,
        transforms=tf.reshape(matrix, [-1, 9])[:, :8],
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )
    return tf.ensure_shape(warped, (None, *size, image.shape[-1]))


def _recoloured(image: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    mixing, of_means, offset = tf.split(matrix, [image.shape[-1], image.shape[-1], 1], axis=-1)
    mean = tf.reduce_mean(image, axis=[1, 2])[..., None]
    levels = tf.matmul(of_means, mean) + offset  # (N, channels, 1)
    return tf.einsum("nhwc,ndc->nhwd", image, mixing) + levels[:, None, None, :, 0]
