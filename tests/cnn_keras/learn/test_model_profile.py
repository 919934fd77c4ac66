"""Sizes, parameters, multiply-adds and receptive fields: published ones and ones worked by hand."""

import csv
import io
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.layers import LocallyConnected2D
from cnn_keras.learn import model_profile


def rows_of(model, **options):
    return {row.name: row for row in model_profile.rows(model, **options)}


def network(*stack, shape=(32, 32, 3)):
    x = image = keras.Input(shape, name="image")
    for layer in stack:
        x = layer(x)
    return keras.Model(image, x)


def last(*stack, shape=(32, 32, 3)):
    return model_profile.rows(network(*stack, shape=shape))[-1]


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 4), st.integers(1, 4), st.integers(1, 3))
def test_output_size_counts_the_places_of_the_window(size, window, padding, stride, dilation):
    reach = dilation * (window - 1) + 1
    places = [first for first in range(0, size + 2 * padding, stride) if first + reach <= size + 2 * padding]
    if places:
        measured = model_profile.output_size(size, window, padding=padding, stride=stride, dilation=dilation)
        assert measured == len(places)
    else:
        with pytest.raises(Fault, match="window must reach"):
            model_profile.output_size(size, window, padding=padding, stride=stride, dilation=dilation)


@pytest.mark.parametrize(
    ("size", "window", "options", "expected"),
    [
        (32, 5, {}, 28),
        (224, 7, {"padding": 3, "stride": 2}, 112),
        (227, 11, {"stride": 4}, 55),
        (14, 5, {}, 10),
    ],
)
def test_output_size_of_well_known_layers(size, window, options, expected):
    assert model_profile.output_size(size, window, **options) == expected


def test_lenet5_rows_equal_the_paper():
    rows = rows_of(models.build("lenet.lenet5"))
    table = {name: (rows[name].output_shape, rows[name].trainable) for name in ("c1", "s2", "c3", "s4", "c5", "f6")}
    assert table == {
        "c1": ((28, 28, 6), 156),
        "s2": ((14, 14, 6), 12),
        "c3": ((10, 10, 16), 1_516),
        "s4": ((5, 5, 16), 32),
        "c5": ((1, 1, 120), 48_120),
        "f6": ((84,), 10_164),
    }


def test_lenet5_has_340_908_connections():
    rows = rows_of(models.build("lenet.lenet5"))
    weighted = sum(rows[name].multiply_adds + math.prod(rows[name].output_shape) for name in ("c1", "c3", "c5", "f6"))
    sub_sampled = sum(5 * math.prod(rows[name].output_shape) for name in ("s2", "s4"))  # four inputs and the bias
    distances = rows["f6"].output_shape[0] * rows["logits"].output_shape[0]
    assert weighted + sub_sampled == 340_068
    assert weighted + sub_sampled + distances == 340_908


@pytest.mark.parametrize("name", ["lenet.lenet5", "lenet.lenet5_modern"])
def test_lenet5_receptive_fields_are_5_6_14_16_32(name):
    rows = rows_of(models.build(name))
    seen = [rows[layer].receptive_field for layer in ("c1", "s2", "c3", "s4", "c5")]
    assert seen == [(size, size) for size in (5, 6, 14, 16, 32)]


def test_modern_lenet5_needs_416_520_multiply_adds():
    assert model_profile.totals(model_profile.rows(models.build("lenet.lenet5_modern"))).multiply_adds == 416_520


@pytest.mark.slow
def test_vgg16_of_keras_equals_its_published_figures():
    rows = model_profile.rows(keras.applications.VGG16(weights=None))
    total = model_profile.totals(rows)
    fields = {row.name: row.receptive_field for row in rows}
    assert (total.parameters, total.multiply_adds) == (138_357_544, 15_470_264_320)
    assert (fields["block5_conv3"], fields["block5_pool"]) == ((196, 196), (212, 212))


