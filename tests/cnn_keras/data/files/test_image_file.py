"""What gets through the two doors of encoded images, what does not, and that what does looks as a person sees it."""

import io
import resource

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cnn_keras.data.files.image_file import SIDE_LIMIT, encode_png, normalize, reason
from cnn_keras.data.image_decoding import decode, pixels
from cnn_keras.errors import Unreadable
from tests.odd_images import (
    animation,
    bad_checksum_png,
    bomb,
    deep,
    encoded,
    forged_jpeg,
    forged_png,
    forged_tiff,
    mpo,
    oriented,
    palette,
    picture,
)

LOSSY = 16  # grey levels that writing a JPEG once more may change
STRING = [tf.TensorSpec((), tf.string)]
DECODE = {
    channels: tf.function(lambda data, channels=channels: decode(data, channels=channels), input_signature=STRING)
    for channels in (1, 3)
}

USABLE = {  # file, the notes on it
    "grey png": (encoded(picture().convert("L"), "PNG"), []),
    "1-bit png": (encoded(picture().convert("1"), "PNG"), []),
    "rgb png": (encoded(picture(), "PNG"), []),
    "interlaced rgba png": (encoded(picture().convert("RGBA"), "PNG", interlace=1), ["transparent"]),
    "grey and alpha png": (encoded(picture().convert("LA"), "PNG"), ["transparent"]),
    "png with a transparent colour": (encoded(picture(), "PNG", transparency=(0, 0, 40)), ["transparent"]),
    "palette png": (palette(transparent=False), ["palette"]),
    "transparent palette png": (palette(transparent=True), ["palette", "transparent"]),
    "turned transparent palette png": (
        oriented(picture().quantize(16), "PNG", 6, transparency=bytes(range(0, 160, 10))),
        ["exif-rotated", "palette", "transparent"],
    ),
    "16-bit png": (encoded(deep(), "PNG"), ["16-bit"]),
    "turned 16-bit png": (oriented(deep(), "PNG", 6), ["exif-rotated", "16-bit"]),
    "animated png": (animation("PNG"), ["animated"]),
    "jpeg": (encoded(picture(), "JPEG"), []),
    "grey jpeg": (encoded(picture().convert("L"), "JPEG"), []),
    "progressive jpeg": (encoded(picture(), "JPEG", progressive=True), []),
    "cmyk jpeg": (encoded(picture().convert("CMYK"), "JPEG"), ["cmyk"]),
    "turned jpeg": (oriented(picture(), "JPEG", 3), ["exif-rotated"]),
    "mpo": (mpo(), []),
    "gif": (encoded(picture(), "GIF"), ["gif"]),
    "grey gif": (encoded(picture().convert("L"), "GIF"), ["gif"]),
    "transparent gif": (encoded(picture().quantize(16), "GIF", transparency=0), ["transparent", "gif"]),
    "animated gif": (animation("GIF"), ["animated", "gif"]),
    "gif torn in its second frame": (animation("GIF")[:-200], ["animated", "gif"]),
    "bmp": (encoded(picture(), "BMP"), ["bmp"]),
    "tiff": (encoded(picture(), "TIFF"), ["tiff"]),
    "packed tiff": (encoded(picture(), "TIFF", compression="tiff_lzw"), ["tiff"]),
    "1-bit tiff": (encoded(picture().convert("1"), "TIFF", compression="group4"), ["tiff"]),
    "16-bit tiff": (encoded(deep(), "TIFF"), ["16-bit", "tiff"]),
    "cmyk tiff": (encoded(picture().convert("CMYK"), "TIFF"), ["cmyk", "tiff"]),
    "turned tiff": (oriented(picture(), "TIFF", 6), ["exif-rotated", "tiff"]),
    "tiff of three pages": (animation("TIFF"), ["animated", "tiff"]),
    "1-bit bmp": (encoded(picture().convert("1"), "BMP"), ["bmp"]),
    "webp": (encoded(picture(), "WEBP"), ["webp"]),
    "transparent webp": (encoded(picture().convert("RGBA").rotate(20), "WEBP"), ["transparent", "webp"]),
    "turned webp": (oriented(picture(), "WEBP", 8), ["exif-rotated", "webp"]),
    "animated webp": (animation("WEBP"), ["animated", "webp"]),
}
UNUSABLE = {  # file, its kind
    "nothing": (b"", "empty"),
    "text": (b"these are no pixels, however long the sentence becomes", "undecodable"),
    "zeros": (bytes(4096), "undecodable"),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt ", "undecodable"),
    "two letters": (b"BM", "undecodable"),
    "a png's signature": (encoded(picture(), "PNG")[:8], "undecodable"),
    "a jpeg's signature": (b"\xff\xd8\xff", "undecodable"),
    "jpeg torn in its header": (encoded(picture(), "JPEG")[:100], "undecodable"),
    "torn bmp": (encoded(picture(), "BMP")[:300], "undecodable"),
    "torn webp": (encoded(picture(), "WEBP")[:-40], "undecodable"),
    "png of 2³² − 1 columns": (forged_png(2**32 - 1, 1), "huge"),
    "png without rows": (forged_png(13, 0), "undecodable"),
    "png of 60,000 × 60,000": (forged_png(60_000, 60_000), "huge"),
    "jpeg of 65,000 × 65,000": (forged_jpeg(65_000, 65_000), "huge"),
    "bomb": (bomb(8000), "huge"),
    "gif of 60,000 × 60,000": (b"GIF89a\x60\xea\x60\xea" + encoded(picture(), "GIF")[10:], "huge"),
    "strip": (encoded(Image.new("1", (SIDE_LIMIT + 1, 1)), "PNG"), "huge"),
    "bigtiff": (b"II+\0\x08\0\0\0" + bytes(64), "unsupported"),
    "tiff of floats": (encoded(Image.fromarray(np.zeros((3, 4), np.float32)), "TIFF"), "unsupported"),
    "tiff of 32 bits": (encoded(Image.fromarray(np.zeros((3, 4), np.int32)), "TIFF"), "unsupported"),
    "tiff of 60,000 × 60,000": (forged_tiff(60_000, 60_000), "huge"),
    "torn tiff": (encoded(picture(), "TIFF")[:100], "undecodable"),
    "jpeg xl": (b"\xff\x0a" + bytes(64), "unsupported"),
    "jpeg xl in its container": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "unsupported"),
    "jpeg 2000": (encoded(picture(), "JPEG2000"), "unsupported"),
    "avif": (encoded(picture(), "AVIF"), "unsupported"),
    "pdf": (encoded(picture(), "PDF"), "unsupported"),
}
BROKEN_PIXELS = {  # a sound header: only decoding shows it
    "torn png": encoded(picture(), "PNG")[:-30],
    "torn jpeg": encoded(picture(60, 80), "JPEG")[:-200],
    "png with a bad checksum": bad_checksum_png(),
    "png with more pixels in its header": forged_png(300, 300),
    "jpeg with more pixels in its header": forged_jpeg(5_000, 5_000)[:-20],
}
REFUSED_BY_THE_GRAPH = {
    **{name: data for name, (data, _) in UNUSABLE.items()},
    **BROKEN_PIXELS,
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP"),
    "animated webp": animation("WEBP"),
    "png of 2³² − 1 squared": forged_png(2**32 - 1, 2**32 - 1),
    "png of −1 columns": forged_png(2**32 - 1, 2**32 - 50_000_000),
}


