"""Our own layers: worked by hand, against Keras' own, and loaded again from a file."""

import ast
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

import cnn_keras
from cnn_keras import layers
from cnn_keras.errors import Fault

# Keras 3.15 writes variables by a conversion that NumPy 2 frowns on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TABLE = ((0, 2), (1,), (0, 1, 2))
CASES = {
    "SubSampling": (lambda: layers.SubSampling(), (6, 8, 3)),
    "PartialConv2D": (lambda: layers.PartialConv2D(TABLE, (3, 2)), (6, 5, 3)),
    "LocallyConnected2D": (lambda: layers.LocallyConnected2D(4, (3, 2), (1, 2), activation="relu"), (6, 5, 3)),
    "FixedRBF": (lambda: layers.FixedRBF(5, seed=3), (84,)),
    "LocalResponseNormalization": (lambda: layers.LocalResponseNormalization(3, alpha=0.1), (4, 4, 8)),
    "PadChannels": (lambda: layers.PadChannels(7), (4, 4, 3)),
    "Maxout": (lambda: layers.Maxout(3), (4, 4, 6)),
    "Whitening": (lambda: layers.Whitening(noise(18), noise(18, 18)), (3, 3, 2)),
    "L2Pooling": (lambda: layers.L2Pooling(5), (4, 6, 3)),
    "DropConnect": (lambda: layers.DropConnect(5, 0.5, activation="relu", seed=1), (7,)),
    "scaled_tanh": (lambda: keras.layers.Activation(layers.scaled_tanh), (4,)),
}


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def registered():
    return {
        name
        for name, thing in vars(layers).items()
        if inspect.getmodule(thing) is layers and (inspect.isclass(thing) or inspect.isfunction(thing))
    }


def test_every_layer_of_the_file_is_tested_for_reloading():
    assert registered() == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_layer_loads_without_help_and_answers_the_same(name, tmp_path):
    make, shape = CASES[name]
    model = keras.Sequential([keras.Input(shape), make()])
    model.set_weights([noise(*weight.shape) for weight in model.get_weights()])
    images = noise(2, *shape)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_in_half_precision_when_asked(name, half):
    make, shape = CASES[name]
    layer = make()
    layer.dtype_policy = keras.DTypePolicy(f"mixed_{half}")
    assert layer(noise(1, *shape)).dtype == half


def test_scaled_tanh_maps_one_to_one_and_saturates_at_its_scale():
    values = np.asarray(layers.scaled_tanh(np.array([-1.0, 0.0, 1.0, 100.0], "float32")))
    np.testing.assert_allclose(values, [-1, 0, 1, 1.7159], atol=1e-4)


def test_sub_sampling_starts_as_average_pooling():
    images = noise(2, 6, 8, 3)
    np.testing.assert_allclose(
        layers.SubSampling()(images), keras.layers.AveragePooling2D(2)(images), rtol=1e-5, atol=1e-6
    )


def test_sub_sampling_is_the_sum_of_four_times_coefficient_plus_bias():
    layer = layers.SubSampling()
    layer.build((None, 2, 2, 2))
    layer.set_weights([np.array([2.0, -1.0]), np.array([0.5, 10.0])])
    image = np.array([[[1, 5], [2, 6]], [[3, 7], [4, 8]]], "float32")[None]
    np.testing.assert_allclose(layer(image)[0, 0, 0], [2 * 10 + 0.5, -26 + 10])


def test_partial_convolution_equals_a_full_one_whose_absent_kernels_are_zero():
    partial = layers.PartialConv2D(TABLE, 3)
    images = noise(2, 7, 8, 3)
    partial(images)
    kernels, bias = noise(3, 3, 6), noise(3)
    partial.set_weights([kernels, bias])
    full = np.zeros((3, 3, 3, 3), "float32")
    connections = [(index, output) for output, inputs in enumerate(TABLE) for index in inputs]
    for place, (index, output) in enumerate(connections):
        full[:, :, index, output] = kernels[:, :, place]
    dense = keras.layers.Conv2D(3, 3)
    dense.build(images.shape)
    dense.set_weights([full, bias])
    np.testing.assert_allclose(partial(images), dense(images), rtol=1e-4, atol=1e-5)


def test_partial_convolution_owns_no_weight_for_an_absent_connection():
    layer = layers.PartialConv2D(TABLE, 3)
    layer.build((None, 7, 8, 3))
    assert layer.count_params() == 6 * 9 + 3


