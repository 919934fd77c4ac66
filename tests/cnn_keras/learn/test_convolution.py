"""The NumPy reference: worked by hand, against TensorFlow's operations and their gradients, and the laws it obeys."""

import keras
import numpy as np
import pytest
import scipy.linalg
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.errors import Fault
from cnn_keras.learn import convolution as reference
from cnn_keras.learn.model_profile import output_size

random = np.random.default_rng
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
ends = st.tuples(st.integers(0, 2), st.integers(0, 2))
sizes = st.tuples(st.integers(5, 9), st.integers(5, 9))
quick = settings(deadline=None)


@st.composite
def convolutions(draw):
    """Draw x, filters and settings whose filter, 5 pixels wide at the most, fits."""
    window = draw(pairs)
    dilation = tuple(draw(st.integers(1, 2 if taps == 3 else 3)) for taps in window)
    padding = draw(st.sampled_from(["valid", "same", "explicit"]))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    noise = random(draw(st.integers(0, 99)))
    x = noise.normal(size=(draw(st.integers(1, 2)), *draw(sizes), channels))
    settings = {
        "strides": draw(pairs),
        "padding": (draw(ends), draw(ends)) if padding == "explicit" else padding,
        "dilation": dilation,
    }
    return x, noise.normal(size=(*window, channels, filters)), settings


@st.composite
def poolings(draw, paddings=("valid", "same")):
    """Draw x, with ties, and settings; explicit padding is 1 at some ends of windows of 2 or 3."""
    window, padding = draw(pairs), draw(st.sampled_from(paddings))
    if padding == "explicit":
        padding = tuple(tuple(draw(st.integers(0, min(taps - 1, 1))) for _ in range(2)) for taps in window)
    x = random(draw(st.integers(0, 99))).integers(-3, 4, size=(2, *draw(sizes), draw(st.integers(1, 3)))).astype(float)
    return x, {"window": window, "strides": draw(st.none() | pairs), "padding": padding}


def tensorflow_padding(padding):
    return padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]


def holey(filters, dilation):
    """Filters with holes between their taps: TensorFlow has no gradient of dilated convolutions on the CPU."""
    (f, g, *channels), (down, right) = filters.shape, dilation
    spread = tf.pad(filters[:, None, :, None], [[0, 0], [0, down - 1], [0, 0], [0, right - 1], [0, 0], [0, 0]])
    return tf.reshape(spread, (f * down, g * right, *channels))[: (f - 1) * down + 1, : (g - 1) * right + 1]


def differentiated(function, *inputs):
    """Return y, a random gradient with respect to it, and TensorFlow's gradients with respect to the inputs."""
    inputs = [tf.constant(array) for array in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    gradient = random(7).normal(size=y.shape)
    return y.numpy(), gradient, [back.numpy() for back in tape.gradient(y, inputs, tf.constant(gradient))]


def equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9)


def test_a_convolution_by_hand():
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    filters = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    # 0·1 + 1·2 + 3·3 + 4·4 = 27: not turned; a step to the right or down adds 1 or 3 times the sum of weights, 10.
    assert reference.convolution(x, filters)[0, :, :, 0].tolist() == [[27, 37], [57, 67]]
    assert reference.convolution(x, filters, bias=1, strides=2)[0, :, :, 0].tolist() == [[28]]
    padded = reference.convolution(x, filters, padding=1, strides=2)[0, :, :, 0]
    assert padded.tolist() == [[0, 1 * 3 + 2 * 4], [3 * 2 + 6 * 4, 67]]
    assert reference.convolution(x, filters, dilation=2)[0, :, :, 0].tolist() == [[0 * 1 + 2 * 2 + 6 * 3 + 8 * 4]]


@quick
@given(convolutions())
def test_a_convolution_and_its_gradients_equal_those_of_tensorflow(case):
    x, filters, settings = case
    bias = random(1).normal(size=filters.shape[3])

    def oracle(x, filters, bias):
        padding = tensorflow_padding(settings["padding"])
        return tf.nn.conv2d(x, holey(filters, settings["dilation"]), settings["strides"], padding) + bias

    y, gradient, gradients = differentiated(oracle, x, filters, bias)
    equal([reference.convolution(x, filters, bias, **settings)], [y])
    equal(reference.convolution_backward(gradient, x, filters, **settings), gradients)