def seen(data, mode="RGB"):
    """The pixels as a viewer shows them, alpha dropped."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        image.info.pop("transparency", None)  # else converting is no longer dropping
        return np.asarray(ImageOps.exif_transpose(image).convert(mode)).astype(int)


@pytest.mark.parametrize("name", USABLE)
def test_a_usable_file_is_noted_for_what_it_is_and_decodes(name):
    data, notes = USABLE[name]
    out, found = normalize(data)
    assert found == notes
    for channels, graph in DECODE.items():
        image = graph(out)
        assert image.dtype == tf.uint8
        assert image.shape[-1] == channels
    if "16-bit" not in notes:
        assert np.abs(DECODE[3](out).numpy() - seen(data)).max() <= (LOSSY if out[:1] == b"\xff" else 0)


@pytest.mark.parametrize("name", [name for name, (_, notes) in USABLE.items() if not notes])
def test_an_ordinary_file_comes_back_untouched(name):
    data, _ = USABLE[name]
    assert normalize(data)[0] is data


@pytest.mark.parametrize("name", USABLE)
def test_what_is_plain_needs_no_second_turn(name):
    out, _ = normalize(USABLE[name][0])
    again, notes = normalize(out)
    assert again == out
    assert not {"exif-rotated", "cmyk", "gif", "bmp", "webp"} & set(notes)


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_is_refused_by_its_kind(name):
    data, kind = UNUSABLE[name]
    with pytest.raises(Unreadable) as refused:
        normalize(data)
    assert refused.value.kind == kind
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", BROKEN_PIXELS)
def test_broken_pixels_behind_a_sound_header_are_left_to_the_decoder(name):
    assert normalize(BROKEN_PIXELS[name]) == (BROKEN_PIXELS[name], [])


@pytest.mark.parametrize("name", REFUSED_BY_THE_GRAPH)
def test_the_graph_refuses_what_it_should_and_says_why_in_one_line(name):
    for graph in DECODE.values():
        with pytest.raises((tf.errors.InvalidArgumentError, UnicodeDecodeError)) as refused:
            graph(REFUSED_BY_THE_GRAPH[name])
        assert len(reason(refused.value).splitlines()) == 1


def test_the_graph_refuses_a_bomb_before_it_takes_memory():
    bombs = [bomb(8000), encoded(Image.new("L", (20_000, 20_000)), "JPEG"), forged_png(1_000_000, 50)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in bombs:
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 50000000 pixels"):
            DECODE[3](data)
        with pytest.raises(Unreadable, match="limit"):
            normalize(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB; one bomb has 192 MB of pixels


def test_the_limit_is_the_callers():
    data = encoded(picture(10, 10), "PNG")
    assert normalize(data, pixel_limit=100) == (data, [])
    assert decode(data, channels=3, pixel_limit=100).shape == (10, 10, 3)
    with pytest.raises(Unreadable, match="10x10 pixels are more than the limit of 99"):
        normalize(data, pixel_limit=99)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 99 pixels"):
        decode(data, channels=3, pixel_limit=99)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_exif_orientation_ends_upright(kind, orientation):
    data = oriented(picture(), kind, orientation)
    out, notes = normalize(data)
    assert ("exif-rotated" in notes) == (orientation > 1)
    assert np.abs(DECODE[3](out).numpy() - seen(data)).max() <= (LOSSY if kind == "JPEG" else 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_turned_png_of_any_mode_keeps_its_pixels(mode):
    image = deep() if mode == "I;16" else picture().convert(mode)
    upright = DECODE[3](normalize(encoded(image, "PNG"))[0]).numpy()
    turned = DECODE[3](normalize(oriented(image, "PNG", 6))[0]).numpy()
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    data = oriented(picture(), "JPEG", orientation)
    assert normalize(data) == (data, [])


def test_a_broken_exif_block_does_not_cost_the_picture():
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0no TIFF header here")
    assert normalize(data) == (data, [])


def test_sixteen_bits_are_cut_to_their_upper_byte():
    upper = np.asarray(deep()) >> 8
    np.testing.assert_array_equal(DECODE[1](encoded(deep(), "PNG"))[..., 0], upper)
    np.testing.assert_array_equal(DECODE[1](normalize(oriented(deep(), "PNG", 3))[0])[..., 0], upper[::-1, ::-1])


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 45, 3), np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 75, 95, 100])
def test_a_jpeg_has_the_pixels_that_pillow_and_opencv_decode(quality, subsampling, progressive):
    data = encoded(NOISE, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    image = DECODE[3](data).numpy()
    np.testing.assert_array_equal(image, seen(data))
    np.testing.assert_array_equal(image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
    np.testing.assert_array_equal(pixels(data), image)
    luma = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(DECODE[1](data).numpy()[..., 0], luma)
    assert np.abs(tf.io.decode_jpeg(data).numpy().astype(int) - image).max() >= 3  # what a default would do


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_without_three_colours_has_the_pixels_that_pillow_decodes(mode):
    data = encoded(NOISE.convert(mode), "JPEG", quality=95)
    np.testing.assert_array_equal(DECODE[3](data), seen(data))


def test_decode_works_eagerly_in_tf_data_and_in_map_fn():
    files = [encoded(picture(8, 8, seed), kind) for seed, kind in ((0, "PNG"), (1, "JPEG"), (2, "PNG"))]
    eager = np.stack([decode(file, channels=3) for file in files])
    dataset = tf.data.Dataset.from_tensor_slices(files).map(lambda file: decode(file, channels=3))
    np.testing.assert_array_equal(np.stack(list(dataset)), eager)
    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    batched = tf.function(lambda many: tf.map_fn(lambda one: decode(one, channels=3), many, fn_output_signature=spec))
    np.testing.assert_array_equal(batched(tf.constant(files)), eager)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 50000000 pixels"):
        batched(tf.constant([files[0], bomb(8000)]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG or PNG"):
        list(dataset.concatenate(tf.data.Dataset.from_tensors(b"GIF89a").map(lambda file: decode(file, channels=3))))


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_survive_as_png(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    np.testing.assert_array_equal(decode(encode_png(image), channels=channels), image)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(USABLE)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of Pillow, on what it finds odd
def test_damage_is_refused_or_survived_but_never_anything_else(name, changes):
    data = bytearray(USABLE[name][0])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        out, _ = normalize(bytes(data))
    except Unreadable:
        return
    try:
        image = pixels(out)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        assert out == data  # what was rewritten can be decoded
        return
    np.testing.assert_array_equal(DECODE[3](out), image)  # the guard lets pass what the header check lets pass


def test_a_format_that_is_not_read_is_named():
    for name, said in (("jpeg xl in its container", "JPEG XL"), ("jpeg 2000", "JPEG 2000"), ("avif", "AVIF")):
        with pytest.raises(Unreadable, match=f"{said} is not one of JPEG, PNG"):
            normalize(UNUSABLE[name][0])


def test_a_server_does_not_read_tiff():
    with pytest.raises(Unreadable, match="TIFF is not one of JPEG, PNG, GIF, BMP, WebP, PGM, PPM"):
        normalize(encoded(picture(), "TIFF"), tiff=False)
