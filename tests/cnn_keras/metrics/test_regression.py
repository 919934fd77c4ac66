"""Errors against scikit-learn's, intervals against what they promise."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from cnn_keras.metrics import regression


def test_errors_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    truth = generator.normal(3, 2, 200)
    answers = truth + generator.normal(0, 0.5, 200)
    assert regression.mean_absolute_error(truth, answers) == pytest.approx(oracle.mean_absolute_error(truth, answers))
    squared = oracle.mean_squared_error(truth, answers)
    assert regression.root_mean_squared_error(truth, answers) == pytest.approx(np.sqrt(squared))
    assert regression.r_squared(truth, answers) == pytest.approx(oracle.r2_score(truth, answers))
    assert np.isnan(regression.r_squared(np.ones(3), np.zeros(3)))


def test_the_interval_of_a_mean_is_as_wide_as_that_of_the_central_limit():
    generator = np.random.default_rng(1)
    errors = generator.exponential(1, 2000)
    low, high = regression.bootstrap_interval(regression.mean_absolute_error, np.zeros(2000), errors)
    assert low < errors.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * errors.std() / np.sqrt(2000), rel=0.1)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_margins_hold_their_share_of_new_scores_on_average(share):
    generator = np.random.default_rng(2)
    held = []
    for _ in range(400):
        calibration, new = generator.gamma(2, size=(40, 1)), generator.gamma(2, size=200)
        held.append((new <= regression.conformal_margins(calibration, share)[0]).mean())
    least, most = share, share + 1 / 41  # of the theorem
    error = 3 * np.std(held) / np.sqrt(len(held))
    assert least - error <= np.mean(held) <= most + error


def test_margins_are_of_each_column_and_need_enough_examples():
    scores = np.stack([np.arange(9), 10.0 * np.arange(9)], axis=1)
    np.testing.assert_array_equal(regression.conformal_margins(scores, 0.9), [8, 80])
    with pytest.raises(ValueError, match="at least 9"):
        regression.conformal_margins(scores[:8], 0.9)
