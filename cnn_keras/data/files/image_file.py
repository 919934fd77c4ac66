"""Encoded images: what can be known before decoding, and making a file one that the decoder reads.

Image files lie, bomb, rotate and animate. `normalize` works on bytes in Python, without TensorFlow. It looks at the
header before anything is decoded, refuses what nobody should decode, and turns everything else into a JPEG or PNG that
stands upright. `cnn_keras.data.image_decoding` is the second door, inside the graph.
"""

import io
import re
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from cnn_keras.data.files import dicom, image_headers
from cnn_keras.errors import Unreadable

warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")  # what is odd about a TIFF is told by its kind

PIXEL_LIMIT = 50_000_000  # width × height; decoded as RGB that is 150 MB
SCANNED_LIMIT = 20 * PIXEL_LIMIT  # a JPEG's scans, each of all pixels; a progressive one has 10
LEAST_SCANNED = 1_000_000  # pixels that a scan counts for at least: its tables take time too
SLOW_LIMIT = 2 * 2**20  # bytes of a file whose pixels Pillow decodes in Python, one by one
SIDE_LIMIT = 2**15  # resizing a strip of 1 × 50,000,000 pixels would take gigabytes for a thumbnail

ORIENTATION = 0x0112  # the tag
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*")
SCAN = b"\xff\xda"  # begins each scan of a JPEG
SLOW = {"bmp_rle", "ppm"}  # Pillow's decoders that are written in Python
# Opened by their signatures instead of by Image.open, which tries every format it knows, the exotic ones too, and
# warns on the console about sizes that are refused here anyway.
OPENERS: dict[bytes, type[ImageFile]] = {
    PNG_SIGNATURE: PngImageFile,
    JPEG_SIGNATURE: JpegImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"P5": PpmImageFile,
    b"P6": PpmImageFile,
    **dict.fromkeys(TIFF_SIGNATURES, TiffImageFile),
}
TIFF_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B")
TIFF_COMPRESSIONS = (
    "raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "tiff_ccitt", "group3", "group4"
)  # fmt: skip
UNSUPPORTED = {
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",  # in its container
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"v/1\x01": "OpenEXR",
}
UNSUPPORTED_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
}
READ = "JPEG, PNG, GIF, BMP, WebP, TIFF, PGM, PPM"
# What undoes an EXIF orientation; 1 is upright, and 0 is what cameras write that do not know.
UPRIGHT: dict[int | None, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BROKEN = (  # what Pillow raises on broken files
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Picture:
    """An encoded image whose header has been looked at, and whose pixels have not.

    Attributes:
        area: how many pixels it has.
        notes: what `normalize` notes.
        turn: what makes the picture upright, None where it is.
        ready: whether `normalize` gives the file as it is, at once.
    """

    def __init__(self, data: bytes, *, pixel_limit: int = PIXEL_LIMIT, tiff: bool = True) -> None:
        """Raises Unreadable as `normalize` says."""
        if not data:
            raise Unreadable("empty", "the file is empty")
        if not tiff and data.startswith(TIFF_SIGNATURES):  # not even its directories are read
            raise Unreadable("unsupported", f"TIFF is not one of {READ.replace(' TIFF,', '')}")
        dicom_notes: list[str] = []
        if tiff and dicom.is_dicom(data):
            levels, dicom_notes = dicom.read_image(data, pixel_limit=pixel_limit)
            data = encode_png(levels)
        self._data = data
        image, self._header = _opened(data)
        self.area = image.width * image.height
        _check_work(data, image, pixel_limit)
        is_tiff = image.format == "TIFF"
        if is_tiff:
            _check_tiff(image)
        exif, xmp = self._header[2:] if self._header else (image.info.get("exif", b""), image.info.get("xmp", b""))
        if is_tiff:  # Pillow turns it when it decodes it
            tags: Any = image.tag_v2  # type: ignore[attr-defined]  # a TIFF's
            self.turn, self._turn = UPRIGHT.get(tags.get(ORIENTATION, 1)), None
        else:
            self.turn = self._turn = UPRIGHT.get(image_headers.orientation(exif.removeprefix(b"Exif\0\0"), xmp))
        notes = {
            "animated": _is_animated(image),
            "exif-rotated": self.turn is not None,
            "cmyk": image.mode == "CMYK",
            "palette": image.mode == "P" and image.format == "PNG",
            "16-bit": (image.format == "PNG" and data[24] == 16) or (is_tiff and image.mode.startswith("I")),
            "transparent": image.mode in ("RGBA", "LA") or "transparency" in image.info,
            str(image.format).lower(): image.format not in ("JPEG", "PNG"),
        }
        self.notes = [*dicom_notes, *(note for note, applies in notes.items() if applies)]
        self.ready = self._turn is None and image.mode != "CMYK" and image.format in ("JPEG", "PNG")

    def plain(self) -> bytes:
        """A JPEG or PNG that stands upright. Raises Unreadable: its pixels are broken, and had to be written anew."""
        if self.ready:
            return self._data
        data = self._data
        if self._header:
            data = self._header.needed + data[self._header.start :]
        return _rewritten(data, self._turn)


def normalize(data: bytes, *, pixel_limit: int = PIXEL_LIMIT, tiff: bool = True) -> tuple[bytes, list[str]]:
    """Return `data` as a JPEG or PNG that `decode` reads the way a person sees it, and notes on what it was.

    Most files come back untouched, their pixels not looked at: `decode` may still refuse them. EXIF-rotated ones are
    turned upright, the first frame of a GIF, BMP, WebP, TIFF, PGM or PPM becomes a PNG, CMYK becomes RGB.

    Notes: "animated" (only the first frame is used, or the first page of a TIFF), "exif-rotated", "cmyk", "palette" (of
    a PNG), "16-bit" (cut to 8), "transparent" (alpha is dropped, not blended) and "gif", "bmp", "webp", "tiff", "ppm",
    "dicom" (see `dicom.read_image`).

    Args:
        tiff: whether TIFF and DICOM are read; a server leaves their many codecs to those who trust their files.

    Raises:
        Unreadable: empty, not an image, of an unsupported format, of more than `pixel_limit` pixels, wider or higher
            than SIDE_LIMIT, or of far more work than its pixels justify: very many blocks or scans.
    """
    picture = Picture(data, pixel_limit=pixel_limit, tiff=tiff)
    return picture.plain(), picture.notes


def open_image(data: bytes, *, pixel_limit: int = PIXEL_LIMIT) -> Image.Image:
    """An image of any format that is read, its pixels not decoded yet.

    Raises:
        Unreadable: as `normalize` says.
    """
    if not data:
        raise Unreadable("empty", "the file is empty")
    _check_work(data, _opened(data)[0], pixel_limit)
    try:
        return _opener(data)(io.BytesIO(data))
    except BROKEN as broken:
        raise Unreadable("undecodable", f"the header is broken: {_said(broken)}") from None


def _check_tiff(image: Image.Image) -> None:
    compression = image.info.get("compression")
    if image.mode not in TIFF_MODES or compression not in TIFF_COMPRESSIONS:
        kind = f"mode {image.mode}, compression {compression}"
        raise Unreadable("unsupported", f"a TIFF must be of 8 or 16 whole bits and a common compression, got {kind}")


def _opener(data: bytes) -> type[ImageFile]:
    opener = next((opener for signature, opener in OPENERS.items() if data.startswith(signature)), None)
    if opener is None:
        name = next((name for signature, name in UNSUPPORTED.items() if data.startswith(signature)), None)
        if data[4:8] == b"ftyp":
            name = UNSUPPORTED_BRANDS.get(data[8:12])
        if dicom.is_dicom(data):
            name = "DICOM"
        if name:
            raise Unreadable("unsupported", f"{name} is not one of {READ}")
        raise Unreadable("undecodable", "the bytes are not an image")
    return opener


def _opened(data: bytes) -> tuple[ImageFile, image_headers.Header | None]:
    """Read the header only; of a telephone's MPO that is the first picture's. Of JPEG and PNG it is given back too."""
    opener, header = _opener(data), None
    try:
        if opener is GifImageFile:
            image_headers.check_gif(data)
        if opener in (JpegImageFile, PngImageFile):
            header = (image_headers.jpeg if opener is JpegImageFile else image_headers.png)(data)
            data = header.needed + data[header.start : header.start + 64]  # Pillow looks at how the pixels begin
        return opener(io.BytesIO(data)), header
    except image_headers.Costly as costly:
        raise Unreadable("costly", str(costly)) from None
    except Image.DecompressionBombError as bomb:
        raise Unreadable("huge", _said(bomb)) from None
    except BROKEN as broken:
        raise Unreadable("undecodable", f"the header is broken: {_said(broken)}") from None


def _check_work(data: bytes, image: ImageFile, pixel_limit: int) -> None:
    """Raise Unreadable where decoding would take more memory or time than a picture may."""
    width, height = image.size
    if width * height > pixel_limit:
        raise Unreadable("huge", f"{width}x{height} pixels are more than the limit of {pixel_limit:,}")
    if max(width, height) > SIDE_LIMIT:
        raise Unreadable("huge", f"a side of {max(width, height)} pixels is longer than the limit of {SIDE_LIMIT:,}")
    scans = data.count(SCAN) if image.format == "JPEG" else 1  # in pixels a byte 255 is followed by 0
    if scans * max(width * height, LEAST_SCANNED) > SCANNED_LIMIT:
        most = SCANNED_LIMIT // max(width * height, LEAST_SCANNED)
        raise Unreadable("costly", f"{scans:,} scans are more than the limit of {most:,} for {width}x{height} pixels")
    slow = image.format in ("BMP", "PPM") and image.tile and image.tile[0].codec_name in SLOW
    if slow and len(data) > SLOW_LIMIT:
        raise Unreadable("costly", f"a {image.format} of this kind must have {SLOW_LIMIT:,} bytes at most")


def _is_animated(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except BROKEN:  # in its second frame, which is not used
        return True


def _rewritten(data: bytes, turn: Image.Transpose | None) -> bytes:
    out = io.BytesIO()
    try:
        image = _opener(data)(io.BytesIO(data))
        image.load()
        image.info.clear()  # the new file says nothing about orientation or transparency
        pixels = image if turn is None else image.transpose(turn)
        if pixels.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them
            pixels = Image.fromarray((np.asarray(pixels) >> 8).astype(np.uint8))
        pixels = pixels.convert("L" if pixels.mode in ("1", "L", "LA") else "RGB")
        if image.format == "JPEG":
            pixels.save(out, "JPEG", quality=95)
        else:
            pixels.save(out, "PNG", compress_level=1)
    except BROKEN as broken:
        raise Unreadable("undecodable", _said(broken)) from None
    return out.getvalue()


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[-1]


def reason(error: Exception) -> str:
    """The one line of an error that a person wants: `Invalid PNG data, size 60`, without trace, node or number.

    An error that quotes raw bytes of the image reaches Python as a UnicodeDecodeError that carries the message.
    """
    text = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
    message = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else text
    lines = message.split("[[{{node")[0].strip().splitlines() or ["no reason given"]
    return re.sub(r"^\(\d+\) [A-Z_ ]+: |^\{\{.*?\}\} | \[Op:.*$", "", lines[-1].strip())


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 array (height, width, 1 or 3) as PNG, losslessly: arrays enter the pipeline as files do."""
    out = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(out, "PNG", compress_level=1)
    return out.getvalue()
