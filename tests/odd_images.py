"""Files that are not what they seem: written by Pillow, then torn, forged or inflated."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def picture(height=13, width=17, seed=0):
    """A smooth RGB picture in which no two corners look alike, so that a wrong turn shows even through JPEG."""
    y, x = np.mgrid[:height, :width]
    levels = np.stack([255 * y / height, 255 * x / width, 40 + 20 * seed + 0 * x], axis=-1)
    return Image.fromarray(levels.astype(np.uint8))


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def deep(height=9, width=11):
    """A 16-bit grey picture whose upper byte tells rows and columns apart."""
    return Image.fromarray((np.arange(height * width).reshape(height, width) * 600).astype(np.uint16))


def oriented(image, kind, orientation, **options):
    """`image` as a camera writes it: the pixels as they are, and how to turn them."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(image, kind, exif=exif, **options)


def forged_png(width, height):
    """A PNG whose header, with a right checksum, states another size than its pixels have."""
    header = b"IHDR" + struct.pack(">II", width, height) + bytes([8, 2, 0, 0, 0])
    whole = encoded(picture(), "PNG")
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def forged_jpeg(width, height):
    """A JPEG whose frame header states another size than its pixels have."""
    whole = bytearray(encoded(picture(), "JPEG"))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def forged_tiff(width, height):
    """A TIFF whose tags state another size than its pixels have."""
    whole = bytearray(encoded(picture(), "TIFF"))
    start = struct.unpack_from("<I", whole, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", whole, start)[0], 12):
        tag, kind = struct.unpack_from("<HH", whole, entry)
        if tag in (256, 257):
            struct.pack_into("<H" if kind == 3 else "<I", whole, entry + 8, width if tag == 256 else height)
    return bytes(whole)


def bad_checksum_png():
    whole = bytearray(encoded(picture(), "PNG"))
    whole[whole.index(b"IDAT") + 6] ^= 255
    return bytes(whole)


def bomb(side):
    """A black 1-bit PNG: a few kilobytes for side × side pixels."""
    return encoded(Image.new("1", (side, side)), "PNG")


def animation(kind, **options):
    return encoded(picture(), kind, save_all=True, append_images=[picture(seed=3), picture(seed=6)], **options)


def mpo():
    return encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=3)])


def palette(*, transparent):
    image = picture().quantize(16)
    return encoded(image, "PNG", transparency=bytes(range(0, 160, 10))) if transparent else encoded(image, "PNG")
