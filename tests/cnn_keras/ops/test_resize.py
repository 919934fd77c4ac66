"""Framing on pictures whose pixels are their own coordinates, and against TensorFlow's own two-step resizing."""

import resource

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.ops.resize import FITS, resize_image, resize_matrices


def coordinates(height, width):
    """uint8 (height, width, 3): row, column and 255."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.full_like(x, 255)], axis=-1).astype(np.uint8)


def in_two_steps(image, size, fit):
    """The whole picture scaled to its nearest whole number of pixels, then cut or laid on black: slow and plain."""
    given = np.array(image.shape[:2], np.float32)
    ratios = np.array(size, np.float32) / given
    ratio = {"stretch": ratios, "crop": ratios.max(), "pad": ratios.min()}[fit]
    height, width = np.maximum(np.round(given * ratio), 1).astype(int)
    resized = np.round(tf.image.resize(image, (height, width), antialias=True))
    if fit == "crop":
        top, left = -((size[0] - height) // 2), -((size[1] - width) // 2)
        return resized[top : top + size[0], left : left + size[1]]
    framed = np.zeros((*size, image.shape[-1]))
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    framed[top : top + height, left : left + width] = resized
    return framed


SIDE = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.sampled_from(FITS), st.sampled_from([1, 3]))
def test_one_step_equals_scaling_then_cutting_or_padding(given_size, size, fit, channels):
    image = np.random.default_rng(0).integers(0, 256, (*given_size, channels), np.uint8)
    framed = resize_image(image, size, fit=fit)
    assert framed.dtype == tf.uint8
    assert framed.shape == (*size, channels)
    # a half is rounded either way
    assert np.abs(framed.numpy().astype(float) - in_two_steps(image, size, fit)).max() <= 1


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_stays_as_it_is(fit):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    np.testing.assert_array_equal(resize_image(image, (9, 14), fit=fit), image)


def test_stretch_shows_the_whole_picture():
    framed = resize_image(coordinates(40, 20), (20, 20))
    np.testing.assert_array_equal(framed[0, :, 1], np.arange(20))
    np.testing.assert_allclose(framed[2:-2, 0, 0], np.arange(20)[2:-2] * 2 + 0.5, atol=0.51)


def test_crop_keeps_the_centre_and_the_aspect_ratio():
    framed = resize_image(coordinates(20, 60), (20, 20), fit="crop").numpy()
    np.testing.assert_array_equal(framed, coordinates(20, 60)[:, 20:40])


def test_pad_keeps_everything_between_black_borders():
    framed = resize_image(coordinates(10, 20), (20, 20), fit="pad").numpy()
    np.testing.assert_array_equal(framed[5:15], coordinates(10, 20))
    assert not framed[:5].any()
    assert not framed[15:].any()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(32, 24), (7, 9)])
def test_graph_and_eager_agree_and_the_shape_is_static(fit, size):
    images = [np.random.default_rng(side).integers(0, 256, (side, 9, 3), np.uint8) for side in (5, 7, 50)]
    graph = tf.function(
        lambda image: resize_image(image, size, fit=fit), input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
    )
    assert graph.get_concrete_function().output_shapes == (*size, 3)
    for image in images:
        np.testing.assert_array_equal(graph(image), resize_image(image, size, fit=fit))


def test_a_long_strip_is_framed_without_growing_first():
    strip = np.full((10, 30_000, 3), 200, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    framed = resize_image(strip, (224, 224), fit="crop")  # scaled as a whole it would have 224 × 672,000 pixels: 1.8 GB
    assert (framed.numpy() == 200).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_an_unknown_fit_is_an_error():
    with pytest.raises(ValueError, match="fit must be one of stretch, crop, pad, got 'fill'"):
        resize_image(coordinates(4, 4), (2, 2), fit="fill")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("extent", "size"), [((30, 40), (22, 50)), ((17, 60), (32, 32)), ((9, 9), (20, 5))])
def test_resizing_is_two_products_of_matrices(extent, size, fit):
    image = np.random.default_rng(0).integers(0, 256, (*extent, 3), np.uint8)
    down, across = resize_matrices(extent, size, fit=fit)
    assert (down.shape, across.shape) == ((size[0], extent[0]), (size[1], extent[1]))
    found = np.einsum("ij,jkc,lk->ilc", down, image.astype(np.float64), across)
    np.testing.assert_allclose(found, resize_image(tf.constant(image), size, fit=fit), atol=0.51)
