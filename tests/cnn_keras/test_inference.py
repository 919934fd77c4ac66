"""Asking a trained model: the same answers, few at a time, in one graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnn_keras import inference


def network():
    """8×8×3 floats, two convolutions of 4 channels, 5 logits: activations of 192 + 256 + 256 + 256 + 5 numbers."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    x = layers.Conv2D(4, 3, padding="same")(x)
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(x)))


def test_as_many_are_asked_at_once_as_their_activations_allow(monkeypatch):
    model = network()
    assert inference.batch_limit(model) == inference.MOST
    each = 4 * (8 * 8 * 3 + 2 * 8 * 8 * 4 + 8 * 8 * 4 + 5)
    monkeypatch.setattr(inference, "MEMORY", 30 * each + each // 2)
    assert inference.batch_limit(model) == 30
    assert inference.batch_limit(model, looks=10) == 3
    assert inference.batch_limit(model, looks=100) == 1


def test_the_size_of_images_of_any_size_counts(monkeypatch):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(1, 1)(image))
    monkeypatch.setattr(inference, "MEMORY", 4 * 4 * 100)
    assert inference.batch_limit(model, input_shape=(5, 5, 3)) == 4
    assert inference.batch_limit(model, input_shape=(10, 10, 3)) == 1


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_answers_are_the_model_s_whatever_the_number(count, monkeypatch):
    model, images = network(), np.random.default_rng(0).normal(size=(count, 8, 8, 3)).astype("float32")
    monkeypatch.setattr(inference, "batch_limit", lambda model, looks: 8)
    np.testing.assert_allclose(inference.predictor(model)(images), model(images), rtol=1e-5, atol=1e-6)


def test_a_graph_is_traced_once_whatever_the_number_of_rows():
    traces = []

    def doubled(pair):
        traces.append(pair["left"].shape)
        return {"both": pair["left"] + pair["right"], "names": tf.fill(tf.shape(pair["left"])[:1], "x")}

    ask = inference.compiled(doubled)
    left = np.arange(14.0).reshape(7, 2)
    found = inference.predict_in_batches(ask, {"left": left, "right": left}, size=3)
    np.testing.assert_array_equal(found["both"], 2 * left)
    assert found["names"].tolist() == [b"x"] * 7
    assert traces == [(None, 2)]


def test_several_columns_of_rows_are_asked_together():
    found = inference.predict_in_batches(
        lambda one, other: (one - other, one), np.arange(5), tf.range(5, dtype=tf.int64), size=2
    )
    np.testing.assert_array_equal(found[0], np.zeros(5))
    np.testing.assert_array_equal(found[1], np.arange(5))
