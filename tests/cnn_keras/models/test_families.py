"""What single families promise beyond the figures and promises of the table in test_models."""

import keras
import numpy as np
import pytest

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.models import resnet


@pytest.mark.parametrize("name", ["lenet.lenet5", "lenet.lenet5_modern", "introductory.two_conv"])
@pytest.mark.parametrize("input_shape", [(28, 28, 1), (28, 28, 3), (32, 32, 4), (40, 52, 1)])
def test_small_networks_take_digits_colour_and_larger_images(name, input_shape):
    model = models.build(name, input_shape=input_shape, classes=7)
    assert model(np.zeros((2, *input_shape), "float32")).shape == (2, 7)


def test_lenet5_of_padded_mnist_has_as_many_parameters_as_at_32_pixels():
    assert models.build("lenet.lenet5", input_shape=(28, 28, 1)).count_params() == 60_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of max, average, got 'mean'"),
        ({"activation": "gelu"}, "activation must be one of relu, tanh, sigmoid, leaky_relu, elu, got 'gelu'"),
        ({"input_shape": (27, 28, 1)}, "input_shape must be at least 28 on each side, got 27×28"),
    ],
)
def test_lenet5_refuses_what_it_cannot_build(arguments, message):
    with pytest.raises(Fault, match=message):
        models.build("lenet.lenet5_modern", **arguments)


def test_lenet5_modern_takes_pooling_activation_and_dropout():
    options = {"pooling": "average", "activation": "tanh", "dropout": 0.5}
    model = models.build("lenet.lenet5_modern", **options)
    assert type(model.get_layer("s2")).__name__ == "AveragePooling2D"
    assert model.get_layer("c1").activation is keras.activations.tanh
    assert model.get_layer("f6_dropout").rate == 0.5
    assert model.count_params() == 61_706


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("activation", "fan"),
    [("relu", "in"), ("leaky_relu", "in"), ("elu", "in"), ("tanh", "both"), ("sigmoid", "both")],
)
def test_lenet5_modern_starts_as_its_activation_wants(activation, fan, batch_norm):
    model = models.build("lenet.lenet5_modern", activation=activation, batch_norm=batch_norm)
    f6 = model.get_layer("f6")
    limit = {"in": (6 / 120) ** 0.5, "both": (6 / (120 + 84)) ** 0.5}[fan]
    assert 0.99 * limit < np.abs(f6.kernel).max() <= limit
    squashing = model.get_layer(f"f6_{activation}") if batch_norm else f6
    assert squashing.activation is getattr(keras.activations, activation)


def test_batch_normalisation_of_lenet5_modern_stands_between_every_layer_and_its_activation():
    model = models.build("lenet.lenet5_modern", batch_norm=True)
    names = [layer.name for layer in model.layers]
    for layer in ("c1", "c3", "c5", "f6"):
        place = names.index(layer)
        assert names[place : place + 3] == [layer, f"{layer}_norm", f"{layer}_relu"]
        assert not model.get_layer(layer).use_bias
        assert model.get_layer(layer).activation is keras.activations.linear
    assert names[-1] == "logits"


# One of each family that is built in a moment.
SMALL = {"conv1d.fcn", "conv3d.two_conv", "efficientnet.efficientnet_lite0", "facenet.small", "googlenet.googlenet"}
SMALL |= {
    "deepface.small",
    "lenet.lenet5",
    "maxout.maxout",
    "nin.nin_cifar",
    "pilotnet.pilotnet",
    "rcnn.faster_rcnn_small",
}
SMALL |= {
    "recurrent.gru",
    "yolov1.yolov1_small",
    "resnet.resnet20",
    "stylize.transformer",
    "unet.unet_small",
    "yolo.yolo_small",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in models.catalogue()]
)
def test_outputs_are_in_single_precision_when_the_network_computes_in_half(name):
    taken = models.signature(name).parameters
    needed = {argument: 2 for argument in ("classes", "styles") if argument in taken}
    shape = {} if taken["input_shape"].default is not taken["input_shape"].empty else {"input_shape": (64, 64, 3)}
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with keras.StatelessScope():  # without the values of the weights
            model = models.build(name, **needed, **shape)
    finally:
        keras.config.set_dtype_policy("float32")
    outputs = model.output if isinstance(model.output, dict) else {"": model.output}
    answers = [output for name, output in outputs.items() if name != "features"]  # those are maps, for a mask head
    assert {output.dtype for output in keras.tree.flatten(answers)} == {"float32"}