def test_partial_convolution_starts_with_different_kernels_for_each_connection():
    layer = layers.PartialConv2D(TABLE, 3)
    layer.build((None, 7, 8, 3))
    assert len(np.unique(layer.kernel)) == 6 * 9


def test_a_connection_to_a_map_that_does_not_exist_is_refused():
    with pytest.raises(Fault, match="table must name input maps 0 to 1, got 2"):
        layers.PartialConv2D(TABLE, 3).build((None, 7, 8, 2))


def local(sides=(7, 8), channels=3, filters=4):
    """A layer of windows of 3×2, strides 2 and 1, with weights that differ everywhere."""
    layer = layers.LocallyConnected2D(filters, (3, 2), (2, 1))
    layer.build((None, *sides, channels))
    layer.set_weights([noise(*weight.shape) for weight in layer.weights])
    return layer


def test_a_locally_connected_layer_and_its_gradients_are_those_of_a_loop():
    layer, images = local(), noise(2, 7, 8, 3)
    kernel, bias = (np.asarray(weight, "float64") for weight in layer.get_weights())
    assert kernel.shape == (3, 7, 3 * 2 * 3, 4)
    back = noise(2, 3, 7, 4)[::-1].astype("float64")
    expected, to_images, to_kernel = np.empty((2, 3, 7, 4)), np.zeros(images.shape), np.zeros(kernel.shape)
    for example in range(2):
        for row in range(3):
            for column in range(7):
                place = (example, slice(2 * row, 2 * row + 3), slice(column, column + 2))
                window, own = images[place].ravel(), back[example, row, column]
                expected[example, row, column] = window @ kernel[row, column] + bias[row, column]
                to_images[place] += (kernel[row, column] @ own).reshape(3, 2, 3)
                to_kernel[row, column] += np.outer(window, own)
    with tf.GradientTape() as tape:
        inputs = tf.Variable(images)
        outputs = layer(inputs)
    gradients = tape.gradient(outputs, [inputs, *(weight.value for weight in layer.weights)], tf.cast(back, tf.float32))
    for value, right in zip([outputs, *gradients], [expected, to_images, to_kernel, back.sum(axis=0)], strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-4)


def test_a_locally_connected_layer_with_the_same_weights_everywhere_is_a_convolution():
    layer, images = local(), noise(2, 7, 8, 3)
    kernel, bias = noise(3, 2, 3, 4), noise(4)
    layer.set_weights([np.broadcast_to(kernel.reshape(-1, 4), (3, 7, 18, 4)), np.broadcast_to(bias, (3, 7, 4))])
    convolution = keras.layers.Conv2D(4, (3, 2), (2, 1))
    convolution.build(images.shape)
    convolution.set_weights([kernel, bias])
    np.testing.assert_allclose(layer(images), convolution(images), rtol=1e-4, atol=1e-5)
    assert layer.count_params() == 3 * 7 * convolution.count_params()


