"""U-Nets: the published sizes and parameters, what lies where, and the promises of all networks."""

import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import unet

SMALL = {
    "unet.unet": {"input_shape": (76, 92, 2), "filters": 2, "depth": 2},
    "unet.unet_small": {"input_shape": (32, 48, 1), "filters": 4},
    "unet.unet3d": {"input_shape": (44, 44, 48, 1), "filters": 2, "depth": 2},
    "unet.unet3d_small": {"input_shape": (8, 16, 12, 1), "filters": 2},
    "unet.on_backbone": {"input_shape": (32, 64, 3), "filters": 2, "backbone": "resnet.resnet20"},
}


@pytest.fixture(scope="module", params=SMALL)
def case(request):
    keras.utils.set_random_seed(0)
    arguments = {"classes": 3, **SMALL[request.param]}
    return models.build(request.param, **arguments), arguments["input_shape"]


def examples(shape, count=2):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


def test_every_pixel_gets_float_logits(case):
    network, shape = case
    logits = network(examples(shape))
    lost = 40 if network.name in ("unet", "unet3d") else 0  # of two levels without padding
    assert logits.shape == (2, *(size - lost for size in shape[:-1]), 3)
    assert logits.dtype == "float32"
    assert network.get_layer("logits").output is network.output


def test_a_saved_network_loads_and_answers_the_same(case, tmp_path):
    network, shape = case
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(examples(shape)), network(examples(shape)))


def test_every_weight_moves_after_one_step(case):
    network, shape = case
    before = network.get_weights()
    network.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True), run_eagerly=True)
    truth = np.random.default_rng(0).integers(0, 3, (2, *network.output.shape[1:-1]))
    network.train_on_batch(examples(shape), truth)
    still = [
        w.path for w, old, new in zip(network.weights, before, network.get_weights(), strict=True) if (old == new).all()
    ]
    assert still == []


@pytest.mark.slow
def test_the_published_networks_have_the_published_sizes_and_parameters():
    flat = models.build("unet.unet")
    assert (flat.input.shape, flat.output.shape) == ((None, 572, 572, 1), (None, 388, 388, 2))
    assert flat.count_params() == 31_030_658
    volumetric = models.build("unet.unet3d")
    assert (volumetric.input.shape, volumetric.output.shape) == ((None, 132, 132, 116, 3), (None, 44, 44, 28, 3))
    assert sum(int(np.prod(weight.shape)) for weight in volumetric.trainable_weights) == 19_069_955


def test_the_maps_that_are_handed_across_are_cropped_as_published():
    network = models.build("unet.unet", filters=1)
    crops = {level: network.get_layer(f"up{level}_crop").cropping[0][0] for level in (4, 3, 2, 1)}
    assert crops == {4: 4, 3: 16, 2: 40, 1: 88}  # 64 to 56, 136 to 104, 280 to 200, 568 to 392
    assert [network.get_layer(f"down{level}_conv2").output.shape[1] for level in range(1, 6)] == [568, 280, 136, 64, 28]


def test_without_padding_an_answer_depends_on_its_own_surroundings_alone():
    keras.utils.set_random_seed(0)
    network = models.build("unet.unet", input_shape=(140, 140, 1), filters=2, depth=3, dropout=0.0)
    scene = examples((156, 140, 1), 1)
    upper, lower = network(scene[:, :140]).numpy(), network(scene[:, 16:]).numpy()  # 16 pixels are whole poolings
    np.testing.assert_allclose(upper[:, 16:], lower[:, :-16], atol=1e-5)


def test_a_path_up_stands_on_the_maps_of_every_stride_of_a_backbone():
    network = models.build("unet.on_backbone", input_shape=(64, 64, 3), backbone="resnet.resnet18", filters=4)
    joined = [network.get_layer(f"up{level}_join").output.shape[1:] for level in (5, 4, 3, 2, 1)]
    assert joined == [(4, 4, 64 + 256), (8, 8, 32 + 128), (16, 16, 16 + 64), (32, 32, 8 + 64), (64, 64, 4 + 3)]


@pytest.mark.parametrize(
    ("builder", "shape", "told"),
    [
        ("unet.unet", (570, 572, 1), "188 or a multiple of 16 more, got 570; take 572"),
        ("unet.unet", (100, 572, 1), "got 100; take 188"),
        ("unet.unet_small", (100, 96, 1), "can be halved 3 times, 8 or a multiple of 8 more, got 100; take 104"),
        ("unet.unet3d_small", (16, 16, 18, 1), "got 18; take 20"),
    ],
)
def test_sizes_that_cannot_be_halved_are_refused_with_the_nearest(builder, shape, told):
    with pytest.raises(Fault, match=told):
        models.build(builder, input_shape=shape)


def test_a_backbone_without_a_map_of_stride_two_is_refused():
    with pytest.raises(Fault, match="map of stride 2"):
        unet.on_backbone(input_shape=(96, 96, 3), backbone="alexnet.alexnet_one_tower")


def test_sizes_may_stay_open():
    network = models.build("unet.unet_small", input_shape=(None, None, 1), filters=2)
    assert network(np.zeros((1, 24, 40, 1), "float32")).shape == (1, 24, 40, 2)
