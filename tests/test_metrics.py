"""Numbers worked by hand, and the laws that hold for any probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras.metrics import (
    confident_mistakes,
    expected_calibration_error,
    reliability_bins,
    top_accuracy,
)

# Confidences 0.9, 0.8, 0.6, 0.5; the first and the third are right.
FOUR = np.array([[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6], [0.5, 0.3, 0.2]])
TRUTH = np.array([0, 0, 2, 1])


@st.composite
def answers(draw):
    """Random probabilities [N, C] and labels [N]."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    examples, classes = draw(st.integers(1, 40)), draw(st.integers(1, 8))
    sharpness = draw(st.sampled_from([0.05, 1.0, 50.0]))
    return random.dirichlet(np.full(classes, sharpness), examples), random.integers(0, classes, examples)


def test_top_accuracy_counts_labels_among_the_k_most_probable():
    # In the second row two classes share 0.1 and the first of them, the truth, comes second.
    assert [top_accuracy(FOUR, TRUTH, k) for k in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert top_accuracy(FOUR, np.array([2, 2, 1, 2]), 2) == 0.0


def test_a_network_that_says_nothing_is_not_always_right():
    assert top_accuracy(np.full((4, 4), 0.25), np.arange(4)) == 0.25


def test_calibration_error_of_four_examples_by_hand():
    # Two bins: (0, 0.5] holds 0.5, wrong; (0.5, 1] holds 0.9, 0.8, 0.6 of mean 2.3/3 with 2 of 3 right.
    bins = reliability_bins(FOUR, TRUTH, bins=2)
    np.testing.assert_allclose(bins.confidence, [0.5, 2.3 / 3])
    np.testing.assert_allclose(bins.accuracy, [0.0, 2 / 3])
    np.testing.assert_array_equal(bins.count, [1, 3])
    assert expected_calibration_error(FOUR, TRUTH, bins=2) == pytest.approx(0.5 / 4 + 0.3 / 4)


def test_bins_are_closed_above_and_empty_ones_are_nan():
    bins = reliability_bins(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), bins=4)
    np.testing.assert_array_equal(bins.count, [0, 1, 0, 1])
    np.testing.assert_array_equal(bins.accuracy, [np.nan, 1, np.nan, 1])


def test_certainty_is_calibrated_when_right_and_worst_when_wrong():
    certain = np.eye(3)
    assert expected_calibration_error(certain, np.array([0, 1, 2])) == 0
    assert expected_calibration_error(certain, np.array([1, 2, 0])) == 1


def test_answers_right_as_often_as_they_are_sure_are_calibrated():
    probabilities = np.tile([0.75, 0.25], (8, 1))
    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1] * 2)) == pytest.approx(0)


def test_the_most_confident_mistakes_come_first():
    np.testing.assert_array_equal(confident_mistakes(FOUR, TRUTH, 10), [1, 3])
    np.testing.assert_array_equal(confident_mistakes(FOUR, TRUTH, 1), [1])
    assert len(confident_mistakes(np.eye(2), np.array([0, 1]), 5)) == 0


@given(answers())
@settings(deadline=None)
def test_top_1_is_the_share_of_right_answers_and_top_c_is_everything(drawn):
    probabilities, labels = drawn
    accuracies = [top_accuracy(probabilities, labels, k) for k in range(1, probabilities.shape[1] + 1)]
    assert accuracies[0] == np.mean(probabilities.argmax(axis=1) == labels)
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] == 1
    mistakes = confident_mistakes(probabilities, labels, len(labels))
    assert len(mistakes) == round(len(labels) * (1 - accuracies[0]))


@given(answers(), st.integers(1, 20))
@settings(deadline=None)
def test_calibration_error_lies_between_the_overall_gap_and_one(drawn, bins):
    probabilities, labels = drawn
    error = expected_calibration_error(probabilities, labels, bins)
    gap = abs(probabilities.max(axis=1).mean() - top_accuracy(probabilities, labels))
    assert gap - 1e-9 <= error <= 1 + 1e-9
    assert reliability_bins(probabilities, labels, bins).count.sum() == len(labels)
    if bins == 1:
        assert error == pytest.approx(gap)


@given(answers())
@settings(deadline=None)
def test_the_order_of_the_examples_does_not_matter(drawn):
    probabilities, labels = drawn
    assert expected_calibration_error(probabilities[::-1], labels[::-1]) == pytest.approx(
        expected_calibration_error(probabilities, labels)
    )


@pytest.mark.parametrize(
    ("probabilities", "labels", "complaint"),
    [
        (FOUR[0], TRUTH, "shape"),
        (np.zeros((0, 3)), np.zeros(0, int), "shape"),
        (FOUR * 10, TRUTH, "softmax"),
        (FOUR * np.nan, TRUTH, "softmax"),
        (FOUR, TRUTH[:3], "one for each of 4"),
        (FOUR, TRUTH.astype(float), "float64"),
        (FOUR, TRUTH + 1, "got 1 to 3"),
        (FOUR, TRUTH - 1, "got -1 to 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(probabilities, labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        expected_calibration_error(probabilities, labels)


def test_no_class_and_no_bin_are_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        top_accuracy(FOUR, TRUTH, 0)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability_bins(FOUR, TRUTH, 0)