def test_resnet50_of_keras_equals_its_published_figures():
    rows = model_profile.rows(keras.applications.ResNet50(weights=None))
    total = model_profile.totals(rows)
    fields = {row.name: row.receptive_field for row in rows}
    assert (total.parameters, total.trainable, total.multiply_adds) == (25_636_712, 25_583_592, 3_857_973_248)
    assert fields["conv5_block3_out"] == (483, 483)


@pytest.mark.parametrize(
    ("layer", "multiply_adds"),
    [
        (layers.Conv2D(8, 3, padding="same"), 16 * 16 * 9 * 4 * 8),
        (layers.Conv2D(8, 3, strides=2, padding="same", groups=2), 8 * 8 * 9 * 2 * 8),
        (layers.Conv2D(8, 3, dilation_rate=2), 12 * 12 * 9 * 4 * 8),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 14 * 14 * 9 * 4 * 2),
        (layers.SeparableConv2D(8, 3), 14 * 14 * (9 * 4 + 4 * 8)),
        (layers.Conv2DTranspose(8, 3, strides=2), 16 * 16 * 9 * 4 * 8),
        (LocallyConnected2D(8, 3, 2), 7 * 7 * 9 * 4 * 8),
        (layers.Dense(5), 16 * 16 * 4 * 5),
        (layers.BatchNormalization(), 0),
    ],
    ids=lambda value: value.name if isinstance(value, layers.Layer) else "",
)
def test_multiply_adds_of_one_layer_equal_the_product_worked_by_hand(layer, multiply_adds):
    assert last(layer, shape=(16, 16, 4)).multiply_adds == multiply_adds


@pytest.mark.parametrize(("cells", "gates"), [(layers.SimpleRNN, 1), (layers.GRU, 3), (layers.LSTM, 4)])
def test_a_recurrent_layer_multiplies_its_input_and_its_state_at_every_step(cells, gates):
    row = last(cells(5), shape=(20, 3))
    assert (row.output_shape, row.multiply_adds) == ((5,), 20 * gates * (3 + 5) * 5)
    assert row.receptive_field == (20,)


@pytest.mark.parametrize("layer", [layers.Conv2D(8, 3, 2), LocallyConnected2D(8, 3, 2)])
def test_a_locally_connected_layer_sees_and_computes_what_a_convolution_does(layer):
    row = last(layer, shape=(16, 16, 4))
    places = 7 * 7 if isinstance(layer, LocallyConnected2D) else 1
    assert (row.receptive_field, row.jump, row.start) == ((3, 3), (2, 2), (0, 0))
    assert (row.multiply_adds, row.parameters) == (7 * 7 * 9 * 4 * 8, places * (9 * 4 + 1) * 8)


@pytest.mark.parametrize(
    ("dimensions", "shapes", "parameters"),
    [
        (1, [(14, 1), (10, 16), (6, 32)], 96 + 2_592),
        (3, [(14,) * 3 + (1,), (10,) * 3 + (16,), (6,) * 3 + (32,)], 66_048),
    ],
)
def test_signals_and_volumes_shrink_as_the_course_says(dimensions, shapes, parameters):
    convolution = {1: layers.Conv1D, 3: layers.Conv3D}[dimensions]
    rows = model_profile.rows(network(convolution(16, 5), convolution(32, 5), shape=shapes[0]))
    assert [row.output_shape for row in rows] == shapes
    assert model_profile.totals(rows).parameters == parameters
    assert rows[-1].receptive_field == (9,) * dimensions


def influence(model, size):
    """First and last pixel that moves each output unit, by the gradient: the oracle of receptive fields."""
    image = tf.Variable(np.random.default_rng(0).uniform(1, 2, (1, size, 1)).astype("float32"))
    with tf.GradientTape() as tape:
        outputs = model(image)[0, :, 0]
    gradient = tape.jacobian(outputs, image).numpy()[:, 0, :, 0]
    return [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1])) for row in gradient]


