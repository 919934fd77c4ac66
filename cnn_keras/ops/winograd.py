"""3×3 convolutions by a kernel that stands still: forward and backward at half the multiplications.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016: F(4, 3) along the rows of the image. Four
outputs that lie side by side are made of six inputs by six products for each row of the kernel, where there would be
twelve. What the kernel becomes by it is computed once; a kernel in training would have to be transformed at each step.

The gradient with respect to the image is a convolution too, by the kernel turned round; it is computed as one, because
TensorFlow's own operation for it takes twice the time of its convolution on a CPU. There is no gradient with respect to
the kernel, and no second one.

Differs from the paper: one dimension instead of two, whose transformations cost more than they save where each is a
pass through the memory; ordinary convolutions where channels are few, and on GPUs, whose library does the same.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Of six points of a row: 0, 1, −1, 2, −2 and infinity. What a kernel's three columns become at each of them.
KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
WORTHWHILE = 64 * 128  # input times output channels; with fewer the transformations cost what they save


def fixed_kernel_convolution(kernel: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that convolves images by this kernel, with stride 1 and zeros beyond the border.

    Args:
        kernel: float32 (3, 3, channels, filters), laid on the image without turning it.

    Returns:
        A function of float32 (batch, height, width, channels), of any size, to (batch, height, width, filters). It is
        differentiable once, with respect to the images.
    """
    kernel = np.asarray(kernel, np.float32)
    forward, back = _convolution(kernel), _convolution(kernel[::-1, ::-1].swapaxes(2, 3))

    @tf.custom_gradient
    def convolve(images: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return forward(images), back

    return convolve


def _convolution(kernel: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    is_small = kernel.shape[2] * kernel.shape[3] < WORTHWHILE
    return _direct(kernel) if is_small or tf.config.list_physical_devices("GPU") else _by_rows(kernel)


def _direct(kernel: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    kernel = tf.constant(kernel)
    return lambda images: tf.nn.conv2d(images, kernel, 1, "SAME")


def _by_rows(kernel: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """F(4, 3) along the rows: a convolution of each column of the kernel's twin is left for each of six points."""
    points = [tf.constant(point) for point in np.einsum("pj,ijcf->picf", KERNEL, kernel)[:, :, None].astype(np.float32)]

    def convolve(images: tf.Tensor) -> tf.Tensor:
        width = tf.shape(images)[2]
        at_points = [
            tf.nn.conv2d(values, point, 1, "SAME") for values, point in zip(_spread(images), points, strict=True)
        ]
        joined = tf.stack(_gathered(*at_points), axis=3)  # (batch, height, quarters, 4, filters)
        size = tf.shape(joined)
        rows = tf.reshape(joined, [size[0], size[1], 4 * size[2], kernel.shape[3]])
        return tf.ensure_shape(rows[:, :, :width], [*images.shape[:3], kernel.shape[3]])

    return convolve


def _spread(images: tf.Tensor) -> list[tf.Tensor]:
    """The values at the six points of each six neighbours of a row, four apart: six of (batch, height, quarters, c)."""
    size = tf.shape(images)
    quarters = -(-size[2] // 4)
    padded = tf.pad(images, [[0, 0], [0, 0], [1, 4 * quarters + 3 - size[2]], [0, 0]])
    fours = tf.reshape(padded, [size[0], size[1], quarters + 1, 4, images.shape[3]])
    a, b, c, d = (fours[:, :, :-1, place] for place in range(4))
    e, f = (fours[:, :, 1:, place] for place in range(2))
    even, odd = e - 4 * c, d - 4 * b
    outer, inner = e - c, 2 * (d - b)
    return [4 * a - 5 * c + e, even + odd, even - odd, outer + inner, outer - inner, 4 * b - 5 * d + f]


def _gathered(
    zero: tf.Tensor, tiles: tf.Tensor, minus_one: tf.Tensor, two: tf.Tensor, minus_two: tf.Tensor, infinity: tf.Tensor
) -> list[tf.Tensor]:
    """The four outputs of what the products at the six points are."""
    near, far = tiles + minus_one, two + minus_two
    across, beyond = tiles - minus_one, two - minus_two
    return [zero + near + far, across + 2 * beyond, near + 4 * far, across + 8 * beyond + infinity]
