"""Images decoded and framed without TensorFlow, as `cnn_keras.data.image_decoding` and `cnn_keras.ops.resize` do it.

For whoever asks a network where TensorFlow is not: the pixels are those that training saw, but for a rare rounding.
"""

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from cnn_keras.data.files.image_file import (
    BROKEN,
    JPEG_SIGNATURE,
    OPENERS,
    PIXEL_LIMIT,
    PNG_SIGNATURE,
    Picture,
)
from cnn_keras.errors import Unreadable

Image = NDArray[np.uint8]

GREY = ("1", "L", "LA")  # Pillow's modes
LUMA = (9797, 19234, 3737)  # of 32768: what red, green and blue count
KEPT = 32  # weights of the last sizes; those of a side of 16,000 pixels made 224 are 0.4 MB


def decode(data: bytes, *, channels: int, pixel_limit: int = PIXEL_LIMIT) -> Image:
    """Decode a JPEG or PNG, looking at the size its header states first.

    Args:
        data: the encoded file.
        channels: 1 (grey) or 3 (RGB); alpha is dropped, 16 bits are cut to 8, EXIF orientation is not applied.
        pixel_limit: more are refused.

    Returns:
        uint8 (height, width, channels), 0–255; the grey of a colour JPEG is its luma.

    Raises:
        Unreadable: another format, broken, or too large; see `cnn_keras.data.files.image_file.normalize`.
    """
    if not data.startswith((JPEG_SIGNATURE, PNG_SIGNATURE)):
        raise Unreadable("unsupported", "the image must be a JPEG or PNG file")
    Picture(data, pixel_limit=pixel_limit)
    is_jpeg = data.startswith(JPEG_SIGNATURE)
    if is_jpeg and (whole := jpeg_pixels(data, channels)) is not None:
        return whole
    try:
        image = OPENERS[JPEG_SIGNATURE if is_jpeg else PNG_SIGNATURE](io.BytesIO(data))
        if is_jpeg and channels == 1:
            image.draft("L", image.size)  # the luma alone is decoded
        image.load()
        if image.mode.startswith("I"):
            levels = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(levels[..., None], channels, axis=-1)
        pixels = np.asarray(image.convert("L" if channels == 1 and image.mode in GREY else "RGB"))
    except BROKEN as broken:
        raise Unreadable("undecodable", (str(broken).splitlines() or [type(broken).__name__])[-1]) from None
    if pixels.ndim == 3 and channels == 1:  # as libpng, in TensorFlow, makes it grey
        pixels = (pixels @ np.array(LUMA, np.int32) >> 15).astype(np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def jpeg_pixels(data: bytes, channels: int) -> Image | None:
    """The pixels of a JPEG by libjpeg-turbo, uint8 (height, width, channels), or None where it is damaged or CMYK."""
    try:
        image: Image = simplejpeg.decode_jpeg(data, "RGB" if channels == 3 else "GRAY")
    except ValueError:
        return None
    return image


def resize_image(image: Image, size: tuple[int, int], *, fit: str = "stretch") -> Image:
    """Resize `image` to `size`, bilinear with anti-aliasing, as `cnn_keras.ops.resize.resize_image` does.

    Args:
        image: uint8 (height, width, channels).
        size: (height, width) to return.
        fit: "stretch", "crop" or "pad".

    Returns:
        uint8 (*size, channels), rounded.
    """
    if image.shape[:2] == size:
        return image
    scaled, start = placement(image.shape[:2], size, fit=fit)
    scale = (scaled / np.array(image.shape[:2], np.float32)).astype(np.float32)
    resized = scale_and_translate(image, size, scale=scale, translation=start)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def resize_fast(
    image: Image, size: tuple[int, int], *, fit: str = "stretch", extent: tuple[float, float] | None = None
) -> Image:
    """`resize_image` by Pillow, for training: a level may be off by one, as Pillow rounds between rows and columns.

    Args:
        image, size, fit: as of `resize_image`; an image of the wanted size is copied.
        extent: (height, width) of the picture in pixels of the image where it ends within the last of them; None is
            all of the image.
    """
    height, width = extent or image.shape[:2]
    scaled, start = placement((height, width), size, fit=fit)
    (rows, columns), (top, left) = scaled.astype(int).tolist(), (-start).astype(int).tolist()
    resized = PillowImage.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize(
        (columns, rows), PillowImage.Resampling.BILINEAR, (0, 0, width, height)
    )
    framed = resized.crop((left, top, left + size[1], top + size[0])) if fit != "stretch" else resized
    return np.asarray(framed).reshape(*size, image.shape[-1])


def placement(extent: Sequence[float], size: Sequence[int], *, fit: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The size that a picture is scaled to, and where its top left corner then stands in the frame.

    Both float32 (2,), height and width in pixels, as of `cnn_keras.ops.resize.placement`.
    """
    frame, picture = np.array(size, np.float32), np.array(extent, np.float32)
    scaled = frame
    if fit != "stretch":
        ratios = frame / picture
        scaled = np.maximum(np.round(picture * (ratios.max() if fit == "crop" else ratios.min())), 1)
    return scaled, np.floor((frame - scaled) / 2)


def scale_and_translate(
    image: NDArray[Any], size: Sequence[int], *, scale: ArrayLike, translation: ArrayLike
) -> NDArray[np.float32]:
    """The first axes of an array resampled as by TensorFlow's ScaleAndTranslate, with its triangle and anti-aliasing.

    Args:
        image: numbers (*sizes, …).
        size: what these axes become, as many as it has lengths.
        scale, translation: of each axis, in pixels of the result.

    Returns:
        float32 (*size, …); 0 where nothing of the image is.
    """
    scales, starts = np.asarray(scale, np.float32), np.asarray(translation, np.float32)
    for axis, length in enumerate(size):
        taps = _taps(image.shape[axis], length, scales[axis], starts[axis])
        image = _swapped(_gathered(_swapped(image, axis), taps, length), axis)
    return image


def _swapped(image: NDArray[Any], axis: int) -> NDArray[Any]:
    """The array with its first axis and another one exchanged, contiguous; the values of a pixel are moved at once."""
    image = np.ascontiguousarray(image)
    if not axis or image.ndim < 3 or axis == image.ndim - 1:
        return np.ascontiguousarray(image.swapaxes(0, axis))
    pixel = np.dtype((np.void, image.strides[-2]))
    pixels = image.view(pixel).swapaxes(0, axis)
    return np.ascontiguousarray(pixels).view(image.dtype)


@lru_cache(KEPT)
def _taps(length: int, size: int, scale: np.float32, start: np.float32) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """What each of `size` pixels along an axis is the sum of: places, intp (size,), and their weights, float32 (size,).

    The triangle of TensorFlow's ScaleAndTranslate: as wide as a pixel of the result where that is larger. Beyond
    the picture all weights are 0.
    """
    inverse = np.float32(1) / scale
    width = max(inverse, np.float32(1))
    middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * inverse - inverse * start
    first = np.ceil(middle - width - np.float32(0.5))
    places = first + np.arange(2 * math.ceil(width) + 1, dtype=np.float32)[:, None]
    weights = np.maximum(0, 1 - np.abs(places + np.float32(0.5) - middle) / width).astype(np.float32)
    weights *= (places >= 0) & (places < length) & (middle >= 0) & (middle <= length)
    total = weights.sum(axis=0)
    places = np.clip(places, 0, length - 1).astype(np.intp)
    weights /= np.where(total > 0, total, np.float32(1))
    return [(place, weight) for place, weight in zip(places, weights, strict=True) if weight.any()]


def _gathered(image: NDArray[Any], taps: Sequence[tuple[NDArray[Any], NDArray[Any]]], size: int) -> NDArray[np.float32]:
    """The weighted sums of rows, (size, …)."""
    total: NDArray[np.float32] = np.zeros((size, *image.shape[1:]), np.float32)
    for place, weight in taps:
        rows = image.take(place, axis=0)
        column = weight.reshape(-1, *[1] * (image.ndim - 1))
        total += np.multiply(rows, column, out=rows if rows.dtype == np.float32 else None)
    return total