def positive(*stack):
    """A one-dimensional network whose weights cannot cancel."""
    model = network(*stack, shape=(32, 1))
    model.set_weights([np.abs(weight) + 0.1 for weight in model.get_weights()])
    return model


WINDOWS = {
    "convolutions": [layers.Conv1D(1, 3), layers.Conv1D(1, 4)],
    "strides": [layers.Conv1D(1, 3, strides=2), layers.Conv1D(1, 5, strides=3)],
    "same": [layers.Conv1D(1, 3, strides=2, padding="same"), layers.Conv1D(1, 3, padding="same")],
    "causal": [layers.Conv1D(1, 3, padding="causal")],
    "dilation": [layers.Conv1D(1, 3, dilation_rate=4), layers.Conv1D(1, 3, dilation_rate=2)],
    "pooling": [layers.AveragePooling1D(2), layers.AveragePooling1D(3, strides=2, padding="same")],
    "padding": [layers.ZeroPadding1D((3, 1)), layers.Conv1D(1, 5)],
    "cropping": [layers.Conv1D(1, 3, strides=2), layers.Cropping1D((2, 1)), layers.Conv1D(1, 3)],
}


@pytest.mark.parametrize("name", WINDOWS)
def test_size_jump_and_start_of_a_field_equal_what_the_gradient_shows(name):
    model = positive(*WINDOWS[name])
    row = model_profile.rows(model)[-1]
    (size,), (jump,), (start,) = row.receptive_field, row.jump, row.start
    assert row.middle == (start + (size - 1) / 2,)
    begins = [start + unit * jump for unit in range(row.output_shape[0])]
    assert influence(model, 32) == [(max(begin, 0), min(begin + size, 32) - 1) for begin in begins]


SPREADERS = {
    "kernel of the stride": [layers.Conv1D(1, 3, strides=2), layers.Conv1DTranspose(1, 2, strides=2)],
    "kernel of twice the stride": [layers.Conv1DTranspose(1, 4, strides=2, padding="same")],
    "up-sampling": [layers.AveragePooling1D(2), layers.UpSampling1D(2), layers.Conv1D(1, 3)],
}


@pytest.mark.parametrize("name", SPREADERS)
def test_size_of_a_field_behind_up_sampling_equals_the_widest_that_the_gradient_shows(name):
    model = positive(*SPREADERS[name])
    (size,) = model_profile.rows(model)[-1].receptive_field
    widths = [final - first + 1 for first, final in influence(model, 32)]
    assert max(widths) == size


def test_a_transposed_convolution_of_even_overlap_sees_as_many_inputs_as_taps_reach_it():
    row = last(layers.Conv2DTranspose(1, 4, strides=2, padding="same"))
    assert (row.receptive_field, row.jump) == ((2, 2), (0.5, 0.5))


def test_branches_see_the_widest_of_them_and_sums_keep_the_jump():
    image = keras.Input((32, 32, 3), name="image")
    narrow = layers.Conv2D(4, 1, name="narrow")(image)
    wide = layers.Conv2D(4, 5, padding="same", name="wide")(image)
    rows = rows_of(keras.Model(image, layers.Add(name="sum")([narrow, wide])))
    assert (rows["sum"].receptive_field, rows["sum"].jump, rows["sum"].start) == ((5, 5), (1, 1), (-2, -2))
    assert rows["sum"].middle == (0, 0)


