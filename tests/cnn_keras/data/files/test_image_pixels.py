"""Pixels without TensorFlow are those with it."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras.data import image_decoding
from cnn_keras.data.files import image_pixels
from cnn_keras.errors import Unreadable
from cnn_keras.ops import resize
from tests import odd_images

KINDS = {
    "JPEG": ("RGB", "JPEG", {"quality": 60}),
    "progressive JPEG": ("RGB", "JPEG", {"quality": 95, "progressive": True, "subsampling": 0}),
    "grey JPEG": ("L", "JPEG", {}),
    "PNG": ("RGB", "PNG", {}),
    "PNG with alpha": ("RGBA", "PNG", {}),
    "PNG with a palette": ("P", "PNG", {}),
    "grey PNG with alpha": ("LA", "PNG", {}),
}


def noise(height=37, width=53):
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_decodes_to_the_bit_as_in_the_graph(kind, channels):
    mode, form, options = KINDS[kind]
    data = odd_images.encoded(noise().convert(mode), form, **options)
    expected = image_decoding.decode(tf.constant(data), channels=channels).numpy()
    np.testing.assert_array_equal(image_pixels.decode(data, channels=channels), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_cut_as_in_the_graph(channels):
    data = odd_images.encoded(odd_images.deep(), "PNG")
    expected = image_decoding.decode(tf.constant(data), channels=channels).numpy()
    np.testing.assert_array_equal(image_pixels.decode(data, channels=channels), expected)


@pytest.mark.parametrize("fit", resize.FITS)
@pytest.mark.parametrize("size", [(37, 53), (20, 20), (90, 40), (64, 96), (1, 7)])
def test_an_image_is_framed_as_in_the_graph(size, fit):
    image = np.asarray(noise())
    expected = resize.resize_image(tf.constant(image), size, fit=fit).numpy().astype(int)
    framed = image_pixels.resize_image(image, size, fit=fit)
    assert framed.dtype == np.uint8
    differences = np.abs(framed - expected)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 1e-2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", resize.FITS)
@pytest.mark.parametrize("size", [(37, 53), (20, 20), (90, 40), (64, 96)])
def test_pillow_frames_an_image_as_the_graph_does_but_for_its_rounding(size, fit, channels):
    image = np.asarray(noise())[..., :channels]
    expected = resize.resize_image(tf.constant(image), size, fit=fit).numpy().astype(int)
    framed = image_pixels.resize_fast(image, size, fit=fit)
    assert framed.dtype == np.uint8
    assert framed.shape == (*size, channels)
    differences = np.abs(framed - expected)
    assert differences.max() <= 1
    assert differences.mean() < 0.3


def test_a_picture_that_ends_within_the_last_pixel_of_its_image_is_resized_without_what_lies_beyond():
    ramp = np.arange(12, dtype=np.uint8) * 20  # a level of 20 (x − 0.5) at x pixels from the left
    image = np.tile(ramp, (8, 1))[..., None]
    framed = image_pixels.resize_fast(image, (8, 4), extent=(8, 10.5))
    middles = (np.arange(4) + 0.5) * 10.5 / 4
    np.testing.assert_allclose(framed[4, 1:3, 0], (20 * (middles - 0.5))[1:3], atol=1)


@pytest.mark.parametrize("data", [b"", b"no image", odd_images.forged_png(2**15, 2**15), b"\xff\xd8\xff"], ids=str)
def test_what_is_no_image_or_too_large_is_unreadable(data):
    with pytest.raises(Unreadable):
        image_pixels.decode(data, channels=3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
def test_other_formats_are_refused(kind):
    with pytest.raises(Unreadable):
        image_pixels.decode(odd_images.encoded(noise(), kind), channels=3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_torn_image_is_unreadable(kind):
    data = odd_images.encoded(noise(), kind)
    with pytest.raises(Unreadable):
        image_pixels.decode(data[: len(data) // 2], channels=3)
    assert image_pixels.decode(data, channels=3).shape == (37, 53, 3)
