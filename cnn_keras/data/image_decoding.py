"""The guarded decoder of images, inside a TensorFlow graph: the input pipeline's and the exported model's alike.

It accepts JPEG and PNG whose header states a bearable size, so that no engine that serves the model can be bombed
through it.
"""

import cv2
import numpy as np
import simplejpeg
import tensorflow as tf

from cnn_keras.data.files import image_headers
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
    is_png = tf.equal(tf.strings.substr(image_bytes, 0, 8), PNG_SIGNATURE)
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


def decode_record(image_bytes: tf.Tensor, *, channels: int, least: tuple[int, int] | None = None) -> tf.Tensor:
    """Decode an image of records, which `decode` has accepted before: the same pixels, without its guards.

    JPEG is decoded by libjpeg-turbo's own interface, in three quarters of TensorFlow's and OpenCV's CPU time.

    Args:
        image_bytes: scalar string, the encoded file.
        channels: 1 (grey) or 3 (RGB).
        least: (height, width) that is enough. A JPEG is then decoded at a half, a quarter or an eighth of its size, the
            smallest that has so many pixels along both sides; at its own if none has.

    Returns:
        uint8 (height, width, channels), 0–255. A reduced JPEG is computed from the low frequencies of its blocks and is
        a little sharper than the whole one resized: for half a photograph by 2.3 levels in the mean and 20 in one value
        of a hundred, for less of a larger one by fewer (`tests/benchmarks/bench_reduced.py`).
    """

    def jpeg_pixels(data: bytes | np.ndarray) -> np.ndarray:
        return record_pixels(np.asarray(data, object).item(), channels, least)  # eagerly, a string arrives as an array

    image = tf.cond(
        tf.equal(tf.strings.substr(image_bytes, 0, 3), JPEG_SIGNATURE),
        lambda: numpy_function(jpeg_pixels, [image_bytes], tf.uint8),
        lambda: _decoded(image_bytes, channels),
    )
    return tf.ensure_shape(image, (None, None, channels))


def record_pixels(data: bytes, channels: int, least: tuple[int, int] | None = None) -> np.ndarray:
    """`decode_record` without a graph: uint8 (height, width, channels), 0–255."""
    if data.startswith(JPEG_SIGNATURE):
        reduction = _reduction(data, least) if least else 0
        image = None if reduction else _whole_jpeg(data, channels)
        if image is None:  # reduced, or of a kind that only OpenCV reads
            flags = (cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | reduction)
        if image is not None:
            return image.reshape(*image.shape[:2], channels)
    decoded: np.ndarray = _decoded(data, channels).numpy()  # OpenCV's grey of a coloured PNG is another
    return decoded


def _whole_jpeg(data: bytes, channels: int) -> np.ndarray | None:
    """The pixels of a JPEG, or None of one that is cut off, damaged or in four colours."""
    try:
        image: np.ndarray = simplejpeg.decode_jpeg(data, "RGB" if channels == 3 else "GRAY")
    except ValueError:
        return None
    return image


def _reduction(data: bytes, least: tuple[int, int]) -> int:
    """OpenCV's flag for the smallest size of a JPEG that has `least` pixels along both sides; 0 for its own."""
    size = image_headers.jpeg_size(data)
    times = min(own // side for own, side in zip(size, least, strict=True)) if size else 1
    flags = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
    return next((flag for divisor, flag in flags.items() if times >= divisor), 0)  # the bits of colour are others


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


def _png_work(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The size that the header states, int32 (2,), and the number of scans, int64."""
    header = tf.strings.substr(image_bytes, 16, 8)  # width and height in the IHDR chunk
    return tf.io.decode_raw(header, tf.int32, little_endian=False), tf.constant(1, tf.int64)


def _jpeg_work(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    between = tf.strings.split([image_bytes], sep=SCAN).values
    return tf.io.extract_jpeg_shape(image_bytes)[:2], tf.size(between, tf.int64) - 1
