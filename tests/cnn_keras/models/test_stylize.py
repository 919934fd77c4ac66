"""The tower answers as its network does; the transformer "stylize.transformer" keeps the promises of all networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import stylize

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = {"width": 4, "blocks": 1}


def images(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


@pytest.mark.parametrize("builder", ["stacks.three_3x3", "darknet.darknet19"])
def test_the_tower_answers_what_its_network_does(builder, tmp_path):
    taps = {"stacks.three_3x3": ["relu3", "relu1"], "darknet.darknet19": ["stage2"]}[builder]
    network = models.build(builder, input_shape=(stylize.SIDE, stylize.SIDE, 3), classes=10)
    network.save_weights(tmp_path / "some.weights.h5")
    found = stylize.tower(builder, taps, weights=tmp_path / "some.weights.h5")
    image = images(1, stylize.SIDE, stylize.SIDE, 3)
    given = keras.layers.Normalization(**stylize.UNPUBLISHED)(image)
    wanted = keras.Model(network.inputs, [network.get_layer(name).output for name in taps])(given)
    answers = found(image)
    assert list(answers) == taps
    for name, answer in zip(taps, keras.tree.flatten(wanted), strict=True):
        np.testing.assert_allclose(answers[name], answer, rtol=0, atol=1e-4 * np.abs(answer).max())
    assert found.trainable_weights == []
    assert found(images(1, 33, 47, 3))[taps[0]].shape[0] == 1  # any other size


def test_random_weights_are_the_same_each_time():
    first, second = (stylize.tower("stacks.one_7x7", ["relu1"], weights="random") for _ in range(2))
    image = images(1, 8, 8, 3)
    np.testing.assert_array_equal(first(image)["relu1"], second(image)["relu1"])


def test_poolings_of_the_tower_can_be_averages():
    answers = []
    for pooling in ("max", "average"):
        found = stylize.tower("lenet.lenet5_modern", ["c1", "s2"], weights="random", pooling=pooling)
        answers.append({name: answer.numpy() for name, answer in found(images(1, 8, 8, 3)).items()})
    most, mean = answers
    quarters = most["c1"].reshape(1, 2, 2, 2, 2, 6)
    np.testing.assert_allclose(most["s2"], quarters.max(axis=(2, 4)), rtol=1e-5)
    np.testing.assert_allclose(mean["s2"], quarters.mean(axis=(2, 4)), rtol=1e-4)


def test_what_there_is_not_is_refused():
    with pytest.raises(Fault, match="pooling must be one of max, average"):
        stylize.tower("lenet.lenet5_modern", ["c1"], weights="random", pooling="min")
    with pytest.raises(Fault, match=r"must be those of stacks\.one_7x7, got stage9"):
        stylize.tower("stacks.one_7x7", ["stage9"], weights="random")


@pytest.mark.parametrize("builder", stylize.TAPS)
def test_the_layers_tapped_by_default_are_there(builder):
    network = models.build(builder, input_shape=(96, 96, 3), classes=2, **({"hidden": 1} if "vgg" in builder else {}))
    names = {layer.name for layer in network.layers}
    assert {*stylize.TAPS[builder].content, *stylize.TAPS[builder].style} <= names


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return stylize.transformer(input_shape=(None, None, 3), **SMALL)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 18)])
def test_any_size_comes_out_as_it_went_in(network, size):
    painting = network(images(2, *size, 3))
    assert painting.shape == (2, *size, 3)
    assert painting.dtype == "float32"
    assert 0 <= np.min(painting) < np.max(painting) <= 255


def test_a_picture_too_small_is_refused():
    with pytest.raises(Fault, match="at least 16"):
        stylize.transformer(input_shape=(15, 20, 3))


@pytest.mark.parametrize("styles", [1, 3])
def test_a_saved_transformer_loads_and_paints_the_same(styles, tmp_path):
    model = stylize.transformer(input_shape=(32, 32, 3), styles=styles, **SMALL)
    given = images(2, 32, 32, 3)
    given = {"image": given, "style": np.eye(3, dtype="float32")[:2]} if styles > 1 else given
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(given), model(given))


def test_every_weight_moves_after_one_step():
    model = stylize.transformer(input_shape=(32, 32, 3), styles=2, **SMALL)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    given = {"image": images(2, 32, 32, 3), "style": np.eye(2, dtype="float32")}
    model.train_on_batch(given, images(2, 32, 32, 3)[::-1])
    pairs = zip(model.weights, before, model.get_weights(), strict=True)
    assert [weight.path for weight, old, new in pairs if np.array_equal(old, new)] == []


def test_instances_are_normalised_as_keras_does():
    x = images(2, 7, 5, 4)
    theirs = keras.layers.GroupNormalization(groups=-1, epsilon=1e-5)
    np.testing.assert_allclose(stylize.InstanceNormalization()(x), theirs(x), rtol=0, atol=1e-4)


def test_each_style_has_its_own_scale_and_shift_and_shares_mix_them():
    layer, x = stylize.InstanceNormalization(), images(1, 6, 6, 2)
    layer([x, np.ones((1, 2), "float32")])
    layer.gamma.assign([[1, 1], [3, 3]])
    layer.beta.assign([[0, 0], [8, 8]])
    first, second, half = (layer([x, np.float32([shares])]) for shares in ([1, 0], [0, 1], [0.5, 0.5]))
    np.testing.assert_allclose(second, 3 * first + 8, rtol=0, atol=1e-4)
    np.testing.assert_allclose(half, 2 * first + 4, rtol=0, atol=1e-4)


def test_maps_are_enlarged_to_the_size_of_others_by_nearest_neighbours():
    x, like = np.arange(4, dtype="float32").reshape(1, 2, 2, 1), np.zeros((1, 5, 4, 7), "float32")
    assert stylize.EnlargedLike()([x, like])[0, :, :, 0].numpy().tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 3


def test_the_border_is_a_mirror():
    padded = stylize.ReflectionPadding(2)(tf.reshape(tf.range(9.0), (1, 3, 3, 1)))
    assert padded[0, 2, :, 0].numpy().tolist() == [2, 1, 0, 1, 2, 1, 0]
