"""What the blocks of an image file say, walked without decoding anything.

Libraries read every block before they show a picture's size: a small file of very many, or of ones that point at each
other, costs them minutes or gigabytes. Here blocks are counted and stepped over, and a decoder gets those it needs.
"""

import re
import struct
import zlib
from typing import Any, NamedTuple

BLOCKS = 1_000  # segments, chunks or sub-blocks; beyond them one for each 64 bytes, those of pixels have hundreds
PROFILE = 2**20  # bytes of a compressed EXIF block, inflated
ORIENTATION = 0x0112
JPEG_NEEDED = {0xE0, 0xEE}  # of the application's segments: JFIF, and Adobe's, which tells CMYK
NO_FRAME = {0xFFC4, 0xFFC8, 0xFFCC}  # tables of Huffman and arithmetic coding among the markers of frames
PNG_LEFT_OUT = {b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf"}
XMP = b"http://ns.adobe.com/xap/1.0/\0"


class Costly(ValueError):
    """A file that takes far more work than its size and its pixels justify."""


class Header(NamedTuple):
    """What stands before the pixels of a JPEG or PNG."""

    needed: bytes  # by a decoder: no EXIF, text or colour profile
    start: int  # where in the file the pixels begin
    exif: bytes  # without a prefix; empty: there is none
    xmp: bytes


def jpeg(data: bytes) -> Header:
    """Walk the segments of a JPEG up to its first scan.

    Raises:
        ValueError: it is broken before that.
        Costly: it has very many.
    """
    needed, exif, xmp, at = [data[:2]], b"", b"", 2
    for _ in range(BLOCKS):
        marker, *_ = _unpacked(">H", data, at)
        if marker == 0xFFDA:
            return Header(b"".join(needed), at, exif, xmp)
        if marker < 0xFF01 or marker == 0xFFD9:
            raise ValueError("it has no pixels")
        if marker in (0xFFFF, 0xFF01) or 0xFFD0 <= marker <= 0xFFD8:  # padding; and what stands alone
            at += 1 if marker == 0xFFFF else 2
            continue
        (length,) = _unpacked(">H", data, at + 2)
        segment, at = data[at : at + 2 + length], at + 2 + length
        if segment[4:10] == b"Exif\0\0" and marker == 0xFFE1:
            exif = exif or segment[10:]
        elif segment.startswith(XMP, 4) and marker == 0xFFE1:
            xmp = xmp or segment[4 + len(XMP) :]
        if not (0xFFE0 <= marker <= 0xFFEF or marker == 0xFFFE) or marker & 0xFF in JPEG_NEEDED:
            needed.append(segment)
    raise Costly(f"it has more than {BLOCKS:,} segments before its pixels")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """The (height, width) that the first frame of a JPEG states; None if there is none, or none is found."""
    at = 2
    try:
        while True:
            marker, length = struct.unpack_from(">HH", data, at)
            if 0xFFC0 <= marker <= 0xFFCF and marker not in NO_FRAME:
                height, width = struct.unpack_from(">HH", data, at + 5)
                return height, width
            if not 0xFF00 < marker <= 0xFFFF or marker in (0xFFD9, 0xFFDA):
                return None
            at += 1 if marker == 0xFFFF else 2 + length  # padding, or a segment
    except struct.error:
        return None


def png(data: bytes) -> Header:
    """Walk the chunks of a PNG, those behind the pixels too.

    Raises:
        ValueError: it is broken before its pixels.
        Costly: it has very many.
    """
    needed, exif, xmp, at, start = [data[:8]], b"", b"", 8, 0
    for _ in range(_most(data)):
        try:
            length, kind = _unpacked(">I4s", data, at)
        except ValueError:
            if start:  # torn in its pixels: a decoder says more about it
                return Header(b"".join(needed), start, exif, xmp)
            raise
        if kind == b"IEND" and not start:
            raise ValueError("it has no pixels")
        if kind == b"IDAT":
            start = start or at
        elif kind == b"eXIf":
            exif = exif or data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0\0", at + 8):
            xmp = xmp or data[at + 8 : at + 8 + length]
        elif kind in (b"tEXt", b"zTXt") and data.startswith(b"Raw profile type exif\0", at + 8):
            exif = exif or _profile(data[at + 30 : at + 8 + length], compressed=kind == b"zTXt")
        if not start and kind not in PNG_LEFT_OUT:
            needed.append(data[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":
            return Header(b"".join(needed), start, exif, xmp)
    raise Costly(f"it has more than {_most(data):,} chunks")


def check_gif(data: bytes) -> None:
    """Walk the blocks of a GIF up to its second frame.

    Raises:
        Costly: it has very many.
    """
    left, frames = _most(data), 0
    try:
        at = 13 + _colours(data[10])
        while frames < 2 and data[at] in (0x21, 0x2C):
            if data[at] == 0x2C:
                frames += 1
                at += 11 + _colours(data[at + 9])
            else:
                at += 2
            while data[at]:
                at += 1 + data[at]
                left -= 1
                if left < 0:
                    raise Costly(f"it has more than {_most(data):,} blocks")
            at += 1
    except IndexError:
        return  # torn: a decoder says whether anything can be seen


def orientation(exif: bytes, xmp: bytes = b"") -> int | None:
    """How the camera was held, 1 to 8 by rights; None where nothing readable says so."""
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * entry)
            if tag == ORIENTATION:
                return value if kind == 3 else struct.unpack_from(f"{order}I", exif, start + 10 + 12 * entry)[0]
    except (KeyError, struct.error):
        pass  # a broken block says nothing about the pixels
    match = re.search(rb'tiff:Orientation(="|>)([0-9])', xmp)
    return int(match[2]) if match else None


def _unpacked(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(form, data, at)
    except struct.error:
        raise ValueError("it is cut off before its pixels") from None


def _most(data: bytes) -> int:
    return BLOCKS + len(data) // 64


def _colours(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _profile(text: bytes, *, compressed: bool) -> bytes:
    """The EXIF block that ImageMagick writes as hexadecimal text behind three lines; empty where it is broken."""
    try:
        inflated = zlib.decompressobj().decompress(text[1:], PROFILE) if compressed else text
        return bytes.fromhex(b"".join(inflated.split(b"\n")[3:]).decode("ascii")).removeprefix(b"Exif\0\0")
    except (zlib.error, ValueError):
        return b""