@quick
@given(convolutions())
def test_dilation_equals_that_of_tensorflow(case):
    x, filters, settings = case
    padding = tensorflow_padding(settings["padding"])
    y = tf.nn.conv2d(x, filters, settings["strides"], padding, dilations=settings["dilation"])
    equal([reference.convolution(x, filters, **settings)], [y.numpy()])


@quick
@given(convolutions())
def test_the_output_has_the_size_of_the_formula(case):
    x, filters, settings = case
    strides, dilation = settings["strides"], settings["dilation"]
    y = reference.convolution(x, filters, strides=strides, padding=2, dilation=dilation)
    axes = zip(x.shape[1:3], filters.shape[:2], strides, dilation, strict=True)
    assert y.shape[1:3] == tuple(output_size(n, f, padding=2, stride=s, dilation=d) for n, f, s, d in axes)


@quick
@given(convolutions())
def test_the_toeplitz_matrix_is_the_convolution_and_its_transpose_the_way_back(case):
    x, filters, settings = case
    x = x[:1]
    matrix = reference.toeplitz(filters, x.shape[1:3], **settings)
    y = reference.convolution(x, filters, **settings)
    np.testing.assert_allclose(matrix @ x.ravel(), y.ravel(), atol=1e-12)
    back, _, _ = reference.convolution_backward(y, x, filters, **settings)
    np.testing.assert_allclose(matrix.T @ y.ravel(), back.ravel(), atol=1e-12)


def test_in_one_dimension_the_matrix_is_toeplitz():
    filters = np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    expected = scipy.linalg.toeplitz([1, 0, 0], [1, 2, 3, 0, 0])
    assert reference.toeplitz(filters, (1, 5)).tolist() == expected.tolist()


@quick
@given(convolutions(), st.integers(0, 1), st.integers(0, 1))
def test_a_convolution_moves_with_its_image(case, down, right):
    x, filters, settings = case
    rows, columns = settings["strides"]
    settings |= {"padding": "valid"}
    x = np.pad(x, ((0, 0), (0, 6), (0, 6), (0, 0)))
    moved = x[:, rows * down :, columns * right :]
    y = reference.convolution(x, filters, **settings)
    equal([reference.convolution(moved, filters, **settings)], [y[:, down:, right:]])


def test_a_strided_convolution_does_not_move_by_less_than_its_stride():
    x, filters = random(0).normal(size=(1, 8, 8, 1)), np.ones((2, 2, 1, 1))
    y, moved = (reference.convolution(image, filters, strides=2) for image in (x, x[:, 1:]))
    assert not any(np.allclose(moved[:, :2], y[:, first : first + 2]) for first in range(3))


