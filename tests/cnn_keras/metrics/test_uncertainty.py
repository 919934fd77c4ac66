"""Measures of uncertainty at their ends and at a value by hand."""

import numpy as np
import pytest

from cnn_keras.metrics import uncertainty

SHARES = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.7, 0.1, 0.2]])


def test_the_margin_is_that_of_the_two_likeliest():
    assert uncertainty.margin(SHARES) == pytest.approx([0, 1, 0.5])


def test_the_entropy_is_a_share_of_the_largest():
    bits = -(0.7 * np.log2(0.7) + 0.1 * np.log2(0.1) + 0.2 * np.log2(0.2))
    assert uncertainty.entropy(SHARES) == pytest.approx([0, 1, bits / np.log2(3)])


def test_yes_or_no_are_two_classes():
    assert uncertainty.margin(uncertainty.binary(np.array([0.5, 0.9, 0.1]))) == pytest.approx([1, 0.2, 0.2])