def test_a_locally_connected_layer_starts_with_other_weights_everywhere_as_large_as_those_of_a_convolution():
    layer = layers.LocallyConnected2D(64, 3)
    layer.build((None, 12, 12, 16))
    kernel = np.asarray(layer.kernel)
    assert len(np.unique(kernel)) > 0.99 * kernel.size
    assert kernel.std() == pytest.approx((2 / (3 * 3 * 16)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("sides", [(None, 8), (2, 8), (3, 1)])
def test_a_locally_connected_layer_refuses_sides_that_are_open_or_smaller_than_its_window(sides):
    with pytest.raises(Fault, match=r"input must have sides of at least \(3, 2\)"):
        local(sides)


def test_rbf_logits_are_minus_squared_distances_to_the_codes():
    layer = layers.FixedRBF(3)
    features = noise(4, 6)
    logits = np.asarray(layer(features))
    for example in range(4):
        for label in range(3):
            distance = np.sum((features[example] - layer.codes[label]) ** 2)
            assert logits[example, label] == pytest.approx(-distance, rel=1e-5)


def test_rbf_answers_zero_for_the_code_itself_and_less_elsewhere():
    layer = layers.FixedRBF(1000)
    layer.build((None, 84))
    logits = np.asarray(layer(layer.codes.astype("float32")))
    np.testing.assert_array_equal(np.diag(logits), 0)
    assert np.all(logits[~np.eye(1000, dtype=bool)] < 0)


def test_rbf_codes_are_plus_and_minus_one_and_never_change_for_a_seed():
    layer = layers.FixedRBF(2, seed=0)
    layer.build((None, 8))
    # Drawn when the layer was written: a saved model must mean these for ever.
    assert layer.codes.tolist() == [[-1, 1, 1, -1, 1, 1, 1, 1], [1, 1, 1, -1, -1, 1, -1, -1]]


def test_another_seed_gives_other_codes():
    first, second = layers.FixedRBF(10, seed=0), layers.FixedRBF(10, seed=1)
    first.build((None, 84))
    second.build((None, 84))
    assert np.any(first.codes != second.codes)


def test_rbf_has_no_weights():
    layer = layers.FixedRBF(10)
    layer.build((None, 84))
    assert layer.weights == []


def test_local_response_normalization_equals_the_formula_of_the_paper():
    x = noise(2, 3, 3, 6)
    expected = np.empty_like(x)
    for channel in range(6):
        neighbours = x[..., max(0, channel - 2) : channel + 3]
        expected[..., channel] = x[..., channel] / (2 + 0.5 * np.sum(neighbours**2, axis=-1)) ** 0.75
    np.testing.assert_allclose(layers.LocalResponseNormalization(alpha=0.5)(x), expected, rtol=1e-5)


def test_padded_channels_are_zeros_behind_the_given_ones():
    x = noise(2, 3, 3, 4)
    padded = np.asarray(layers.PadChannels(6)(x))
    np.testing.assert_array_equal(padded[..., :4], x)
    assert padded.shape == (2, 3, 3, 6)
    assert not padded[..., 4:].any()


def test_maxout_keeps_the_largest_of_neighbouring_channels():
    x = np.array([[1, 5, 2, -3, -7, -1]], "float32")
    np.testing.assert_array_equal(layers.Maxout(3)(x), [[5, -1]])
    np.testing.assert_array_equal(layers.Maxout(2)(x), [[5, 2, -1]])
    np.testing.assert_array_equal(layers.Maxout(1)(x), x)


def test_maxout_with_a_piece_that_is_zero_is_a_rectifier():
    x = noise(2, 5, 5, 3)
    pairs = np.stack([x, np.zeros_like(x)], axis=-1).reshape(2, 5, 5, 6)
    np.testing.assert_array_equal(layers.Maxout(2)(pairs), np.maximum(x, 0))


def test_maxout_takes_images_of_any_size():
    model = keras.Sequential([keras.Input((None, None, 4)), layers.Maxout(2)])
    assert model.outputs[0].shape == (None, None, None, 2)
    assert model(noise(2, 3, 5, 4)).shape == (2, 3, 5, 2)


@pytest.mark.parametrize("pieces", [0, -1, 4])
def test_pieces_that_do_not_divide_the_channels_are_refused(pieces):
    with pytest.raises(Fault, match=f"pieces must divide the 6 channels of the input, got {pieces}"):
        layers.Maxout(pieces)(noise(1, 6))


def test_drop_connect_answers_like_a_dense_layer_outside_training():
    layer, x = layers.DropConnect(5, 0.5, activation="tanh"), noise(3, 7)
    layer(x)
    dense = keras.layers.Dense(5, activation="tanh")
    dense.build(x.shape)
    dense.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x), dense(x))
    layer.rate = 0.0
    np.testing.assert_array_equal(layer(x, training=True), dense(x))


def test_drop_connect_drops_other_connections_and_biases_for_each_example_and_scales_up_the_rest():
    layer = layers.DropConnect(40, 0.75, kernel_initializer="ones", bias_initializer=keras.initializers.Constant(0.5))
    # Each input that is kept counts 4, as does a kept bias: 2. No two examples see the same network.
    answers = np.asarray(layer(np.ones((50, 10), "float32"), training=True))
    assert len(np.unique(answers, axis=0)) == 50
    kept, biased = np.divmod(answers, 4)
    assert set(biased.ravel()) == {0.0, 2.0}
    assert (biased == 2).mean() == pytest.approx(0.25, abs=0.05)
    assert kept.mean() == pytest.approx(10 * 0.25, abs=0.2)
    assert kept.std() == pytest.approx((10 * 0.25 * 0.75) ** 0.5, abs=0.15)