def test_the_gradients_of_a_convolution_are_the_slopes_of_its_loss():
    noise = random(3)
    arrays = [noise.normal(size=shape) for shape in ((1, 5, 4, 2), (3, 2, 2, 2), (2,))]
    settings = {"strides": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    answer = noise.normal(size=reference.convolution(*arrays, **settings).shape)

    def loss(arrays):
        return np.sum((reference.convolution(*arrays, **settings) - answer) ** 2)

    gradient = 2 * (reference.convolution(*arrays, **settings) - answer)
    for number, back in enumerate(reference.convolution_backward(gradient, *arrays[:2], **settings)):
        slopes = np.empty(back.shape)
        for place in np.ndindex(back.shape):
            step = np.zeros(back.shape)
            step[place] = 1e-5
            higher, lower = ([*arrays[:number], arrays[number] + s, *arrays[number + 1 :]] for s in (step, -step))
            slopes[place] = (loss(higher) - loss(lower)) / 2e-5
        np.testing.assert_allclose(back, slopes, atol=1e-7)


@quick
@given(convolutions())
def test_transposed_convolution_equals_that_of_tensorflow(case):
    x, filters, settings = case
    settings |= {"dilation": (1, 1)}
    y = random(5).normal(size=reference.convolution(x, filters, **settings).shape)
    padding = tensorflow_padding(settings["padding"])
    theirs = tf.nn.conv2d_transpose(y, filters, x.shape, settings["strides"], padding)
    equal([reference.transposed_convolution(y, filters, x.shape[1:3], **settings)], [theirs.numpy()])


@quick
@given(poolings(("valid", "same", "explicit")))
def test_max_pooling_and_its_gradient_equal_those_of_tensorflow(case):
    x, settings = case
    strides, padding = settings["strides"] or settings["window"], tensorflow_padding(settings["padding"])
    y, gradient, gradients = differentiated(lambda x: tf.nn.max_pool2d(x, settings["window"], strides, padding), x)
    equal([reference.max_pooling(x, **settings)], [y])
    equal([reference.max_pooling_backward(gradient, x, **settings)], gradients)


@quick
@given(poolings())
def test_average_pooling_and_its_gradient_equal_those_of_tensorflow(case):
    x, settings = case
    strides, padding = settings["strides"] or settings["window"], tensorflow_padding(settings["padding"])
    y, gradient, gradients = differentiated(lambda x: tf.nn.avg_pool2d(x, settings["window"], strides, padding), x)
    equal([reference.average_pooling(x, **settings)], [y])
    equal([reference.average_pooling_backward(gradient, x, **settings)], gradients)


def test_overlapping_windows_by_hand():
    x = np.array([[1.0, 5.0, 2.0, 5.0]]).reshape(1, 1, 4, 1)
    gradient = np.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    assert reference.max_pooling(x, (1, 3), strides=1).ravel().tolist() == [5, 5]
    # The second window, 5 2 5, routes to its first 5, which the first window chose too.
    assert reference.max_pooling_backward(gradient, x, (1, 3), strides=1).ravel().tolist() == [0, 11, 0, 0]
    assert reference.average_pooling(x, (1, 2), padding=((0, 0), (1, 1))).ravel().tolist() == [1, 3.5, 5]


@quick
@given(poolings())
def test_pooling_moves_with_its_image_by_whole_strides(case):
    x, settings = case
    rows, columns = settings["strides"] or settings["window"]
    settings |= {"padding": "valid"}
    x = np.pad(x, ((0, 0), (0, 6), (0, 6), (0, 0)))
    for pool in (reference.max_pooling, reference.average_pooling):
        equal([pool(x[:, rows:, columns:], **settings)], [pool(x, **settings)[:, 1:, 1:]])


def test_relu_gates_what_it_cut_off():
    x = np.array([-2.0, -0.0, 0.0, 3.0])
    y, gradient, gradients = differentiated(tf.nn.relu, x)
    equal([reference.relu(x), reference.relu_backward(gradient, x)], [y, *gradients])
    assert reference.relu_backward(np.ones(4), x).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (8, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_gradients_equal_those_of_keras(shape, training):
    noise = random(4)
    x, scale, offset, mean = (noise.normal(2, 3, size=size) for size in (shape, shape[-1], shape[-1], shape[-1]))
    variance = noise.uniform(0.5, 2, shape[-1])
    layer = keras.layers.BatchNormalization(dtype="float64", momentum=0.9, epsilon=1e-3)
    layer.build(shape)
    layer.set_weights([scale, offset, mean, variance])
    inputs = [tf.constant(x), layer.gamma.value, layer.beta.value]
    with tf.GradientTape() as tape:
        tape.watch(inputs[0])
        y = layer(inputs[0], training=training)
    gradient = noise.normal(size=shape)
    gradients = [back.numpy() for back in tape.gradient(y, inputs, tf.constant(gradient))]
    statistics = None if training else (mean, variance)
    equal([reference.batch_norm(x, scale, offset, statistics)], [y.numpy()])
    equal(reference.batch_norm_backward(gradient, x, scale, statistics), gradients)
    if training:
        moved = [
            0.9 * running + 0.1 * batch for running, batch in zip((mean, variance), reference.moments(x), strict=True)
        ]
        equal(moved, [layer.moving_mean.numpy(), layer.moving_variance.numpy()])


def test_batch_norm_leaves_mean_zero_and_variance_one():
    y = reference.batch_norm(random(0).normal(5, 3, size=(6, 4, 4, 3)), np.ones(3), np.zeros(3), epsilon=0)
    np.testing.assert_allclose(reference.moments(y), [[0] * 3, [1] * 3], atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (8, 6)])
def test_layer_norm_and_its_gradients_equal_those_of_keras(shape):
    x, scale, offset = (random(5).normal(2, 3, size=size) for size in (shape, 6, 6))
    layer = keras.layers.LayerNormalization(dtype="float64", epsilon=1e-3)
    layer.build(shape)

    layer.set_weights([scale, offset])
    with tf.GradientTape() as tape:
        tape.watch(inputs := tf.constant(x))
        y = layer(inputs)
    gradient = random(6).normal(size=shape)
    gradients = tape.gradient(y, [inputs, layer.gamma.value, layer.beta.value], tf.constant(gradient))
    equal([reference.layer_norm(x, scale, offset)], [y.numpy()])
    equal(reference.layer_norm_backward(gradient, x, scale), [back.numpy() for back in gradients])


def test_layer_norm_does_not_depend_on_the_batch_and_batch_norm_does():
    x, one = random(0).normal(size=(6, 4)), np.ones(4)
    equal([reference.layer_norm(x, one, 0 * one)[:2]], [reference.layer_norm(x[:2], one, 0 * one)])
    assert not np.allclose(reference.batch_norm(x, one, 0 * one)[:2], reference.batch_norm(x[:2], one, 0 * one))


def test_dense_and_its_gradients_equal_those_of_tensorflow():
    x, weights, bias = (random(2).normal(size=shape) for shape in ((4, 6), (6, 3), (3,)))
    y, gradient, gradients = differentiated(lambda x, weights, bias: x @ weights + bias, x, weights, bias)
    equal([reference.dense(x, weights, bias)], [y])
    equal(reference.dense_backward(gradient, x, weights), gradients)


def test_dense_is_a_convolution_whose_filters_are_as_large_as_the_image():
    x, filters = random(0).normal(size=(2, 4, 3, 5)), random(1).normal(size=(4, 3, 5, 7))
    convolved = reference.convolution(x, filters)
    equal([convolved.reshape(2, 7)], [reference.dense(x.reshape(2, -1), filters.reshape(-1, 7))])


def test_small_integers_do_not_overflow():
    x = np.full((1, 4, 4, 1), 255, np.uint8)
    assert reference.convolution(x, np.ones((3, 3, 1, 1), np.uint8)).tolist() == np.full((1, 2, 2, 1), 2295.0).tolist()
    assert reference.average_pooling(x).tolist() == reference.max_pooling(x).tolist() == [[[[255]] * 2] * 2]


def test_what_does_not_fit_is_refused():
    x, filters = np.zeros((1, 4, 5, 2)), np.zeros((3, 3, 2, 1))
    for wrong, message in [
        (lambda: reference.convolution(x[0], filters), r"x must have shape \(N, H, W, C\), got \(4, 5, 2\)"),
        (lambda: reference.convolution(x[..., :1], filters), r"filters must have shape \(f, g, 1, K\) for this x"),
        (lambda: reference.convolution(x, filters, dilation=2), r"at most the \(4, 5\) padded pixels, got \(5, 5\)"),
        (lambda: reference.convolution(x, filters, padding="full"), "padding must be valid, same, .* got 'full'"),
        (lambda: reference.convolution_backward(x, x, filters), r"y must have .* \(1, 2, 3, 1\), got \(1, 4, 5, 2\)"),
        (lambda: reference.max_pooling(x, 2, padding=2), r"padding must be smaller than the window, \(2, 2\)"),
    ]:
        with pytest.raises(Fault, match=message):
            wrong()