@pytest.mark.parametrize("name", ["lenet.lenet5", "nin.nin_cifar", "resnet.resnet20", "alexnet.alexnet"])
def test_logits_stay_in_single_precision_when_the_network_computes_in_half(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.build(name, input_shape=(67, 67, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers} == {"bfloat16", "float32"}
    logits = model(np.ones((1, 67, 67, 1), "float32"))
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


FIELDS = {
    "alexnet.alexnet": {"conv1": 11, "conv2": 51, "conv3": 99, "conv4": 131, "conv5": 163, "pool5": 195},
    "vgg.vgg16": {"conv5_3_relu": 196, "stage5": 212},
    "resnet.resnet18": {"stage4": 435},
    "resnet.resnet34": {"stage4": 899},
    "resnet.resnet50": {"stage4": 483},
    "resnet.resnet50_v1_5": {"stage4": 427},
    "resnet.resnet101_v1_5": {"stage4": 971},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_equal_the_published_ones(name):
    rows = {row.name: row.receptive_field for row in model_profile.rows(models.build(name))}
    assert {layer: rows[layer] for layer in FIELDS[name]} == {
        layer: (size, size) for layer, size in FIELDS[name].items()
    }


def sizes_of(model, *names):
    return [model.get_layer(name).output.shape[1] for name in names]


def test_zfnet_maps_shrink_as_in_the_paper():
    model = models.build("alexnet.zfnet", hidden=8)
    assert sizes_of(model, "conv1", "pool1", "conv2", "pool2", "pool5") == [110, 55, 26, 13, 6]


def test_deepface_maps_shrink_as_in_the_paper_and_its_local_layers_hold_most_of_its_weights():
    model = models.build("deepface.deepface", hidden=8)
    names = ("C1", "M2", "C3", "L4", "L5", "L6")
    assert sizes_of(model, *names) == [142, 71, 63, 55, 25, 21]
    local = sum(model.get_layer(name).count_params() for name in names[3:])
    assert local == 55**2 * (9**2 * 16 + 1) * 16 + 25**2 * (7**2 * 16 + 1) * 16 + 21**2 * (5**2 * 16 + 1) * 16


def test_a_tower_of_alexnet_sees_only_its_own_maps():
    model = models.build("alexnet.alexnet", input_shape=(67, 67, 3), hidden=8)
    groups = [model.get_layer(f"conv{index}").groups for index in range(1, 6)]
    assert groups == [1, 2, 1, 2, 2]


def test_maxout_halves_and_quarters_its_maps_and_pools_over_the_edge_as_its_authors_did():
    model = models.build("maxout.maxout")
    names = ("conv1", "conv1_maxout", "pool1", "conv2_maxout", "pool2", "conv3", "conv3_maxout", "pool3")
    assert [model.get_layer(name).output.shape[1:] for name in names] == [
        *((21, 21, 96), (21, 21, 48), (10, 10, 48)),
        *((9, 9, 48), (4, 4, 48)),
        *((6, 6, 96), (6, 6, 24), (3, 3, 24)),
    ]


def test_filters_of_maxout_never_grow_beyond_their_norm():
    model = models.build("maxout.maxout", input_shape=(18, 18, 1))
    model.compile(keras.optimizers.SGD(10.0), keras.losses.SparseCategoricalCrossentropy(True))
    model.train_on_batch(np.ones((4, 18, 18, 1), "float32"), np.arange(4))
    for name, largest in (("conv1", 0.9), ("conv2", 1.9365), ("conv3", 1.9365)):
        kernel = model.get_layer(name).kernel.numpy().reshape(-1, 96)
        assert np.linalg.norm(kernel, axis=0).max() <= largest + 1e-4


def test_lenet5_modern_drops_connections_of_its_dense_layer_on_request():
    model = models.build("lenet.lenet5_modern", drop_connect=0.4)
    layer = model.get_layer("f6")
    assert (type(layer).__name__, layer.rate) == ("DropConnect", 0.4)
    images = np.ones((3, 32, 32, 1), "float32")
    assert np.ptp(model(images), axis=0).max() < 1e-5
    assert np.ptp(model(images, training=True), axis=0).min() > 1e-3
    assert type(models.build("lenet.lenet5_modern").get_layer("f6")) is keras.layers.Dense


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


SMALLEST = {
    "alexnet.alexnet": (67, 67, 1),
    "alexnet.alexnet_one_tower": (67, 67, 1),
    "alexnet.zfnet": (67, 67, 1),
    "conv1d.two_conv": (9, 1),
    "conv3d.two_conv": (9, 9, 9, 1),
    "deepface.deepface": (71, 71, 1),
    "deepface.small": (9, 9, 1),
    "densenet.densenet121": (29, 29, 1),
    "introductory.two_conv": (4, 4, 1),
    "lenet.lenet5": (28, 28, 1),
    "lenet.lenet5_modern": (28, 28, 1),
    "maxout.maxout": (18, 18, 1),
    "nin.nin": (67, 67, 1),
    "vgg.vgg11": (32, 32, 1),
}


@pytest.mark.parametrize("name", [slow(name) if "densenet" in name else name for name in SMALLEST])
def test_the_smallest_image_is_taken_and_a_smaller_one_refused(name):
    *sizes, channels = SMALLEST[name]
    narrow = {"hidden": 8} if "hidden" in models.signature(name).parameters else {}
    models.build(name, input_shape=SMALLEST[name], **narrow)
    sizes[-1] -= 1
    with pytest.raises(Fault, match=f"must be at least {sizes[-1] + 1} on each side, got .*{sizes[-1]}; resize"):
        models.build(name, input_shape=(*sizes, channels), **narrow)


@pytest.mark.parametrize("name", ["googlenet.googlenet", "nin.nin_cifar", "resnet.resnet20", "resnet.resnet20v2"])
def test_networks_without_dense_layers_take_images_of_a_few_pixels(name):
    model = models.build(name, input_shape=(5, 4, 1), classes=3)
    assert model(np.zeros((1, 5, 4, 1), "float32")).shape == (1, 3)


def test_stages_of_residual_networks_are_taps_with_strides_4_8_16_32():
    model = models.build("resnet.resnet18", input_shape=(64, 64, 3))
    assert sizes_of(model, "stage1", "stage2", "stage3", "stage4") == [16, 8, 4, 2]


def test_residual_networks_take_images_of_any_size():
    model = models.build("resnet.resnet18", input_shape=(None, None, 1), classes=3)
    assert model(np.zeros((1, 33, 47, 1), "float32")).shape == (1, 3)


def test_option_a_adds_no_weight_to_the_plain_network():
    arguments = {"input_shape": (32, 32, 3), "classes": 10}
    residual, plain = (models.build(f"resnet.{name}20", **arguments) for name in ("resnet", "plain"))
    assert [weight.shape for weight in residual.weights] == [weight.shape for weight in plain.weights]


def test_an_identity_block_with_silent_residue_returns_its_input():
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, resnet.basic(image, 4, 1, name="block"))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    x = np.random.default_rng(0).uniform(size=(1, 8, 8, 4)).astype("float32")
    np.testing.assert_array_equal(model(x), x)


def test_an_unknown_shortcut_option_is_refused():
    with pytest.raises(Fault, match="shortcut must be one of A, B, got 'C'"):
        models.build("resnet.resnet20", shortcut="C")


def test_auxiliary_heads_are_named_outputs_that_a_headless_model_drops():
    model = models.build("googlenet.googlenet", input_shape=(65, 65, 3), classes=3, auxiliary=True)
    images = np.zeros((2, 65, 65, 3), "float32")
    answers = model(images)
    assert {name: answer.shape for name, answer in answers.items()} == dict.fromkeys(
        ("logits", "auxiliary1", "auxiliary2"), (2, 3)
    )
    headless = keras.Model(model.input, model.get_layer("logits").output)
    np.testing.assert_array_equal(headless(images), answers["logits"])
    assert not any("auxiliary" in layer.name for layer in headless.layers)


def test_auxiliary_heads_refuse_an_image_too_small_for_them():
    with pytest.raises(Fault, match="auxiliary heads 5×5 positions, got 4×4"):
        models.build("googlenet.googlenet", input_shape=(64, 64, 3), auxiliary=True)


def test_batch_normalisation_replaces_the_response_normalisation_of_googlenet():
    model = models.build("googlenet.googlenet", input_shape=(32, 32, 3), batch_norm=True)
    types = {type(layer).__name__ for layer in model.layers}
    assert "BatchNormalization" in types
    assert "LocalResponseNormalization" not in types


@pytest.mark.parametrize("name", ["conv1d.two_conv", "conv3d.two_conv"])
def test_signals_and_volumes_shrink_as_the_course_says(name):
    model = models.build(name)
    dimensions = len(model.input.shape) - 2
    shapes = [model.get_layer(layer).output.shape[1:] for layer in ("conv1", "conv2")]
    assert shapes == [(10,) * dimensions + (16,), (6,) * dimensions + (32,)]


def test_signals_of_any_length_are_taken():
    model = models.build("conv1d.resnet", input_shape=(None, 2), classes=3)
    assert model(np.zeros((1, 37, 2), "float32")).shape == (1, 3)


def test_c3d_halves_time_one_stage_later_than_space():
    model = models.build("conv3d.c3d", hidden=4)
    shapes = [model.get_layer(f"pool{stage}").output.shape[1:4] for stage in range(1, 6)]
    assert shapes == [(16, 56, 56), (8, 28, 28), (4, 14, 14), (2, 7, 7), (1, 4, 4)]


def test_a_shortcut_study_refuses_a_depth_that_no_three_stages_give():
    with pytest.raises(Fault, match=r"depth must be 6n \+ 2, such as 20, 56 or 110, got 21"):
        models.build("shortcuts.constant_scaling", depth=21)


def test_gates_start_almost_closed():
    model = models.build("shortcuts.shortcut_only_gating", depth=8)
    np.testing.assert_array_equal(model.get_layer("stage1_unit1_gate").bias, np.full(16, -6.0))
