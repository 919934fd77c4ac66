"""Losses of pixels: by hand, against Keras and scikit-learn; U-Net's weight map against a plain reading of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from cnn_keras.losses import segmentation

CLASSES = 3


@pytest.fixture(scope="module")
def batch():
    drawn = np.random.default_rng(0)
    labels = drawn.integers(-1, CLASSES, (2, 5, 7))
    return labels, drawn.normal(size=(2, 5, 7, CLASSES)).astype("float32")


def known(labels, logits):
    """Labels (N,) and probabilities (N, classes) of the pixels that count."""
    return labels[labels >= 0], tf.nn.softmax(logits.astype(float)).numpy()[labels >= 0]


def test_cross_entropy_is_the_weighted_mean_over_the_known_pixels(batch):
    labels, logits = batch
    truth, said = known(labels, logits)
    weights = np.array([0.5, 2.0, 1.0], np.float32)
    pixels = np.random.default_rng(1).uniform(1, 10, labels.shape).astype("float32")
    found = segmentation.cross_entropy(labels, logits, class_weights=weights, pixel_weights=pixels)
    counted = weights[truth] * pixels[labels >= 0]
    assert float(found) == pytest.approx(log_loss(truth, said, sample_weight=counted, labels=range(3)), rel=1e-5)
    assert float(segmentation.cross_entropy(labels, logits)) == pytest.approx(log_loss(truth, said), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_focal_loss_is_keras_s(batch, gamma):
    labels, logits = batch
    truth, said = known(labels, logits)
    loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=gamma)
    expected = loss(np.eye(CLASSES)[truth], said)
    assert float(segmentation.focal(labels, logits, gamma=gamma)) == pytest.approx(float(expected), rel=1e-5)


def test_dice_by_hand():
    labels = tf.constant([[0, 0, 1, -1]])
    logits = tf.math.log(tf.constant([[[0.8, 0.2], [0.6, 0.4], [0.5, 0.5], [0.1, 0.9]]]))
    first, second = 2 * (0.8 + 0.6) / (1.9 + 2), 2 * 0.5 / (1.1 + 1)
    assert float(segmentation.dice(labels, logits)) == pytest.approx(1 - (first + second) / 2)


def test_dice_leaves_out_a_class_that_is_nowhere():
    labels, logits = tf.constant([[0, 0]]), tf.math.log(tf.constant([[[0.7, 0.3], [0.9, 0.1]]]))
    assert float(segmentation.dice(labels, logits)) == pytest.approx(1 - 2 * 1.6 / (1.6 + 2))


@pytest.mark.parametrize("loss", [segmentation.cross_entropy, segmentation.dice, segmentation.focal])
def test_what_nobody_knows_has_no_gradient_and_nothing_known_no_loss(batch, loss):
    labels, logits = batch
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(labels, variable)
    slopes = tape.gradient(value, variable).numpy()
    assert not slopes[labels < 0].any()
    assert np.abs(slopes[labels >= 0]).max() > 0
    assert float(loss(np.full_like(labels, -1), logits)) == 0


def test_a_perfect_answer_costs_nothing():
    labels = np.arange(12).reshape(1, 3, 4) % CLASSES
    logits = 50 * tf.one_hot(labels, CLASSES)
    for loss in (segmentation.cross_entropy, segmentation.dice, segmentation.focal):
        assert float(loss(labels, logits)) == pytest.approx(0, abs=1e-5)


def test_losses_take_volumes():
    labels = np.random.default_rng(0).integers(-1, 2, (2, 3, 4, 5))
    logits = np.random.default_rng(1).normal(size=(2, 3, 4, 5, 2)).astype("float32")
    flat = labels.reshape(2, 12, 5), logits.reshape(2, 12, 5, 2)
    for loss in (segmentation.cross_entropy, segmentation.dice, segmentation.focal):
        assert float(loss(labels, logits)) == pytest.approx(float(loss(*flat)))


def test_balanced_classes_count_the_same():
    counts = np.array([900, 90, 10, 0])
    weights = segmentation.balanced_weights(counts)
    np.testing.assert_allclose((weights * counts)[:3], 1000 / 3, rtol=1e-6)
    assert weights[3] == 0


def test_the_weight_map_is_the_formula_of_unet():
    instances = np.zeros((30, 40), int)
    instances[4:20, 3:14], instances[6:25, 17:30], instances[2:5, 33:38] = 1, 2, 5
    y, x = np.mgrid[:30, :40]
    distances = []
    for number in (1, 2, 5):
        rows, columns = np.nonzero(instances == number)
        distances.append(np.sqrt((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=-1))
    first, second, _ = np.sort(distances, axis=0)
    expected = np.where(instances == 0, np.exp(-((first + second) ** 2) / (2 * 3.0**2)), 0)
    np.testing.assert_allclose(
        segmentation.border_weights(instances, sigma=3.0), expected, atol=1e-5
    )  # the rest is cut off


def test_the_weight_map_needs_two_things():
    alone = np.zeros((20, 20), int)
    alone[5:9, 5:9] = 3
    assert not segmentation.border_weights(alone).any()
    assert not segmentation.border_weights(np.zeros((4, 4), int)).any()
