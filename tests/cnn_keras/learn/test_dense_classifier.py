"""Sliding windows: one pass gives what the windows one by one give, wherever no layer pads."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.learn import dense_classifier
from pipelines.analysis import sliding_window
from tests.conftest import cnn

NINE = np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3, 1)


def classifier(*stack, shape=(4, 4, 1)):
    x = image = keras.Input(shape, name="image")
    for layer in stack:
        x = layer(x)
    return keras.Model(image, x, name="classifier")


def weighing(units=1):
    """2×2 pixels, of which the dense layer makes 1, 10, 100 and 1000."""
    model = classifier(layers.Flatten(), layers.Dense(units, use_bias=False, name="logits"), shape=(2, 2, 1))
    model.set_weights([np.array([[1.0], [10.0], [100.0], [1000.0]], np.float32)])
    return model


def assembled(network, mean=120.0):
    """As the pipelines do it: uint8, normalisation, then the network as one layer."""
    entry = keras.Input(network.input_shape[1:], dtype="uint8", name="image")
    channels = network.input_shape[-1]
    normalized = layers.Normalization(mean=[mean] * channels, variance=[4900.0] * channels, name="normalization")(entry)
    logits = network(normalized)
    logits = logits["logits"] if isinstance(logits, dict) else logits
    return keras.Model(entry, layers.Identity(dtype="float32", name="logits")(logits), name="run")


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_a_dense_layer_is_a_convolution_of_the_whole_window():
    found = dense_classifier.convolutional(dense_classifier.to_fully_convolutional(weighing()), NINE)
    assert found.logits[..., 0].tolist() == [[5421, 6532], [8754, 9865]]
    third = 1 / 3
    expected = [[[0, 0, 2, 2], [1, 0, 3, 2]], [[0, 1, 2, 3], [1, 1, 3, 3]]]
    np.testing.assert_allclose(found.boxes, np.multiply(expected, third), atol=1e-6)


def test_a_global_average_is_an_average_of_the_window():
    model = classifier(layers.GlobalAveragePooling2D(), shape=(2, 2, 1))
    found = dense_classifier.convolutional(dense_classifier.to_fully_convolutional(model), NINE)
    assert found.logits[..., 0].tolist() == [[3, 4], [6, 7]]


def test_the_multiply_adds_are_those_of_shared_and_of_lone_windows():
    model = classifier(layers.Conv2D(1, 2), layers.Flatten(), layers.Dense(1), shape=(3, 3, 1))
    # Four windows of 4 positions of 4 weights and a dense layer of 4 each; or 9 positions, and it 4 times.
    assert dense_classifier.multiply_adds(model, dense_classifier.to_fully_convolutional(model), (4, 4)) == (
        4 * (4 * 4 + 4),
        9 * 4 + 4 * 4,
    )


@pytest.mark.parametrize(
    ("builder", "arguments"),
    [
        ("lenet.lenet5", {}),
        ("lenet.lenet5_modern", {}),
        ("lenet.lenet5_modern", {"batch_norm": True, "drop_connect": 0.5, "dropout": 0.5, "pooling": "average"}),
    ],
)
def test_without_padding_one_pass_gives_the_scores_of_the_windows_one_by_one(builder, arguments):
    keras.utils.set_random_seed(0)
    model = assembled(models.build(builder, input_shape=(32, 32, 1), classes=5, **arguments))
    network = dense_classifier.to_fully_convolutional(model)
    assert (network.window, network.stride, network.padded) == ((32, 32), (4, 4), ())
    picture = noise(43, 50, 1)  # three pixels more than whole strides, and two
    one_by_one, at_once = (
        dense_classifier.naive(model, picture, stride=4),
        dense_classifier.convolutional(network, picture),
    )
    assert at_once.logits.shape == (3, 5, 5)
    np.testing.assert_allclose(at_once.logits, one_by_one.logits, rtol=1e-5, atol=1e-4)
    assert np.array_equal(at_once.boxes, one_by_one.boxes)
    assert np.ptp(one_by_one.logits, axis=(0, 1)).max() > 0.1  # the windows do differ


SLOW = (pytest.mark.slow,)
FAMILIES = [
    pytest.param("introductory.two_conv", (28, 28, 1), {}, id="two_conv"),
    pytest.param("alexnet.alexnet", (67, 67, 3), {"hidden": 32}, id="alexnet"),
    pytest.param("nin.nin_cifar", (32, 32, 3), {}, id="nin"),
    pytest.param("shortcuts.exclusive_gating", (32, 32, 3), {"depth": 8}, id="gating"),
    pytest.param("maxout.maxout", (28, 28, 1), {}, id="maxout"),
    pytest.param("vgg.vgg11", (32, 32, 3), {"hidden": 32}, id="vgg", marks=SLOW),
    pytest.param("resnet.resnet20", (32, 32, 3), {}, id="resnet20", marks=SLOW),
    pytest.param("googlenet.googlenet", (65, 65, 3), {"auxiliary": True}, id="googlenet", marks=SLOW),
    pytest.param("densenet.densenet121", (32, 32, 3), {}, id="densenet", marks=SLOW),
    pytest.param("mobilenet.mobilenet_v2", (32, 32, 3), {}, id="mobilenet", marks=SLOW),
    pytest.param("efficientnet.efficientnet_lite0", (32, 32, 3), {}, id="efficientnet", marks=SLOW),
]


@pytest.mark.parametrize(("builder", "shape", "arguments"), FAMILIES)
def test_on_a_picture_of_one_window_every_family_answers_as_before(builder, shape, arguments):
    keras.utils.set_random_seed(0)
    model = assembled(models.build(builder, input_shape=shape, classes=5, **arguments))
    network, picture = dense_classifier.to_fully_convolutional(model), noise(*shape)
    found = dense_classifier.convolutional(network, picture).logits
    assert found.shape == (1, 1, 5)
    np.testing.assert_allclose(found[0, 0], model(picture[None])[0], rtol=1e-4, atol=1e-4)
    assert network.padded


def test_with_padding_the_scores_differ_only_where_something_is_near_a_window_s_border():
    keras.utils.set_random_seed(0)
    model = models.build("introductory.two_conv", input_shape=(28, 28, 1), classes=5)  # its biases are zero
    network, picture = dense_classifier.to_fully_convolutional(model), np.zeros((68, 68, 1), np.float32)
    assert network.padded == ("conv1", "conv2")
    picture[33:35, 33:35] = 1.0
    one_by_one, at_once = (
        dense_classifier.naive(model, picture, stride=4),
        dense_classifier.convolutional(network, picture),
    )
    starts = np.arange(0, 41, 4)
    inside = (starts + 6 <= 33) & (starts + 28 - 6 >= 35)
    outside = (starts >= 35 + 6) | (starts + 28 + 6 <= 33)
    clear = np.outer(inside, inside) | outside[:, None] | outside[None, :]
    same = np.abs(at_once.logits - one_by_one.logits).max(axis=-1) < 1e-5
    assert np.outer(inside, inside).sum() == 9
    assert same[clear].all()
    assert not same.all()


def test_what_no_window_reaches_changes_nothing():
    keras.utils.set_random_seed(0)
    network = dense_classifier.to_fully_convolutional(
        models.build("resnet.resnet20", input_shape=(32, 32, 1), classes=3)
    )
    picture = noise(44, 39, 1).astype(np.float32) / 255
    cut = dense_classifier.convolutional(network, picture[:44, :36]).logits
    np.testing.assert_allclose(dense_classifier.convolutional(network, picture).logits, cut, atol=1e-5)


def test_the_network_is_a_copy_and_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    model = assembled(models.build("lenet.lenet5", input_shape=(32, 32, 1), classes=4))
    network, picture = dense_classifier.to_fully_convolutional(model).network, noise(1, 40, 36, 1)
    before = network(picture).numpy()
    network.save(tmp_path / "network.keras")
    for weight in model.weights:
        weight.assign(weight * 0)
    assert np.array_equal(network(picture), before)
    assert np.array_equal(keras.models.load_model(tmp_path / "network.keras")(picture), before)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: classifier(layers.GroupNormalization(1), layers.Flatten(), layers.Dense(2)), "GroupNormalization"),
        (lambda: classifier(layers.Flatten(), layers.BatchNormalization(), layers.Dense(2)), "BatchNormalization"),
        (lambda: classifier(layers.Flatten(), layers.Activation("softmax"), layers.Dense(2)), "dense layer behind"),
        (lambda: classifier(layers.Flatten()), "one vector"),
        (lambda: classifier(layers.Conv2D(1, 2)), "one vector"),
        (lambda: classifier(layers.Permute((2, 1, 3)), layers.Flatten(), layers.Dense(2)), "Permute"),
        (lambda: classifier(layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()), "keepdims"),
        (lambda: classifier(layers.GlobalAveragePooling2D(), shape=(None, None, 1)), "fixed size"),
        (lambda: classifier(layers.Dense(2), shape=(4,)), "single pictures"),
    ],
)
def test_what_cannot_be_convolved_is_refused(model, told):
    with pytest.raises(Fault, match=told):
        dense_classifier.to_fully_convolutional(model())


def test_a_picture_smaller_than_a_window_is_refused():
    model = weighing()
    for look in (
        partial(dense_classifier.convolutional, dense_classifier.to_fully_convolutional(model)),
        partial(dense_classifier.naive, model),
    ):
        with pytest.raises(Fault, match="at least 2×2 pixels"):
            look(NINE[:1])
    with pytest.raises(Fault, match="stride must be at least 1"):
        dense_classifier.naive(model, NINE, stride=0)


def test_a_larger_stride_leaves_windows_out():
    model = weighing()
    assert dense_classifier.naive(model, NINE, stride=(1, 2)).logits[..., 0].tolist() == [[5421], [8754]]


def squares():
    """Class 1: 4×4 pixels that are all bright."""
    model = classifier(layers.Flatten(), layers.Dense(2, name="logits"))
    kernel = np.zeros((16, 2), np.float32)
    kernel[:, 1] = 20 / 16
    model.set_weights([kernel, np.array([0, -19], np.float32)])
    return model


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (1.0, 0.5)])
def test_a_thing_is_found_where_it_is_at_the_scale_that_fits_it(scales):
    picture = np.zeros((20, 40, 1), np.float32)
    picture[4:8, 6:10] = 1  # one window at full size
    picture[8:16, 20:28] = 1  # one at half the size
    look = partial(dense_classifier.convolutional, dense_classifier.to_fully_convolutional(squares()))
    # Resizing blurs: at half the size the corners of the large square are a little darker.
    found = dense_classifier.detect(look, picture, scales=scales, background=0, threshold=0.15, overlap=0.0)
    boxes = found.boxes[0, : int(found.count[0])].numpy() * [40, 20, 40, 20]
    assert set(found.classes[0, : int(found.count[0])].numpy()) == {1}
    small, large = [6, 4, 10, 8], [20, 8, 28, 16]
    assert (small in boxes.round(3).tolist()) == (1.0 in scales)
    assert (large in boxes.round(3).tolist()) == (scales == (0.5,))  # at full size its quarters come first


def test_both_detectors_find_the_same_and_too_small_scales_are_left_out():
    picture, model = np.zeros((12, 12, 1), np.float32), squares()
    picture[5:9, 3:7] = 1
    looks = (
        partial(dense_classifier.convolutional, dense_classifier.to_fully_convolutional(model)),
        partial(dense_classifier.naive, model),
    )
    first, second = (dense_classifier.detect(look, picture, scales=(1.0, 0.1), background=0) for look in looks)
    assert int(first.count[0]) == 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(Fault, match="at least 4×4"):
        dense_classifier.detect(looks[0], picture, scales=(0.1,))


def test_the_cost_compares_both_ways_on_one_picture():
    found = sliding_window.cost(squares(), np.zeros((6, 9, 1), np.float32), repeats=1)
    assert (found.windows, found.stride, found.padded, found.changed) == (3 * 6, (1, 1), 0, 0)
    assert found.naive_multiply_adds == found.convolutional_multiply_adds == 3 * 6 * 32
    assert found.difference < 1e-6


@pytest.mark.slow
def test_slide_draws_what_a_trained_run_sees_in_a_picture(exported, tmp_path, capsys):
    picture = tmp_path / "page.png"
    Image.fromarray(noise(40, 60)).save(picture)
    sheet = tmp_path / "sheet.png"
    asked = ("slide", "classify/small", picture, "-o", sheet, "--scale", 1, "--scale", 0.8, "--compare")
    assert exported.cnn(*asked, "--background", "3") == 0
    said = capsys.readouterr().out
    # (40 - 28) // 4 + 1 times (60 - 28) // 4 + 1, and the same of 32×48 pixels.
    assert f"{4 * 9 + 2 * 6} windows" in said
    assert "times fewer" in said
    assert tf.io.decode_png(sheet.read_bytes()).shape[-1] == 4
    assert exported.cnn(*asked, "--background", "cat") == Fault.INPUT
    assert "--background must be one of 0, 1, 2, 3" in capsys.readouterr().err
    small = tmp_path / "small.png"
    Image.fromarray(noise(20, 60)).save(small)
    assert exported.cnn("slide", "classify/small", small, "-o", sheet) == Fault.INPUT
    assert cnn("slide", "classify/none", picture, "--runs", tmp_path) == Fault.INPUT
