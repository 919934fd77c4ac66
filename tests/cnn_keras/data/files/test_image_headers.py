"""Blocks of image files are counted and stepped over: what would cost minutes or gigabytes is refused by its header."""

import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data.files import image_headers
from cnn_keras.data.files.image_file import SLOW_LIMIT, normalize
from cnn_keras.data.image_decoding import decode, pixels
from cnn_keras.errors import Unreadable
from tests.odd_images import encoded, oriented, picture


def segment(marker, content):
    return struct.pack(">HH", marker, 2 + len(content)) + content


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_segments(*segments):
    """A JPEG with segments before its others."""
    whole = encoded(picture(), "JPEG")
    return whole[:2] + b"".join(segments) + whole[2:]


def with_chunks(*chunks, behind=False):
    """A PNG with chunks behind its header, or behind its pixels."""
    whole = encoded(picture(), "PNG")
    at = -12 if behind else 33
    return whole[:at] + b"".join(chunks) + whole[at:]


def with_scans(count, size=(16, 16)):
    """A progressive JPEG whose last scan, which says that nothing is to be refined, comes again and again."""
    whole = encoded(Image.new("RGB", size), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xc4") : -2]
    return whole[:-2] + last * (count - whole.count(b"\xff\xda")) + whole[-2:]


def crumbled_gif():
    """A GIF with a comment in blocks of one byte."""
    whole = encoded(picture(), "GIF")
    at = whole.index(b"\x2c", 13 + 3 * 256)
    return whole[:at] + b"\x21\xfe" + b"\x01x" * 2_000 + b"\0" + whole[at:]


def run_length_bmp(size):
    """A BMP of runs, padded behind them to `size` bytes."""
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 1, 6, 0, 0, 256, 0)
    colours = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    content = header + colours + b"\x04\x80\0\0\0\x01"
    return (b"BM" + struct.pack("<IHHI", 14 + len(content), 0, 0, 14 + 40 + 1024) + content).ljust(size, b"\0")


