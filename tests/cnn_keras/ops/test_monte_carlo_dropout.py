"""Dropout at test time: thinned networks by hand, the same for every example, and nothing else as in training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.ops import monte_carlo_dropout

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(5, 6)).astype(np.float32)


def seeded(*parts):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), *parts])


def by_layers(model, values, masks, rate):
    """Row by row: the model's layers with each mask in the place of its dropout."""
    answers = []
    for mask in masks:
        x = tf.constant(values)
        for layer in model.layers:
            x = x * mask / (1 - rate) if isinstance(layer, layers.Dropout) else layer(x)
        answers.append(x.numpy())
    return np.stack(answers, axis=1)


def test_each_sample_is_the_network_with_one_mask():
    model = seeded(layers.Dense(8, activation="relu"), layers.Dropout(0.3), layers.Dense(3))
    found = monte_carlo_dropout.samples(model, VALUES, count=4).numpy()
    masks = np.random.default_rng([0, 0]).random((4, 8)) >= 0.3
    assert 0 < masks.mean() < 1
    np.testing.assert_allclose(found, by_layers(model, VALUES, masks.astype(np.float32), 0.3), atol=1e-6)


def test_the_answer_to_an_example_depends_neither_on_the_others_nor_on_when_it_is_asked():
    model = seeded(layers.Dense(8, activation="relu"), layers.Dropout(0.5), layers.Dense(3))
    together = monte_carlo_dropout.probabilities(model, VALUES, count=6)
    alone = [monte_carlo_dropout.probabilities(model, row[None], count=6)[0] for row in VALUES]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    graph = tf.function(lambda rows: monte_carlo_dropout.probabilities(model, rows, count=6))
    np.testing.assert_allclose(graph(VALUES), together, atol=1e-6)


def test_the_mean_of_many_samples_of_a_linear_network_is_the_network():
    model = seeded(layers.Dropout(0.5), layers.Dense(2))
    mean = monte_carlo_dropout.samples(model, VALUES, count=20_000).numpy().mean(axis=1)
    np.testing.assert_allclose(mean, model(VALUES), atol=0.05)


def test_batch_normalisation_stays_as_in_inference_and_branches_meet_again():
    keras.utils.set_random_seed(0)
    entry = keras.Input((4, 4, 2), dtype="uint8")
    x = layers.BatchNormalization(name="norm")(layers.Rescaling(1 / 255)(entry))
    inner = keras.Sequential([keras.Input((4, 4, 2)), layers.SpatialDropout2D(0.5), layers.Conv2D(2, 1)], name="inner")
    x = layers.Add()([x, inner(x)])
    model = keras.Model(entry, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").moving_mean.assign([0.3, 0.6])
    images = RANDOM.integers(0, 256, (3, 4, 4, 2), dtype=np.uint8)
    before = model.get_layer("norm").moving_mean.numpy()
    found = monte_carlo_dropout.samples(model, images, count=8).numpy()
    normalized = model.get_layer("norm")(images / np.float32(255), training=False)
    masks = np.random.default_rng([0, 0]).random((8, 1, 1, 2)) >= 0.5
    for number, mask in enumerate(masks):
        branch = inner.layers[-1](normalized * mask.astype(np.float32) / 0.5)
        right = model.layers[-1](tf.reduce_mean(normalized + branch, axis=(1, 2)))
        np.testing.assert_allclose(found[:, number], right, atol=1e-5)
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, before)


def test_the_mutual_information_is_that_of_answers_and_samples():
    model = seeded(layers.Dropout(0.5), layers.Dense(3, kernel_initializer="random_normal"))
    model.layers[-1].kernel.assign(3 * RANDOM.normal(size=(6, 3)))
    found = monte_carlo_dropout.sampled(model, VALUES, count=10)
    shares = tf.nn.softmax(monte_carlo_dropout.samples(model, VALUES, count=10)).numpy().astype(np.float64)
    joint = shares / 10  # of a sample, drawn at random, and its answer
    independent = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, shares.mean(axis=1), atol=1e-6)
    right = (joint * np.log(joint / independent)).sum(axis=(1, 2))
    np.testing.assert_allclose(found.mutual_information, right, atol=1e-5)
    np.testing.assert_allclose(found.deviations, shares.std(axis=1), atol=1e-5)
    assert right.min() > 0.01


def test_a_noise_shape_is_kept():
    model = keras.Sequential([keras.Input((5, 2)), layers.Dropout(0.5, noise_shape=(None, 1, 2))])
    found = monte_carlo_dropout.samples(model, np.ones((1, 5, 2), np.float32), count=20).numpy()
    assert (found == found[:, :, :1]).all()
    assert set(np.unique(found)) == {0.0, 2.0}


def test_a_network_without_dropout_is_refused():
    model = seeded(layers.Dense(3))
    for ask in (monte_carlo_dropout.require, lambda own: monte_carlo_dropout.samples(own, VALUES, count=2)):
        with pytest.raises(Fault, match="dropout"):
            ask(model)
