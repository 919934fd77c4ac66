"""Insight: worked by hand on networks whose weights are known, then on LeNet-5, ResNet-20 and branches."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile, visualization
from cnn_keras.metrics import heat_maps
from cnn_keras.models import build

RANDOM = np.random.default_rng(0)


def grad_cam(model, images, classes):
    return visualization.grad_cam(model, images, visualization.class_logit, classes)


def photos(count, height, width, channels):
    return RANDOM.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def behind_normalization(network):
    """A network as a run saves it: uint8 images, normalised, then the network as one layer."""
    image = keras.Input(network.input_shape[1:], dtype="uint8", name="image")
    scaled = layers.Normalization(axis=None, mean=100.0, variance=60.0**2, name="normalization")(image)
    return keras.Model(image, network(scaled))


def pooled_network():
    """1×1 convolutions, global average pooling, one dense layer: where Grad-CAM is the class activation map."""
    image = keras.Input((6, 7, 3), name="image")
    x = layers.Conv2D(5, 1, activation="relu", bias_initializer="uniform", name="conv")(image)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(4, name="logits")(x), name="pooled")


def branchy():
    """Windows of 3 and 5 side by side, a shortcut, a stride and pooling."""
    image = keras.Input((40, 40, 3), name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    narrow = layers.Conv2D(4, 3, padding="same", activation="relu", name="narrow")(x)
    broad = layers.Conv2D(2, 5, padding="same", activation="relu", name="broad")(x)
    x = layers.Add(name="sum")([x, layers.Concatenate(name="both")([narrow, broad])])
    x = layers.MaxPooling2D(2, name="halved")(x)
    x = layers.ReLU(name="last")(layers.Conv2D(5, 3, name="conv")(x))
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten(name="flatten")(x)), name="branchy")


def linear_filter(kernel, *, size=9, bias=0.0, activation=None):
    """One convolution of one unit with this kernel."""
    image = keras.Input((size, size, kernel.shape[2]), name="image")
    convolution = layers.Conv2D(1, kernel.shape[:2], activation=activation, name="conv")
    model = keras.Model(image, layers.Flatten()(convolution(image)))
    convolution.set_weights([kernel[..., None], np.array([bias])])
    return model


def one_pixel():
    """Logits (pixel at row 2, column 3, divided by 100; 0)."""
    image = keras.Input((6, 6, 1), name="image")
    convolution = layers.Conv2D(2, 6, name="conv")
    model = keras.Model(image, layers.Flatten()(convolution(image)))
    kernel = np.zeros((6, 6, 1, 2))
    kernel[2, 3, 0, 0] = 0.01
    convolution.set_weights([kernel, np.zeros(2)])
    return model


NETWORKS = {
    "lenet.lenet5": lambda: build("lenet.lenet5", input_shape=(32, 32, 1), classes=3),
    "lenet.lenet5_modern": lambda: build("lenet.lenet5_modern", input_shape=(32, 32, 1), classes=3),
    "resnet.resnet20": lambda: build("resnet.resnet20", input_shape=(16, 16, 3), classes=3),
    "branchy": branchy,
}


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request):
    keras.utils.set_random_seed(0)
    return behind_normalization(NETWORKS[request.param]())


# Names


def test_layers_are_named_inside_what_is_nested():
    model = behind_normalization(branchy())
    assert list(visualization.spatial_layers(model)) == [
        *("normalization", "stem", "narrow", "broad", "both", "sum", "halved", "conv", "last"),
    ]
    assert visualization.feature_layers(model) == ["stem", "narrow", "broad", "last"]
    assert visualization.grad_cam_layer(model) == "last"
    assert visualization.logits_layer(model) == "logits"
    assert visualization.layer_row(model, "branchy/conv") == visualization.layer_row(model, "conv")


def test_namesakes_go_by_their_paths():
    inner = pooled_network()
    image = keras.Input((6, 7, 3), name="image")
    model = keras.Model(image, inner(layers.Conv2D(3, 1, name="conv")(image)))
    assert list(visualization.spatial_layers(model)) == ["conv", "pooled/conv"]
    assert visualization.feature_maps(model, photos(1, 6, 7, 3), "pooled/conv").shape == (1, 6, 7, 5)


def test_grad_cam_looks_before_poolings_and_beyond_maps_of_one_position():
    assert visualization.grad_cam_layer(NETWORKS["lenet.lenet5_modern"]()) == "c3"  # c5 has one position
    assert visualization.grad_cam_layer(NETWORKS["resnet.resnet20"]()) == "stage3"


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda model: visualization.layer_row(model, "narow"),
            "layer must be one of the model's, got narow; did you mean na",
        ),
        (
            lambda model: visualization.feature_maps(model, photos(1, 40, 40, 3), "logits"),
            "must have units with a position",
        ),
        (lambda model: visualization.maximize_activation(model, "conv", units=[5]), "unit must lie in 0 to 4"),
        (
            lambda model: visualization.exciting_patches(model, "conv", photos(1, 40, 40, 3), units=[-1]),
            "unit must lie in",
        ),
        (
            lambda model: visualization.occlusion_map(model, photos(1, 40, 40, 3), [0], patch=41),
            "patch must be 1 to 40",
        ),
    ],
)
def test_what_does_not_fit_is_refused(act, message):
    with pytest.raises(Fault, match=message):
        act(branchy())


def test_probabilities_instead_of_logits_are_refused():
    network = pooled_network()
    for head in (layers.Softmax(), layers.Dense(3, activation="softmax")):
        model = keras.Model(network.input, head(network.output))
        for explain in (grad_cam, visualization.occlusion_map):
            with pytest.raises(Fault, match="model must answer with logits, got a softmax"):
                explain(model, photos(1, 6, 7, 3), [0])


# Filters


def test_filters_are_scaled_each_by_its_own_largest_weight():
    kernel = np.array([[1.0, 0.0], [-0.5, 0.5]])[..., None]
    (picture,) = visualization.first_layer_filters(behind_normalization(linear_filter(7 * kernel)))
    assert picture[..., 0].tolist() == [[255, 128], [64, 191]]
    (picture,) = visualization.first_layer_filters(linear_filter(-kernel))
    assert picture.min() == 0


def test_filters_of_colour_images_are_coloured_and_of_more_channels_lie_side_by_side():
    red = np.zeros((2, 2, 3))
    red[..., 0] = 1
    (picture,) = visualization.first_layer_filters(linear_filter(red))
    assert picture[0, 0].tolist() == [255, 128, 128]
    (picture,) = visualization.first_layer_filters(linear_filter(np.concatenate([red, -red[..., :1]], axis=2)))
    assert picture[..., 0].tolist() == [[255, 255, 128, 128, 128, 128, 0, 0]] * 2


def test_filters_of_a_depthwise_convolution_are_its_own():
    image = keras.Input((8, 8, 3))
    convolution = layers.DepthwiseConv2D(3, depth_multiplier=2)
    model = keras.Model(image, convolution(image))
    kernel = RANDOM.normal(size=(3, 3, 3, 2))
    convolution.set_weights([kernel, np.zeros(6)])
    pictures = visualization.first_layer_filters(model)
    assert pictures.shape == (6, 3, 3, 1)
    weights = kernel[..., 1, 0]  # of the second channel
    expected = np.round(127.5 + 127.5 * weights / np.abs(weights).max())
    assert any(np.array_equal(picture[..., 0], expected) for picture in pictures)


def test_there_are_no_filters_over_one_axis():
    model = keras.Sequential([keras.Input((8, 2)), layers.Conv1D(3, 3)])
    with pytest.raises(Fault, match="model must begin with convolutions over two axes, got Conv1D"):
        visualization.first_layer_filters(model)


# Feature maps and patches


def test_feature_maps_are_what_the_layer_answers():
    network = branchy()
    images = photos(70, 40, 40, 3)  # more than a batch
    expected = keras.Model(network.input, network.get_layer("sum").output).predict((images - 100.0) / 60, verbose=0)
    found = visualization.feature_maps(behind_normalization(network), images, "sum")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_piece_is_the_receptive_field_to_the_pixel():
    # Pixels are their own coordinates, and the unit likes what is below and to the right.
    rows, columns = np.mgrid[:9, :9]
    image = np.stack([rows, columns], axis=-1).astype(np.uint8)
    (found,) = visualization.exciting_patches(linear_filter(np.ones((3, 3, 2))), "conv", image[None])
    assert found.boxes.tolist() == [[6, 6, 9, 9]]
    assert found.pieces[0, ..., 0].tolist() == [[6] * 3, [7] * 3, [8] * 3]
    assert found.pieces[0, ..., 1].tolist() == [[6, 7, 8]] * 3
    assert found.activations == pytest.approx([2 * 9 * 7])


def test_a_field_over_the_border_is_filled_up():
    image = keras.Input((5, 5, 1))
    model = keras.Sequential([image, layers.Conv2D(1, 3, padding="same", use_bias=False, name="conv")])
    model.layers[0].set_weights([np.float32([[0, 0, 0], [0, 1, 0], [0, 0, 0]])[..., None, None]])
    bright = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1)[:, ::-1, ::-1]  # brightest at the top left
    (found,) = visualization.exciting_patches(model, "conv", bright, outside=99)
    assert found.boxes.tolist() == [[-1, -1, 2, 2]]
    assert found.pieces[0, ..., 0].tolist() == [[99, 99, 99], [99, 24, 23], [99, 19, 18]]


@pytest.mark.slow
def test_the_strongest_come_first_one_of_each_image_and_batches_do_not_matter(trained):
    shape = trained.input_shape[1:]
    images = photos(150, *shape)
    layer = visualization.feature_layers(trained)[1]
    maps = visualization.feature_maps(trained, images, layer)
    peaks = maps.max(axis=(1, 2))
    whole = visualization.exciting_patches(trained, layer, images, count=5)
    streamed = visualization.exciting_patches(trained, layer, (images[k : k + 7] for k in range(0, 150, 7)), count=5)
    assert [one.unit for one in whole] == list(range(maps.shape[-1]))
    for one, other in zip(whole, streamed, strict=True):
        np.testing.assert_allclose(one.activations, np.sort(peaks[:, one.unit])[::-1][:5], rtol=1e-4, atol=1e-4)
        assert len(set(one.images.tolist())) == 5
        np.testing.assert_allclose(one.activations, other.activations, rtol=1e-4, atol=1e-4)
        row = visualization.layer_row(trained, layer)
        assert one.pieces.shape == (5, *row.receptive_field, shape[-1])


def test_without_images_there_are_no_patches():
    with pytest.raises(Fault, match="images must"):
        visualization.exciting_patches(linear_filter(np.ones((3, 3, 1))), "conv", photos(0, 9, 9, 1))


def test_of_equally_exciting_images_the_earlier_come_first():
    images = np.repeat(photos(1, 9, 9, 1), 4, axis=0)
    (found,) = visualization.exciting_patches(linear_filter(np.ones((3, 3, 1))), "conv", images, count=3)
    assert found.images.tolist() == [0, 1, 2]


def test_a_unit_sees_nothing_outside_its_box():
    model = behind_normalization(branchy())
    images = photos(3, 40, 40, 3)
    row = visualization.layer_row(model, "last")
    for one in visualization.exciting_patches(model, "last", images, count=3):
        for image, activation, (left, top, right, bottom) in zip(one.images, one.activations, one.boxes, strict=True):
            other = photos(1, 40, 40, 3)
            inner = (slice(max(top, 0), bottom), slice(max(left, 0), right))
            other[0][inner] = images[image][inner]
            place = [
                round((edge - start) / jump) for edge, start, jump in zip((top, left), row.start, row.jump, strict=True)
            ]
            again = visualization.feature_maps(model, other, "last")[0, place[0], place[1], one.unit]
            assert again == pytest.approx(activation, rel=1e-4)


# Activation maximisation


def test_a_maximised_image_follows_the_sign_of_the_weights():
    kernel = np.ones((9, 9, 1))
    kernel[:, 5:] = -1
    found = visualization.maximize_activation(linear_filter(kernel), "conv", units=[0], start=100)
    image = found.images[0, ..., 0]
    assert (image[:, :4] > 200).all()
    assert (image[:, 6:] < 50).all()
    assert found.boxes.tolist() == [[0, 0, 9, 9]]
    assert found.activations == pytest.approx([(image * kernel[..., 0]).sum()], rel=1e-3)


def test_outside_its_field_a_maximised_image_stays_near_the_start():
    found = visualization.maximize_activation(linear_filter(np.ones((3, 3, 1)), size=21), "conv", units=[0], start=100)
    left, top, right, bottom = found.boxes[0]
    image = found.images[0, ..., 0]
    assert (right - left, bottom - top) == (3, 3)
    assert image[top:bottom, left:right].min() > 200
    assert np.abs(image[:5] - 100).max() < 30  # what is left of the noise


def test_a_unit_that_is_silent_at_the_start_is_woken():
    model = linear_filter(np.ones((3, 3, 1)), bias=-9 * 150.0, activation="relu")
    assert visualization.maximize_activation(model, "conv", units=[0], start=100, steps=1).activations == [0]
    assert visualization.maximize_activation(model, "conv", units=[0], start=100).activations > 100


@pytest.mark.slow
def test_maximising_raises_the_activation_and_is_deterministic(trained):
    layer = visualization.feature_layers(trained)[-1]
    few = visualization.maximize_activation(trained, layer, units=[0, 1], steps=1)
    found, again = (visualization.maximize_activation(trained, layer, units=[0, 1], steps=20) for _ in range(2))
    other = visualization.maximize_activation(trained, layer, units=[0, 1], steps=20, seed=1)
    assert (found.activations > few.activations).all()
    np.testing.assert_array_equal(found.images, again.images)
    assert not np.array_equal(found.images, other.images)
    assert found.images.min() >= 0
    assert found.images.max() <= 255


def test_classes_can_be_maximised_too():
    model = behind_normalization(branchy())
    before = model(np.full((1, 40, 40, 3), 127, np.uint8)).numpy()[0]
    found = visualization.maximize_activation(model, "logits", units=range(3), steps=20)
    assert (found.activations > before + 0.1).all()
    assert found.boxes.tolist() == [[0, 0, 40, 40]] * 3


def test_looking_leaves_the_model_as_it_was():
    model = behind_normalization(branchy())
    images = photos(2, 40, 40, 3)
    before, config = model(images).numpy(), model.to_json()
    visualization.maximize_activation(model, "stem", units=[0], steps=2)
    grad_cam(model, images, [0, 1])
    np.testing.assert_array_equal(model(images).numpy(), before)
    assert model.to_json() == config


# Occlusion


def test_hiding_the_one_pixel_that_counts_is_noticed_and_nothing_else():
    image = np.full((1, 6, 6, 1), 200, np.uint8)
    falls = visualization.occlusion_map(one_pixel(), image, [0], patch=2, stride=1, fill=0)[0]
    near = np.zeros((6, 6), bool)
    near[1:4, 2:5] = True
    assert (falls[near] > 0).all()
    np.testing.assert_allclose(falls[~near], 0, atol=1e-6)
    # Each of the four squares that hide it takes the probability from 1 / (1 + e^-2) to 1 / 2.
    assert falls[2, 3] == pytest.approx(1 / (1 + np.exp(-2)) - 0.5, abs=1e-5)
    assert falls[1, 2] == pytest.approx(falls[2, 3] / 4, abs=1e-5)
    gains = visualization.occlusion_map(one_pixel(), image, [1], patch=2, stride=1, fill=0)[0]
    np.testing.assert_allclose(gains, -falls, atol=1e-6)


def test_the_logarithm_of_the_odds_falls_by_the_logit():
    image = np.full((1, 6, 6, 1), 200, np.uint8)
    falls = visualization.occlusion_map(one_pixel(), image, [0], patch=1, stride=1, fill=50, odds=True)[0]
    assert falls[2, 3] == pytest.approx(1.5, abs=1e-5)
    assert np.count_nonzero(np.abs(falls) > 1e-5) == 1


def test_every_pixel_is_hidden_whatever_the_stride_and_the_mean_hides_nothing_in_a_plain_image():
    image = np.full((1, 6, 6, 1), 200, np.uint8)
    assert np.isfinite(visualization.occlusion_map(one_pixel(), image, [0], patch=3, stride=2)).all()
    np.testing.assert_allclose(visualization.occlusion_map(one_pixel(), image, [0]), 0, atol=1e-6)


# Grad-CAM


def test_with_pooling_and_one_dense_layer_grad_cam_is_the_class_activation_map():
    network = pooled_network()
    images, classes = photos(3, 6, 7, 3), np.array([0, 3, 1])
    found = grad_cam(behind_normalization(network), images, classes)
    maps = visualization.feature_maps(behind_normalization(network), images, "conv")
    weights = network.get_layer("logits").get_weights()[0]  # (units, classes)
    activation_map = np.einsum("nyxk,kn->nyx", maps, weights[:, classes]) / (6 * 7)
    np.testing.assert_allclose(found, np.maximum(activation_map, 0), rtol=1e-4, atol=1e-6)


def test_evidence_is_found_in_a_network_that_computes_in_half():
    network = pooled_network()
    halved = keras.models.clone_model(network, clone_function=_halved)
    halved.set_weights(network.get_weights())
    images, classes = photos(3, 6, 7, 3), np.array([0, 3, 1])
    for explain in (grad_cam, visualization.occlusion_map):
        single, half = (explain(behind_normalization(each), images, classes) for each in (network, halved))
        assert np.abs(single).max() > 0
        np.testing.assert_allclose(half, single, atol=0.02 * np.abs(single).max())
    half = visualization.feature_maps(behind_normalization(halved), images, "conv")
    np.testing.assert_allclose(
        half, visualization.feature_maps(behind_normalization(network), images, "conv"), atol=0.01
    )
    made = visualization.maximize_activation(behind_normalization(halved), "conv", units=[0], steps=4)
    assert np.isfinite(made.images).all()


def _halved(layer):
    return type(layer).from_config(layer.get_config() | {"dtype": "mixed_float16"})


def test_grad_cam_by_hand():
    image = keras.Input((2, 2, 1))
    x = layers.Conv2D(1, 1, use_bias=False, name="conv")(image)
    model = keras.Model(image, layers.Dense(2, use_bias=False, name="logits")(layers.GlobalAveragePooling2D()(x)))
    model.get_layer("conv").set_weights([np.full((1, 1, 1, 1), 2.0)])
    model.get_layer("logits").set_weights([np.array([[3.0, -1.0]])])
    pixels = np.array([[10, 0], [0, 4]], np.uint8).reshape(1, 2, 2, 1)
    # alpha = 3 / 4, maps = 2 × pixels.
    np.testing.assert_allclose(grad_cam(model, pixels, [0])[0], [[15, 0], [0, 6]])
    np.testing.assert_allclose(grad_cam(model, pixels, [1])[0], 0)


@pytest.mark.parametrize("gated", [False, True])
def test_a_map_lies_where_its_units_look(gated):
    # One 5×5 filter without padding: the unit at (y, x) looks at (y + 2, x + 2).
    image = keras.Input((12, 12, 1))
    x = layers.Conv2D(1, 5, use_bias=False, name="conv")(image)
    if gated:  # by a factor of 1 for the whole map
        ones = {"kernel_initializer": "zeros", "bias_initializer": "ones"}
        x = layers.Multiply()([x, layers.Dense(1, **ones)(layers.GlobalAveragePooling2D(keepdims=True)(x))])
    model = keras.Model(image, layers.Dense(1, use_bias=False, name="logits")(layers.GlobalAveragePooling2D()(x)))
    kernel = np.zeros((5, 5, 1, 1))
    kernel[2, 2] = 1
    model.get_layer("conv").set_weights([kernel])
    model.get_layer("logits").set_weights([np.ones((1, 1))])
    pixels = np.zeros((1, 12, 12, 1), np.uint8)
    pixels[0, 7, 3] = 64
    found = grad_cam(model, pixels, [0])[0]
    assert np.unravel_index(found.argmax(), found.shape) == (7, 3)
    assert found[7, 3] == pytest.approx(1.0)  # 64 positions
    assert np.count_nonzero(found) == 1


def test_maps_have_the_size_of_the_image_whatever_the_network(trained):
    images = photos(2, *trained.input_shape[1:])
    for found in (
        grad_cam(trained, images, [0, 2]),
        visualization.occlusion_map(trained, images, [0, 2]),
    ):
        assert found.shape == images.shape[:3]
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    assert model_profile.rows(trained)  # what it was called with is still a model


def test_visual_backprop_is_bright_where_all_layers_are():
    """Two convolutions that pass a bright spot on: nothing but its neighbourhood is relevant."""
    image = keras.Input((17, 17, 1), name="image")
    x = layers.Conv2D(2, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(3, 3, activation="relu", name="second")(x)
    model = keras.Model(image, layers.Dense(1, name="angle")(layers.Flatten()(x)))
    model.get_layer("first").set_weights([np.ones((3, 3, 1, 2)), np.zeros(2)])
    model.get_layer("second").set_weights([np.ones((3, 3, 2, 3)), np.zeros(3)])
    picture = np.zeros((2, 17, 17, 1), np.float32)
    picture[0, 5, 11] = 1
    picture[1] = 1
    heat = visualization.visual_backprop(model, picture)
    assert heat.shape == (2, 17, 17)
    assert np.unravel_index(heat[0].argmax(), (17, 17)) == (5, 11)
    assert heat[0].max() == 1
    bright = np.argwhere(heat[0] > 0.01)
    assert (np.abs(bright - (5, 11)) <= 3).all()  # the field of two convolutions, and half a step of interpolation
    assert heat[1, 3:14, 3:14].min() > 0.99  # where every layer answers the same, everything counts alike
    assert visualization.visual_backprop(model, picture * 0).max() == 0


def test_visual_backprop_of_one_layer_is_its_mean_map():
    model = behind_normalization(build("lenet.lenet5_modern", input_shape=(32, 32, 3), classes=1))
    pictures = photos(2, 32, 32, 3)
    heat = visualization.visual_backprop(model, pictures, layers=["c1"])
    averaged = visualization.feature_maps(model, pictures, "c1").mean(axis=-1)
    np.testing.assert_allclose(heat[:, 2:30, 2:30], averaged / averaged.max(axis=(1, 2), keepdims=True), atol=1e-5)


# Grad-CAM of any score


def spots(sizes, *, dtype=None):
    """Two kinds of spots, told apart by a filter each, and how bright each place is of each: (batch, *sizes, 2)."""
    axes = len(sizes)
    convolution = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[axes]
    image = keras.Input((*sizes, 2), name="image")
    x = convolution(2, 1, activation="relu", name="conv", dtype=dtype)(image)
    model = keras.Model(image, convolution(2, 1, name="scores", dtype=dtype)(x))
    eye = np.eye(2).reshape(*[1] * axes, 2, 2)
    for name in ("conv", "scores"):
        model.get_layer(name).set_weights([eye, np.zeros(2)])
    return model


def score_at(outputs, places, classes):
    """The score of one place of a flat map, of one kind."""
    flat = tf.reshape(outputs, [tf.shape(outputs)[0], -1, 2])
    return tf.gather(tf.gather(flat, places, axis=1, batch_dims=1), classes, axis=1, batch_dims=1)


@pytest.mark.parametrize("dtype", [None, "mixed_float16"])
@pytest.mark.parametrize("sizes", [(8,), (8, 6), (4, 6, 5)])
def test_the_evidence_for_one_thing_is_that_thing_not_its_like(sizes, dtype):
    picture = np.zeros((1, *sizes, 2), np.float32)
    flat = picture.reshape(-1, 2)  # a view
    flat[3], flat[7] = (2, 0), (2, 0)  # two of a kind
    flat[5] = (0, 3)
    explain = partial(visualization.grad_cam, spots(sizes, dtype=dtype), picture, score_at, layer="conv")
    one = explain(np.array([3]), np.array([0]), pooled=False)
    assert one.shape == (1, *sizes)
    assert np.flatnonzero(one).tolist() == [3]
    alike = explain(np.array([3]), np.array([0]))
    assert np.flatnonzero(alike).tolist() == [3, 7]
    other = explain(np.array([5]), np.array([1]), pooled=False)
    assert np.flatnonzero(other).tolist() == [5]


def test_a_score_that_does_not_depend_on_the_layer_is_refused():
    with pytest.raises(Fault, match="depends"):
        visualization.grad_cam(spots((8,)), np.zeros((1, 8, 2)), lambda scores: tf.zeros([1]), layer="conv")


def test_the_bottleneck_is_the_coarsest_map_that_all_outputs_depend_on():
    small = {"input_shape": (64, 64, 3), "classes": 3}
    unet = behind_normalization(build("unet.unet_small", **small))
    detector = build("yolo.yolo_small", **small)
    regional = build("rcnn.faster_rcnn_small", **small)
    sizes = {}
    for model in (unet, detector, regional, NETWORKS["resnet.resnet20"]()):
        name = visualization.bottleneck_layer(model)
        sizes[model.name] = visualization.layer_row(model, name).output_shape[:2]
    assert sizes.pop(unet.name) == min(row.output_shape[:2] for row in visualization.spatial_layers(unet).values())
    finer = visualization.bottleneck_layer(detector, positions=8)
    assert visualization.layer_row(detector, finer).output_shape[:2] == (8, 8)
    assert sizes == {"yolo_small": (2, 2), "faster_rcnn_small": (4, 4), "resnet20": (4, 4)}


def test_evidence_in_a_detector_of_regions_is_taken_of_the_image_beside_the_boxes_that_it_is_given():
    keras.utils.set_random_seed(0)
    detector = build("rcnn.faster_rcnn_small", input_shape=(64, 64, 3), classes=3)
    inputs = {"image": photos(2, 64, 64, 3), "boxes": np.zeros((2, 1, 4), np.float32)}
    layer = visualization.bottleneck_layer(detector)
    heat = visualization.grad_cam(
        detector,
        inputs,
        lambda outputs, rows: outputs["logits"][:, 0, 0] + 0 * rows,
        np.zeros(2, np.float32),
        layer=layer,
    )
    assert heat.shape == (2, 64, 64)
    assert heat.max() > 0


def test_deletion_of_what_grad_cam_shows_costs_more_than_a_random_one():
    """A bright square in noise, and the logit of a filter that finds it."""
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(1, 3, padding="same", activation="relu", use_bias=False, name="conv")(image)
    network = keras.Model(image, layers.Dense(2, use_bias=False, name="logits")(layers.GlobalAveragePooling2D()(x)))
    network.get_layer("conv").set_weights([np.full((3, 3, 1, 1), 1 / 9)])
    network.get_layer("logits").set_weights([np.array([[1.0, -1.0]])])
    picture = np.random.default_rng(0).integers(0, 40, (16, 16, 1), dtype=np.uint8)
    picture[4:9, 7:12] = 250
    heat = visualization.grad_cam(network, picture[None], visualization.class_logit, [0])[0]

    def score(images):
        return network.predict(images.astype(np.float32), verbose=0)[:, 0]

    own, drawn = (
        heat_maps.deletion_insertion(score, picture, one, removed=0)
        for one in (heat, np.random.default_rng(1).random(heat.shape))
    )
    assert own.deletion < drawn.deletion
    assert own.insertion > drawn.insertion
