"""Fully convolutional networks: what they count, bilinear enlargement, one stage begins where the last one ended."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import backbone, fcn

SMALL = {"input_shape": (64, 96, 3), "classes": 4, "hidden": 8, "backbone": "yolo.yolo_small"}
BUILDERS = ("fcn.fcn32s", "fcn.fcn16s", "fcn.fcn8s")


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(0)
    return {name: models.build(name, **SMALL) for name in BUILDERS}


@pytest.fixture(scope="module")
def network(networks):
    return networks["fcn.fcn8s"]


def pictures(count=2):
    return np.random.default_rng(0).normal(size=(count, *SMALL["input_shape"])).astype("float32")


@pytest.mark.parametrize("name", BUILDERS)
def test_every_pixel_gets_float_logits(networks, name):
    network = networks[name]
    logits = network(pictures())
    assert logits.shape == (2, 64, 96, 4)
    assert logits.dtype == "float32"
    assert network.get_layer("logits").output is network.output


def test_a_saved_network_loads_and_answers_the_same(network, tmp_path):
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(pictures()), network(pictures()))
    assert not loaded.get_layer("logits").trainable


def test_every_weight_moves_but_the_last_enlargement(network):
    before = network.get_weights()
    network.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    for _ in range(2):  # scores that start at zero hold back the gradient of what is before them once
        network.train_on_batch(pictures(), np.arange(2 * 64 * 96).reshape(2, 64, 96) % 4)
    still = [
        w.path for w, old, new in zip(network.weights, before, network.get_weights(), strict=True) if (old == new).all()
    ]
    assert still == ["logits/kernel"]


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_a_transposed_convolution_begins_as_image_resizing(factor):
    maps = np.random.default_rng(0).normal(size=(1, 6, 7, 3)).astype("float32")
    resized = tf.image.resize(maps, (6 * factor, 7 * factor), method="bilinear")
    enlarged = fcn._enlarged(tf.constant(maps), factor, name="up")
    inside = (slice(None), slice(factor, -factor), slice(factor, -factor))  # at the border it fades
    np.testing.assert_allclose(enlarged[inside], resized[inside], atol=1e-5)


def test_a_finer_network_begins_with_the_answers_of_the_coarser_one():
    keras.utils.set_random_seed(0)
    wide = {**SMALL, "input_shape": (192, 192, 3)}
    coarse, fine = (models.build(name, **wide) for name in ("fcn.fcn32s", "fcn.fcn8s"))
    known = {layer.name: layer for layer in coarse.layers if layer.weights}
    for layer in fine.layers:
        if layer.name in known and layer.name != "logits":
            layer.set_weights(known[layer.name].get_weights())
    picture = np.random.default_rng(0).normal(size=(1, 192, 192, 3)).astype("float32")
    answers = [network(picture).numpy()[:, 32:-32, 32:-32] for network in (coarse, fine)]
    assert np.corrcoef(answers[0].ravel(), answers[1].ravel())[0, 1] > 0.99  # enlarged in three steps, not in one


def test_vgg_is_read_behind_its_poolings_and_its_dense_layers_are_convolutions():
    network = models.build("fcn.fcn8s", input_shape=(64, 64, 3), hidden=8)
    assert network.get_layer("score8").input.shape[1:] == (8, 8, 256)
    assert network.get_layer("score16").input.shape[1:] == (4, 4, 512)
    assert network.get_layer("fc6").kernel.shape == (7, 7, 512, 8)
    assert network.get_layer("fc7").kernel.shape == (1, 1, 8, 8)
    assert not any(layer.name in ("flatten", "pool") for layer in network.layers)


def test_a_backbone_may_go_without_hidden_layers_and_sizes_may_stay_open():
    network = models.build(
        "fcn.fcn16s", input_shape=(None, None, 3), classes=2, backbone="darknet.darknet19", hidden=None
    )
    assert network(np.zeros((1, 32, 64, 3), "float32")).shape == (1, 32, 64, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"input_shape": (100, 64, 3)}, "multiples of 32, got 100×64"),
        ({"backbone": "resnet.resnet20"}, "backbone must have a map of stride 32, got resnet.resnet20"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, told):
    with pytest.raises(Fault, match=told):
        models.build("fcn.fcn32s", **{**SMALL, **arguments})


def test_a_backbone_has_strides_without_a_gap():
    assert backbone.strides("resnet.resnet20", (64, 64, 3)) == [1, 2, 4]
    assert backbone.strides("mobilenet.mobilenet_v2", (None, None, 3)) == [1, 2, 4, 8, 16, 32]
    assert backbone.strides("alexnet.alexnet_one_tower", (227, 227, 3)) == [1]
