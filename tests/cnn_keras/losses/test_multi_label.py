"""A yes or no for each class: the loss against Keras's and by hand, the metric of the epochs against the exact one."""

import keras
import numpy as np
import pytest

from cnn_keras.losses.multi_label import BinaryCrossentropy, MeanAveragePrecision
from cnn_keras.metrics import multi_label


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 4)) < 0.4).astype(np.float32)
    return labels, (labels + generator.normal(0, 1, labels.shape)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_keras_own_where_both_say_the_same(batch, smoothing):
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)(*batch)
    assert float(BinaryCrossentropy(label_smoothing=smoothing)(*batch)) == pytest.approx(float(expected), rel=1e-5)


def test_the_focal_loss_is_keras_own(batch):
    expected = keras.losses.BinaryFocalCrossentropy(gamma=2.0, from_logits=True)(*batch)
    assert float(BinaryCrossentropy(focal_gamma=2.0)(*batch)) == pytest.approx(float(expected), rel=1e-4)


def test_a_positive_weight_counts_what_is_there_so_often_and_shares_in_proportion(batch):
    labels, logits = batch
    labels = labels * 0.5  # as of mixed examples
    weights = np.array([1, 2, 5, 1], np.float32)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    terms = -weights * labels * np.log(probabilities) - (1 - labels) * np.log(1 - probabilities)
    found = BinaryCrossentropy(positive_weights=weights)(labels, logits)
    assert float(found) == pytest.approx(terms.mean(), rel=1e-5)


def test_the_metric_of_the_epochs_is_near_the_exact_mean_average_precision(batch):
    labels, logits = batch
    metric = MeanAveragePrecision(4)
    for start in range(0, 200, 50):
        metric.update_state(labels[start : start + 50], logits[start : start + 50])
    exact = multi_label.average_precisions(1 / (1 + np.exp(-logits)), labels > 0.5).mean()
    assert float(metric.result()) == pytest.approx(exact, abs=0.02)