COSTLY = {
    "jpeg of 2,000 segments": with_segments(*[segment(0xFFEA, b"")] * 2_000),
    "jpeg of 2,000 bytes of padding": with_segments(b"\xff" * 2_000),
    "jpeg of 2,000 scans": with_scans(2_000),
    "jpeg of 400 scans of 2,500,000 pixels": with_scans(401, (2_500, 1_000)),
    "png of 2,000 chunks": with_chunks(*[chunk(b"tEXt", b"")] * 2_000),
    "png of 2,000 chunks behind its pixels": with_chunks(*[chunk(b"tEXt", b"")] * 2_000, behind=True),
    "gif of 2,000 blocks of a byte": crumbled_gif(),
    "bmp of runs": run_length_bmp(SLOW_LIMIT + 1),
    "ppm of a hundred levels": b"P5 1500 1500 100\n" + bytes(1500 * 1500),
}
BEARABLE = {
    "jpeg of 500 segments": with_segments(*[segment(0xFFEA, b"")] * 500),
    "jpeg of 900 scans": with_scans(900),
    "jpeg of 20 scans of 2,500,000 pixels": with_scans(20, (2_500, 1_000)),
    "png of 500 chunks": with_chunks(*[chunk(b"tEXt", b"a\0b")] * 500, behind=True),
    "bmp of runs": run_length_bmp(0),
    "ppm of a hundred levels": b"P5 15 15 100\n" + bytes(15 * 15),
    "ppm of all levels": b"P5 1500 1500 255\n" + bytes(1500 * 1500),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_file_of_far_more_work_than_its_pixels_are_worth_is_refused(name):
    with pytest.raises(Unreadable) as refused:
        normalize(COSTLY[name])
    assert refused.value.kind == "costly"


@pytest.mark.parametrize("name", BEARABLE)
def test_a_file_of_bearable_work_is_read(name):
    data, _ = normalize(BEARABLE[name])
    assert pixels(data).ndim == 3


@pytest.mark.parametrize(
    ("name", "limit"), [("jpeg of 2,000 scans", 1_000), ("jpeg of 400 scans of 2,500,000 pixels", 400)]
)
def test_the_graph_counts_scans_too(name, limit):
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer scans"):
        decode(COSTLY[name], channels=3)
    assert COSTLY[name].count(b"\xff\xda") > limit
    assert decode(BEARABLE["jpeg of 900 scans"], channels=3).shape == (16, 16, 3)


def exif(order, entries, count=None):
    """A TIFF header and one directory of (tag, type, count, value)."""
    rows = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return head + struct.pack(f"{order}IH", 8, len(entries) if count is None else count) + rows


def test_an_exif_block_whose_entries_share_its_bytes_takes_no_more_memory_than_it_has():
    block = b"Exif\0\0" + exif("<", [(tag, 7, 60_000, 8) for tag in range(0x9000, 0x9000 + 5_000)])
    data = with_segments(segment(0xFFE1, block))
    tracemalloc.start()
    normalize(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20  # each entry read for itself would be 300 MB


@pytest.mark.parametrize("order", "<>")
def test_the_orientation_is_found_in_either_order_of_bytes(order):
    upper = 6 << 16 if order == ">" else 6
    assert image_headers.orientation(exif(order, [(0x010F, 2, 4, 0), (0x0112, 3, 1, upper)])) == 6
    assert image_headers.orientation(exif(order, [(0x0112, 4, 1, 6)])) == 6
    assert image_headers.orientation(exif(order, [(0x010F, 2, 4, 0)])) is None
    assert image_headers.orientation(exif(order, [(0x010F, 2, 4, 0)], count=60_000)) is None
    assert image_headers.orientation(b"no TIFF header") is None
    assert image_headers.orientation(b"") is None


XMP = b'<rdf:Description tiff:Orientation="6"/>'


@pytest.mark.parametrize(
    "data",
    [
        oriented(picture(), "JPEG", 6),
        with_segments(segment(0xFFE1, image_headers.XMP + XMP)),
        with_segments(segment(0xFFE1, b"Exif\0\0" + exif("<", [(0x0112, 3, 1, 6)])), segment(0xFFE1, b"Exif\0\0")),
        oriented(picture(), "PNG", 6),
        with_chunks(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        with_chunks(chunk(b"eXIf", exif(">", [(0x0112, 3, 1, 6 << 16)])), behind=True),
        with_chunks(
            chunk(
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(b"\nexif\n  32\n" + (b"Exif\0\0" + exif("<", [(0x0112, 3, 1, 6)])).hex().encode()),
            )
        ),
    ],
)
def test_a_camera_held_upright_is_noticed_wherever_the_file_says_it(data):
    out, notes = normalize(data)
    assert notes == ["exif-rotated"]
    assert pixels(out).shape == (17, 13, 3)


def test_what_a_decoder_does_not_need_does_not_reach_it():
    data = with_segments(segment(0xFFE1, b"Exif\0\0"), segment(0xFFE2, bytes(60_000)), segment(0xFFFE, bytes(60_000)))
    header = image_headers.jpeg(data)
    assert len(header.needed) < 1_000
    np.testing.assert_array_equal(pixels(header.needed + data[header.start :]), pixels(data))
    data = with_chunks(chunk(b"iCCP", bytes(60_000)), chunk(b"tEXt", bytes(60_000)))
    header = image_headers.png(data)
    assert len(header.needed) < 1_000
    np.testing.assert_array_equal(pixels(header.needed + data[header.start :]), pixels(encoded(picture(), "PNG")))


@pytest.mark.parametrize("walk", [image_headers.jpeg, image_headers.png, image_headers.check_gif])
def test_a_walk_through_anything_ends(walk):
    rng = np.random.default_rng(0)
    for whole in (encoded(picture(), "JPEG"), encoded(picture(), "PNG"), encoded(picture(), "GIF")):
        for length in (*range(0, 60), len(whole) - 3):
            with contextlib.suppress(ValueError):
                walk(whole[:length] + rng.bytes(200))
