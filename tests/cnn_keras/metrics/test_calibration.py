"""The temperature against an optimiser of all logits and against one that is known; rejection against its promise."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from cnn_keras.metrics import calibration


def answers(seed=0, count=4000, classes=5, temperature=1.0, scale=2.0):
    """Probabilities that keep what they promise at this temperature, and labels drawn by them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=scale, size=(count, classes))
    kept = special.softmax(logits, axis=1)
    labels = (generator.random(count)[:, None] > kept.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return special.softmax(logits * temperature, axis=1), labels


@pytest.mark.parametrize("known", [0.4, 1.0, 2.5])
def test_the_temperature_that_sharpened_the_answers_is_found(known):
    probabilities, labels = answers(temperature=known)
    assert calibration.temperature(probabilities, labels) == pytest.approx(known, rel=0.07)


def test_of_two_classes_the_temperature_is_that_of_a_logistic_regression_without_intercept():
    probabilities, labels = answers(1, classes=2, temperature=3.0)
    margin = np.log(probabilities[:, 1] / probabilities[:, 0])[:, None]
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-9).fit(margin, labels).coef_[0, 0]
    assert calibration.temperature(probabilities, labels) == pytest.approx(1 / slope, rel=1e-3)


def test_scaled_answers_lose_less_and_keep_their_order():
    probabilities, labels = answers(2, temperature=4.0)
    better = calibration.scaled(probabilities, calibration.temperature(probabilities, labels))
    np.testing.assert_allclose(better.sum(axis=1), 1)
    np.testing.assert_array_equal(better.argsort(axis=1), probabilities.argsort(axis=1))
    assert log_loss(labels, better) < log_loss(labels, probabilities)
    np.testing.assert_allclose(calibration.scaled(probabilities, 1.0), probabilities, atol=1e-12)


def test_calibrated_answers_are_left_alone_in_most_draws():
    found = [calibration.temperature(*answers(seed, count=500)) for seed in range(100)]
    assert np.mean(np.array(found) == 1) >= 0.85


def test_where_nothing_is_wrong_nothing_is_fitted():
    assert calibration.temperature(np.eye(3), np.arange(3)) == 1
    assert calibration.temperature(np.eye(3), np.array([1, 2, 0])) == 1


def test_a_stated_error_is_kept_on_other_examples_in_nineteen_of_twenty_draws():
    kept = []
    for seed in range(200):
        probabilities, labels = answers(seed, count=3000, scale=4.0)
        confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        found = calibration.rejection(confidences[:2000], right[:2000], 0.1)
        assert found
        assert found.bound <= 0.1
        # The true error of what is accepted is known here: confidence is the probability of being right.
        accepted = confidences[confidences >= found.threshold]
        kept.append(1 - accepted.mean() <= 0.1)
    assert np.mean(kept) >= 0.95


def test_the_bound_is_that_of_a_binomial_test_and_equal_confidences_go_together():
    confidences, right = np.repeat([0.9, 0.6], [300, 700]), np.repeat([True, False], [300, 700])
    found = calibration.rejection(confidences, right, 0.1)
    assert found
    assert found.threshold == 0.9
    risk = 0.05 / calibration.LEVELS
    assert found.bound == pytest.approx(stats.binomtest(0, 300).proportion_ci(1 - 2 * risk, method="exact").high)


def test_what_too_few_examples_cannot_show_is_not_claimed():
    assert calibration.rejection(np.linspace(0.5, 1, 20), np.ones(20, bool), 0.01) is None