def test_gradients_reach_only_the_connections_that_were_kept():
    layer = layers.DropConnect(6, 0.5, seed=0)
    layer.build((None, 8))
    with tf.GradientTape() as tape:
        answer = tf.reduce_sum(layer(tf.ones((1, 8)), training=True))
    gradient = tape.gradient(answer, layer.kernel).numpy()
    assert set(gradient.ravel()) == {0.0, 2.0}


def test_masks_of_drop_connect_follow_its_seed_and_go_on_from_its_saved_state():
    def masks(layer, count=3):
        return [np.asarray(layer(np.ones((2, 7), "float32"), training=True)) for _ in range(count)]

    first, second = (layers.DropConnect(5, 0.5, seed=4, kernel_initializer="ones") for _ in range(2))
    expected = masks(first)
    assert not np.array_equal(expected[0], expected[1])
    resumed = layers.DropConnect(5, 0.5, seed=9, kernel_initializer="ones")
    np.testing.assert_array_equal(masks(second, 1), expected[:1])
    resumed.build((None, 7))
    for variable, saved in zip(resumed.variables, second.variables, strict=True):
        variable.assign(saved)
    np.testing.assert_array_equal(masks(resumed, 2), expected[1:])


def test_drop_connect_trains_in_half_precision():
    layer = layers.DropConnect(5, 0.5, dtype=keras.DTypePolicy("mixed_float16"))
    assert layer(noise(2, 7), training=True).dtype == "float16"
    assert layer.kernel.dtype == "float32"


def test_drop_connect_refuses_what_is_no_share_and_maps_that_are_not_flat():
    with pytest.raises(Fault, match="rate must be at least 0 and below 1, got 1"):
        layers.DropConnect(5, 1)
    with pytest.raises(Fault, match=r"input must be \(batch, features\), got 4 axes; flatten it before"):
        layers.DropConnect(5, 0.5)(noise(1, 2, 2, 3))


# Batch normalisation, against Keras's own.

OWN = keras.layers.BatchNormalization
PLAIN = {"scale": False, "center": False}


def normalized(kind, images, *, training=True, mask=None, jit=None, frozen=False, dtype="float32", **arguments):
    """Outputs, gradients and running statistics of a layer of this kind, and whether the kernel computed them."""
    layer = kind(dtype=dtype, **arguments)
    layer.build(images.shape)
    channels = layer.moving_mean.shape[0]
    layer.set_weights([np.linspace(0.5, 2, channels) + place for place in range(len(layer.weights))])
    layer.trainable = not frozen
    images = tf.constant(images, layer.compute_dtype)
    back = tf.constant(np.random.default_rng(1).normal(size=images.shape), layer.compute_dtype)

    @tf.function(jit_compile=jit)
    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=training, mask=mask)
        watched = [images, *(weight.value for weight in layer.trainable_weights)]
        return outputs, tape.gradient(outputs, watched, back)

    outputs, gradients = step(images)
    kernel = any(op.type == "FusedBatchNormV3" for op in step.get_concrete_function(images).graph.get_operations())
    statistics = [weight.value for weight in layer.non_trainable_weights]
    return kernel, [np.asarray(tf.cast(value, "float64")) for value in (outputs, *gradients, *statistics)]


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((8, 5, 6, 3), {}),
        ((8, 5, 6, 3), PLAIN),
        ((8, 5, 6, 3), {"epsilon": 1e-6, "momentum": 0.9, "axis": 3}),
        ((1, 1, 1, 2), {}),
        ((4, 9, 3), {}),
        ((2, 4, 3, 5, 2), {"center": False}),
    ],
)
def test_the_kernel_normalises_and_learns_like_keras_in_double_precision(shape, arguments):
    images = 3 + 2 * noise(*shape)
    kernel, ours = normalized(layers.BatchNormalization, images, **arguments)
    _, exact = normalized(OWN, images, dtype="float64", **arguments)
    assert kernel
    for value, right in zip(ours, exact, strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_the_kernel_keeps_statistics_of_half_precision_in_single(half):
    images = 3 + 2 * noise(8, 5, 6, 3)
    kernel, ours = normalized(layers.BatchNormalization, images, dtype=f"mixed_{half}")
    _, keras_own = normalized(OWN, images, dtype=f"mixed_{half}")
    assert kernel
    *values, mean, variance = ours
    *right, right_mean, right_variance = keras_own
    np.testing.assert_allclose((mean, variance), (right_mean, right_variance), rtol=1e-5)
    for value, other in zip(values, right, strict=True):  # by one unit in the last place, where the rounding differs
        np.testing.assert_allclose(value, other, rtol={"float16": 2**-10, "bfloat16": 2**-7}[half], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((8, 6), {}),
        ((8, 5, 6, 3), {"dtype": "float64"}),
        ((8, 5, 6, 3), {"axis": 1}),
        ((8, 5, 3), {"mask": tf.sequence_mask([1, 2, 3, 4, 5, 5, 5, 5])}),
        ((8, 5, 6, 3), {"renorm": True}),
        ((8, 5, 6, 3), {"synchronized": True}),
        ((8, 5, 6, 3), {"training": False}),
        ((8, 5, 6, 3), {"frozen": True}),
        ((8, 5, 6, 3), {"jit": True}),
    ],
)
def test_what_the_kernel_does_not_do_is_left_to_keras(shape, arguments):
    images = 3 + 2 * noise(*shape)
    kernel, ours = normalized(layers.BatchNormalization, images, **arguments)
    _, right = normalized(OWN, images, **arguments)
    assert not kernel
    for value, other in zip(ours, right, strict=True):
        np.testing.assert_array_equal(value, other)


