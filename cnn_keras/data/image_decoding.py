"""The guarded decoder of images, inside a TensorFlow graph: the input pipeline's and the exported model's alike.

It accepts JPEG and PNG whose header states a bearable size, so that no engine that serves the model can be bombed
through it.
"""

import cv2
import numpy as np
import tensorflow as tf

from cnn_keras.data.files import image_headers, image_pixels
from cnn_keras.data.files.image_file import (
    JPEG_SIGNATURE,
    LEAST_SCANNED,
    PIXEL_LIMIT,
    PNG_SIGNATURE,
    SCAN,
    SCANNED_LIMIT,
    SIDE_LIMIT,
)
from cnn_keras.ops.numpy_function import numpy_function

REDUCED = {  # OpenCV's flags; the bits of colour are others
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


def decode(image_bytes: tf.Tensor, *, channels: int, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Decode one JPEG or PNG inside a graph, looking at the size its header states first.

    Args:
        image_bytes: scalar string, the encoded file.
        channels: 1 (grey) or 3 (RGB); alpha is dropped, 16 bits are cut to 8, EXIF orientation is not applied.

    Returns:
        uint8 (height, width, channels), 0–255, to the bit what Pillow and OpenCV decode; the grey of a colour JPEG is
        its luma, as of OpenCV's IMREAD_GRAYSCALE and Pillow's `draft("L")`.

    Raises:
        tf.errors.InvalidArgumentError: not JPEG or PNG, broken, of more than `pixel_limit` pixels, wider or higher
            than SIDE_LIMIT, or of very many scans. (One that quotes bytes of the image can arrive as
            UnicodeDecodeError: see `image_file.reason`.)
    """
    is_png = _is_png(image_bytes)
    is_jpeg = tf.equal(tf.strings.substr(image_bytes, 0, 3), JPEG_SIGNATURE)
    known = tf.debugging.Assert(is_png | is_jpeg, ["the image must be a JPEG or PNG file"])
    with tf.control_dependencies([known]):
        size, scans = tf.cond(is_png, lambda: _png_work(image_bytes), lambda: _jpeg_work(image_bytes))
    area = tf.reduce_prod(tf.cast(size, tf.int64))
    is_allowed = (tf.reduce_min(size) > 0) & (tf.reduce_max(size) <= SIDE_LIMIT) & (area <= pixel_limit)
    expected = f"the image must have at most {pixel_limit} pixels and sides of at most {SIDE_LIMIT}, got"
    scanned = scans * tf.maximum(area, LEAST_SCANNED)
    quick = tf.debugging.Assert(scanned <= SCANNED_LIMIT, ["the image must have fewer scans, got", scans])
    with tf.control_dependencies([tf.debugging.Assert(is_allowed, [expected, size]), quick]):
        image = _decoded(image_bytes, channels)
    return tf.ensure_shape(image, (None, None, channels))


def image_size(image_bytes: tf.Tensor) -> tf.Tensor:
    """The height and width, int32 (2,), that the header of a JPEG or PNG states, scalar string."""
    return tf.cond(
        _is_png(image_bytes), lambda: _png_size(image_bytes), lambda: tf.io.extract_jpeg_shape(image_bytes)[:2]
    )


def decode_record(image_bytes: tf.Tensor, *, channels: int) -> tf.Tensor:
    """Decode an image of records, which `decode` has accepted before: the same pixels, without its guards.

    JPEG is decoded by libjpeg-turbo's own interface, in three quarters of TensorFlow's and OpenCV's CPU time.

    Args:
        image_bytes: scalar string, the encoded file.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 (height, width, channels), 0–255.
    """

    def jpeg_pixels(data: bytes | np.ndarray) -> np.ndarray:
        return record_pixels(np.asarray(data, object).item(), channels)  # eagerly, a string arrives as an array

    image = tf.cond(
        tf.equal(tf.strings.substr(image_bytes, 0, 3), JPEG_SIGNATURE),
        lambda: numpy_function(jpeg_pixels, [image_bytes], tf.uint8),
        lambda: _decoded(image_bytes, channels),
    )
    return tf.ensure_shape(image, (None, None, channels))


def record_pixels(data: bytes, channels: int, reduction: int = 1) -> np.ndarray:
    """`decode_record` without a graph: uint8 (height, width, channels), 0–255.

    Args:
        reduction: 1, 2, 4 or 8, what the sides of a JPEG are divided by, rounded up. Its pixels are then computed from
            the low frequencies of its blocks, sharper than if the whole one were resized.
    """
    if data.startswith(JPEG_SIGNATURE):
        image = image_pixels.jpeg_pixels(data, channels) if reduction == 1 else None
        if image is None:  # reduced, or of a kind that only OpenCV reads
            colours = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
            flags = colours | REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is not None:
            return image.reshape(*image.shape[:2], channels)
    decoded: np.ndarray = _decoded(data, channels).numpy()  # OpenCV's grey of a coloured PNG is another
    return decoded


def jpeg_reduction(data: bytes, size: tuple[int, int], *, fit: str) -> tuple[int, tuple[float, float] | None]:
    """How far a JPEG may be reduced that becomes `size` by `fit`, as of `cnn_keras.ops.resize`: to twice `size`.

    The second half is left to the resizing, so that the pixels are as soft as those of the whole picture: they differ
    by half a level in the mean (`tests/benchmarks/bench_reduced.py`).

    Returns:
        The `reduction` of `record_pixels`, and the picture's (height, width) in pixels of what that gives: not whole
        ones where the stored sides are no multiple of it. (1, None) for what is not a JPEG of four times the size.
    """
    stored = image_headers.jpeg_size(data) if data.startswith(JPEG_SIGNATURE) else None
    if not stored or all(own < 4 * side for own, side in zip(stored, size, strict=True)):
        return 1, None
    scaled, _ = image_pixels.placement(stored, size, fit=fit)
    times = min(own // (2 * side) for own, side in zip(stored, scaled.tolist(), strict=True))
    reduction = next((divisor for divisor in (8, 4, 2) if times >= divisor), 1)
    return reduction, (stored[0] / reduction, stored[1] / reduction) if reduction > 1 else None


def pixels(data: bytes) -> np.ndarray:
    """Decode a JPEG or PNG whose header `normalize` has looked at, without a graph: uint8 (height, width, 3), 0–255.

    Raises:
        tf.errors.InvalidArgumentError: broken. (Or UnicodeDecodeError: see `image_file.reason`.)
    """
    return _decoded(data, 3).numpy()


def _decoded(image_bytes: tf.Tensor | bytes, channels: int) -> tf.Tensor:
    """TensorFlow's operation for JPEG, which decodes PNG too; `decode_image` leaves no choice of the method.

    The default method, the fast one, is off by 5 levels at quality 75 and by 30 or more at 100.
    """
    return tf.io.decode_jpeg(image_bytes, channels=channels, dct_method="INTEGER_ACCURATE")


def _is_png(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.equal(tf.strings.substr(image_bytes, 0, 8), PNG_SIGNATURE)


def _png_size(image_bytes: tf.Tensor) -> tf.Tensor:
    header = tf.strings.substr(image_bytes, 16, 8)  # width and height in the IHDR chunk
    return tf.reverse(tf.io.decode_raw(header, tf.int32, little_endian=False), [0])


def _png_work(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The size that the header states, int32 (2,), and the number of scans, int64."""
    return _png_size(image_bytes), tf.constant(1, tf.int64)


def _jpeg_work(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    between = tf.strings.split([image_bytes], sep=SCAN).values
    return tf.io.extract_jpeg_shape(image_bytes)[:2], tf.size(between, tf.int64) - 1
