"""Confident learning, by hand on a few examples, and on labels that were changed on purpose."""

import numpy as np
import pytest

from cnn_keras.metrics import label_errors

LABELS = np.array([0, 0, 0, 1, 1])
SHARES = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.5, 0.5]])


def test_a_class_is_confident_from_its_mean_probability_on():
    means = [(0.9 + 0.6 + 0.1) / 3, (0.7 + 0.5) / 2]
    assert label_errors.thresholds(LABELS, SHARES) == pytest.approx(means)  # 0.533 and 0.6
    assert label_errors.confident_classes(LABELS, SHARES).tolist() == [0, 0, 1, 1, -1]
    assert label_errors.confident_joint(LABELS, SHARES).tolist() == [[2, 1], [0, 1]]


def test_of_several_confident_classes_the_likeliest_counts():
    labels = np.array([0, 1, 2])
    shares = np.array([[0.3, 0.4, 0.3], [0.4, 0.2, 0.4], [0.3, 0.4, 0.3]])  # the thresholds are 0.3, 0.2 and 0.3
    assert label_errors.confident_classes(labels, shares).tolist() == [1, 0, 1]


def test_a_class_without_examples_is_never_confident():
    labels, shares = np.array([0, 0]), np.array([[0.1, 0.9], [0.4, 0.6]])
    assert label_errors.confident_classes(labels, shares).tolist() == [-1, 0]


def test_the_margin_is_that_of_the_label_and_the_likeliest_other_class():
    labels, shares = np.array([0, 0, 2]), np.array([[1.0, 0, 0], [0.0, 1.0, 0], [0.2, 0.5, 0.3]])
    assert label_errors.normalized_margin(labels, shares) == pytest.approx([1, 0, 0.4])
    assert label_errors.self_confidence(labels, shares) == pytest.approx([1, 0, 0.3])


def test_the_most_suspicious_comes_first_and_is_called_wrong():
    errors = label_errors.find(LABELS, SHARES)
    assert errors.order[0] == 2
    assert errors.wrong.tolist() == [False, False, True, False, False]
    assert errors.likeliest.tolist() == [0, 0, 1, 1, 0]


def test_labels_that_were_changed_are_found_among_noisy_probabilities():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 5, 2000)
    logits = generator.normal(size=(2000, 5)) + 4 * np.eye(5)[truth]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    changed = generator.random(2000) < 0.05
    labels = np.where(changed, (truth + generator.integers(1, 5, 2000)) % 5, truth)
    errors = label_errors.find(labels, shares)
    assert changed[errors.order[:200]].sum() >= 0.95 * changed.sum()
    assert changed[errors.wrong].mean() > 0.8