def test_the_variance_of_values_far_from_zero_is_right_in_xla_too():
    images = 3000 + noise(8, 5, 6, 3)
    for jit in (None, True):
        *_, variance = normalized(layers.BatchNormalization, images, momentum=0.0, jit=jit)[1]
        np.testing.assert_allclose(variance, images.astype("float64").var((0, 1, 2)), rtol=1e-3)


def test_the_kernel_gives_the_same_bits_twice_where_tensorflow_is_told_to():
    """On many threads: the maps are large enough to be shared out among them."""
    images = 3 + 2 * noise(32, 28, 28, 32)
    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        (kernel, first), *again = [normalized(layers.BatchNormalization, images) for _ in range(4)]
    finally:
        (config.enable_op_determinism if before else config.disable_op_determinism)()
    assert kernel
    for _, values in again:
        for value, right in zip(values, first, strict=True):
            np.testing.assert_array_equal(value, right)


def normalizing(kind):
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), kind(), keras.layers.Flatten()])


def test_a_saved_network_names_the_layer_of_keras(tmp_path):
    model = normalizing(layers.BatchNormalization)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert "cnn_keras" not in config  # so that it is loaded where this package is not
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[1]) is OWN
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    np.testing.assert_array_equal(loaded(noise(2, 8, 8, 3)), model(noise(2, 8, 8, 3)))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("kinds", [(layers.BatchNormalization, OWN), (OWN, layers.BatchNormalization)])
def test_files_of_weights_are_read_in_both_directions(kinds, suffix, tmp_path):
    written, read = map(normalizing, kinds)
    written.set_weights([1 + noise(*weight.shape) for weight in written.get_weights()])
    path = tmp_path / f"model{suffix}"
    (written.save if suffix == ".keras" else written.save_weights)(path)
    read.load_weights(path)
    for value, right in zip(read.get_weights(), written.get_weights(), strict=True):
        np.testing.assert_array_equal(value, right)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from cnn_keras import layers
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
images = np.random.default_rng(0).normal(3, 2, (64, 8, 8, 3)).astype("float32")
def trained(kind):
    keras.utils.set_random_seed(0)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), kind(), keras.layers.Flatten(),
                                  keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((images, images[:, 0, 0, :2])).batch(16)
    model.fit(data, epochs=2, verbose=0)
    return model.get_weights()
for ours, right in zip(trained(layers.BatchNormalization), trained(keras.layers.BatchNormalization), strict=True):
    np.testing.assert_allclose(ours, right, rtol=1e-3, atol=1e-5)
"""


@pytest.mark.slow
def test_two_replicas_learn_what_they_learn_with_the_layer_of_keras():
    subprocess.run([sys.executable, "-c", REPLICAS], check=True)


def test_the_library_builds_no_batch_normalisation_but_its_own():
    builders = [
        path.name
        for path in Path(cnn_keras.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "BatchNormalization"
    ]
    assert builders == []


def test_the_library_uses_no_lambda_layers():
    sources = Path(cnn_keras.__file__).parent.rglob("*.py")
    users = [
        path.name
        for path in sources
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if getattr(node, "attr", getattr(node, "id", None)) == "Lambda"
    ]
    assert users == []
