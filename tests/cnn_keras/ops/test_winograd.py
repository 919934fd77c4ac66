"""Convolutions by a kernel that stands still are TensorFlow's, forward and backward, at any size."""

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.ops import winograd


@pytest.fixture(params=["by rows", "direct"])
def kind(request, monkeypatch):
    """Both ways, whatever the number of channels and the device."""
    way = {"by rows": winograd._by_rows, "direct": winograd._direct}[request.param]
    monkeypatch.setattr(winograd, "_convolution", lambda kernel: way(np.ascontiguousarray(kernel)))


@pytest.mark.parametrize("size", [(7, 9), (5, 4), (3, 1), (1, 6), (8, 8)])
def test_it_is_the_convolution_and_its_gradient(kind, size):
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(2, *size, 6)).astype("float32"))
    kernel = generator.normal(size=(3, 3, 6, 5)).astype("float32")
    ours, theirs = winograd.fixed_kernel_convolution(kernel), lambda x: tf.nn.conv2d(x, kernel, 1, "SAME")
    found = []
    for convolve in (tf.function(ours), theirs):
        with tf.GradientTape() as tape:
            tape.watch(images)
            answer = convolve(images)
            total = tf.reduce_sum(answer**2)
        found.append((answer, tape.gradient(total, images)))
    for got, wanted in zip(*found, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_one_function_takes_images_of_any_size():
    convolve = tf.function(
        winograd.fixed_kernel_convolution(np.ones((3, 3, 96, 96), "float32")),
        input_signature=[tf.TensorSpec((None, None, None, 96))],
    )
    for size in (4, 5, 11):
        middle = convolve(tf.ones((1, size, size, 96)))[0, 1, 1]
        np.testing.assert_allclose(middle, 9 * 96, rtol=1e-4)


def test_few_channels_are_convolved_directly():
    few, many = np.ones((3, 3, 8, 8), "float32"), np.ones((3, 3, 64, 128), "float32")
    with tf.Graph().as_default() as graph:
        winograd.fixed_kernel_convolution(few)(tf.ones((1, 8, 8, 8)))
        assert sum(op.type == "Conv2D" for op in graph.get_operations()) == 1
    if not tf.config.list_physical_devices("GPU"):
        with tf.Graph().as_default() as graph:
            winograd.fixed_kernel_convolution(many)(tf.ones((1, 8, 8, 64)))
            assert sum(op.type == "Conv2D" for op in graph.get_operations()) == 6
