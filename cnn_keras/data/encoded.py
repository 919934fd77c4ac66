"""Encoded images: what can be known before decoding, making a file plain, and the guarded decoder of the graph.

Image files lie, bomb, rotate and animate. Two doors keep that out of the network:

`plain` works on bytes in Python. It looks at the header before anything is decoded, refuses what nobody should
decode, and turns everything else into a JPEG or PNG that stands upright.

`decode` works inside a TensorFlow graph – the input pipeline's and the exported model's alike – and accepts JPEG
and PNG whose header states a bearable size, so that no engine that serves the model can be bombed through it.
"""

import io
import re
from struct import error as StructError

import tensorflow as tf
from PIL import Image, ImageOps

PIXEL_LIMIT = 50_000_000  # width × height; decoded as RGB that is 150 MB

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
AS_THEY_ARE = ("JPEG", "MPO", "PNG")  # MPO: a telephone's JPEG with a second picture behind the first
FIRST_FRAME = ("GIF", "BMP", "WEBP")  # written anew as PNG
EXIF_ORIENTATION = 0x0112


class Unreadable(ValueError):
    """Bytes that are no usable image; `kind` groups them: empty, undecodable, unsupported, huge."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def plain(data: bytes, *, pixel_limit: int = PIXEL_LIMIT) -> tuple[bytes, list[str]]:
    """Return `data` as a JPEG or PNG that `decode` reads the way a person sees it, and notes on what it was.

    Most files come back untouched. EXIF-rotated ones are turned upright, the first frame of a GIF, BMP or WebP
    becomes a PNG, CMYK becomes RGB. Notes: "animated" (only the first frame is used), "exif-rotated", "cmyk",
    "palette", "16-bit" (cut to 8), "transparent" (alpha is dropped, not blended) and "gif", "bmp", "webp".

    Raises:
        Unreadable: empty, not an image, of an unsupported format, or of more than `pixel_limit` pixels.
    """
    if not data:
        raise Unreadable("empty", "the file is empty")
    image = _opened(data)
    width, height = image.size
    if width * height > pixel_limit:
        raise Unreadable("huge", f"{width}x{height} pixels are more than the limit of {pixel_limit:,}")
    if image.format not in AS_THEY_ARE + FIRST_FRAME:
        raise Unreadable("unsupported", f"{image.format} is not one of JPEG, PNG, GIF, BMP, WebP")
    rotated = _orientation(image) != 1
    notes = [
        note
        for note, found in {
            "animated": getattr(image, "is_animated", False) and image.format != "MPO",
            "exif-rotated": rotated,
            "cmyk": image.mode == "CMYK",
            "palette": image.mode == "P" and image.format == "PNG",
            "16-bit": image.format == "PNG" and data[24:25] == b"\x10",
            "transparent": image.mode in ("RGBA", "LA") or "transparency" in image.info,
            (image.format or "").lower(): image.format in FIRST_FRAME,
        }.items()
        if found
    ]
    if rotated or image.mode == "CMYK" or image.format in FIRST_FRAME:
        return _rewritten(image), notes
    return data, notes


def _opened(data: bytes) -> Image.Image:
    """Read the header only; Pillow decodes pixels on demand."""
    try:
        return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise Unreadable("huge", str(bomb)) from None
    except (OSError, SyntaxError, ValueError, TypeError, StructError, OverflowError, EOFError, MemoryError):
        raise Unreadable("undecodable", "the bytes are not an image") from None


def _orientation(image: Image.Image) -> int:
    """1 is upright. A PNG is asked only for what stands before its pixels: asking for more would decode it."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return image.getexif().get(EXIF_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, TypeError, StructError, KeyError):
        return 1  # a broken EXIF block says nothing about the pixels


def _rewritten(image: Image.Image) -> bytes:
    lossy = image.format in ("JPEG", "MPO")
    out = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)
        colour = "L" if upright.mode in ("1", "L", "LA", "I;16", "I") else "RGB"
        upright.convert(colour).save(out, "JPEG" if lossy else "PNG", **({"quality": 95} if lossy else {}))
    except (OSError, SyntaxError, ValueError, TypeError, StructError, EOFError, MemoryError) as broken:
        raise Unreadable("undecodable", str(broken).splitlines()[-1] if str(broken) else "broken") from None
    return out.getvalue()


def decode(image_bytes: tf.Tensor, *, channels: int, pixel_limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Decode one JPEG or PNG inside a graph, looking at the size its header states first.

    Args:
        image_bytes: scalar string, the encoded file.
        channels: 1 (grey) or 3 (RGB); alpha is dropped, 16 bits are cut to 8, EXIF orientation is not applied.

    Returns:
        uint8 (height, width, channels), 0–255.

    Raises:
        tf.errors.InvalidArgumentError: not JPEG or PNG, broken, or of more than `pixel_limit` pixels.
    """
    start = tf.strings.substr(image_bytes, 0, 8)
    is_png = tf.equal(start, PNG_SIGNATURE)
    is_jpeg = tf.equal(tf.strings.substr(start, 0, 3), JPEG_SIGNATURE)
    known = tf.debugging.Assert(is_png | is_jpeg, ["the image must be a JPEG or PNG file"])
    with tf.control_dependencies([known]):
        size = tf.cond(is_png, lambda: _png_size(image_bytes), lambda: _jpeg_size(image_bytes))
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    bearable = tf.debugging.Assert(
        (pixels > 0) & (pixels <= pixel_limit), ["the image must have 1 to", pixel_limit, "pixels, got", pixels]
    )
    with tf.control_dependencies([bearable]):
        image = tf.io.decode_image(image_bytes, channels=channels, expand_animations=False)
    return tf.ensure_shape(image, (None, None, channels))


def reason(error: Exception) -> str:
    """The one line of a TensorFlow error that a person wants: `Invalid PNG data, size 60`, without trace or node.

    An error that quotes raw bytes of the image reaches Python as a UnicodeDecodeError that carries the message.
    """
    broken = isinstance(error, UnicodeDecodeError)
    message = error.object.decode("utf-8", "replace") if broken else getattr(error, "message", None) or str(error)
    said = message.split("[[{{node")[0].strip().splitlines() or ["no reason given"]
    return re.sub(r"^\(\d+\) [A-Z_ ]+: |^\{\{.*?\}\} | \[Op:.*$", "", said[-1].strip())


def _png_size(image_bytes: tf.Tensor) -> tf.Tensor:
    header = tf.strings.substr(image_bytes, 16, 8)  # width and height in the IHDR chunk
    return tf.io.decode_raw(header, tf.int32, little_endian=False)


def _jpeg_size(image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(image_bytes)[:2]


def png(image) -> bytes:
    """Encode a uint8 array (height, width, 1 or 3) as PNG, losslessly: arrays enter the pipeline as files do."""
    return tf.io.encode_png(image, compression=1).numpy()