def test_a_gate_over_the_whole_map_makes_every_unit_see_everything_and_moves_none():
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 3, padding="valid")(image)
    gate = layers.Dense(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    row = model_profile.rows(keras.Model(image, layers.Multiply()([gate, x])))[-1]
    assert (row.receptive_field, row.jump) == ((8, 8), (1, 1))
    assert row.middle == (1, 1)  # of the pixels 0 to 2


def test_a_flattened_map_sees_the_union_of_its_units():
    row = last(layers.Conv2D(2, 3, strides=2), layers.Flatten(), layers.Dense(7), shape=(9, 11, 1))
    assert (row.receptive_field, row.jump) == ((9, 11), ())


def test_a_model_inside_a_model_is_descended_into():
    inner = network(layers.Conv2D(4, 3, name="conv"), layers.MaxPooling2D(2, name="pool"), shape=(None, None, 3))
    inner.name = "inner"
    rows = rows_of(network(inner, layers.Conv2D(8, 3, name="conv"), shape=(16, 16, 3)))
    assert list(rows) == ["image", "inner/conv", "inner/pool", "conv"]
    assert rows["inner/pool"].output_shape == (7, 7, 4)
    assert rows["conv"].receptive_field == (8, 8)
    assert rows["inner/conv"].multiply_adds == 14 * 14 * 9 * 3 * 4


def test_a_sequential_model_reads_the_same_alone_and_inside_another():
    def stack():
        return keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3), layers.Conv2D(2, 3)], name="stack")

    alone, inside = model_profile.rows(stack()), model_profile.rows(network(stack(), shape=(16, 16, 3)))
    assert [row.output_shape for row in alone] == [row.output_shape for row in inside]
    assert model_profile.totals(alone) == model_profile.totals(inside)


def test_a_shared_layer_counts_its_parameters_once_and_its_work_every_time():
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    shared = layers.Conv2D(2, 3)
    model = keras.Model([left, right], layers.Subtract()([shared(left), shared(right)]))
    total = model_profile.totals(model_profile.rows(model))
    assert total.parameters == model.count_params() == 20
    assert total.multiply_adds == 2 * 6 * 6 * 9 * 2


def test_operations_on_symbolic_tensors_have_rows_too():
    image = keras.Input((8, 8, 2), name="image")
    rows = model_profile.rows(keras.Model(image, keras.ops.relu(layers.Conv2D(2, 3)(image)) * 2.0))
    assert [row.type for row in rows] == ["InputLayer", "Conv2D", "Relu", "Multiply"]


def test_activation_memory_counts_bytes_of_the_batch():
    model = network(layers.Conv2D(4, 3), layers.Conv2D(2, 3, dtype="float16"), shape=(8, 8, 3))
    measured = [row.activation_bytes for row in model_profile.rows(model, batch=10)]
    assert measured == [10 * 8 * 8 * 3 * 4, 10 * 6 * 6 * 4 * 4, 10 * 4 * 4 * 2 * 2]


def test_frozen_layers_and_statistics_are_parameters_but_not_trainable():
    row = last(layers.BatchNormalization())
    assert (row.parameters, row.trainable) == (12, 6)


def test_an_open_size_is_refused_until_it_is_given():
    model = network(layers.Conv2D(4, 3), shape=(None, None, 3))
    with pytest.raises(Fault, match="input_shape must be known"):
        model_profile.rows(model)
    assert model_profile.rows(model, input_shape=(10, 12, 3))[-1].output_shape == (8, 10, 4)


def test_a_subclassed_model_is_refused():
    class Opaque(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(Fault, match="must be functional or sequential, and built, got Opaque"):
        model_profile.rows(Opaque())


def test_a_sequential_model_that_has_not_seen_its_input_is_refused():
    with pytest.raises(Fault, match="and built, got Sequential"):
        model_profile.rows(keras.Sequential([layers.Dense(3)]))


def test_csv_holds_every_row_under_its_header():
    rows = model_profile.rows(models.build("lenet.lenet5_modern"))
    read = list(csv.DictReader(io.StringIO(model_profile.as_csv(rows))))
    assert len(read) == len(rows)
    assert read[1]["output_shape"] == "28x28x6"
    assert sum(int(row["multiply_adds"]) for row in read) == 416_520


def test_markdown_ends_in_the_totals():
    lines = model_profile.as_markdown(model_profile.rows(models.build("lenet.lenet5_modern"))).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [cell.strip() for cell in lines[-1].split("|")][1:7] == [
        "total",
        "",
        "",
        "61,706",
        "61,706",
        "416,520",
    ]
