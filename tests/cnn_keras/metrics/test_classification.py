"""Numbers worked by hand, and the laws that hold for any probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cnn_keras.metrics.classification import (
    area_interval,
    confident_mistakes,
    expected_calibration_error,
    macro_area_interval,
    one_vs_rest,
    proportion_interval,
    ranking,
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


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([2, 10, 10_000]))
def test_areas_are_scikit_learns_with_ties_and_without(seed, examples, levels):
    from sklearn.metrics import average_precision_score, roc_auc_score

    random = np.random.default_rng(seed)
    likely = random.integers(0, levels + 1, examples) / levels
    labels = random.permutation(np.arange(examples) % 2)
    found = ranking(np.stack([1 - likely, likely], axis=1), labels)
    assert found.area == pytest.approx(roc_auc_score(labels, likely))
    assert found.average_precision == pytest.approx(average_precision_score(labels, likely))
    assert (found.false_positives[-1], found.recall[-1]) == (1, 1)
    assert found.counts == (np.sum(labels == 0), np.sum(labels == 1))


def test_an_interval_of_an_area_holds_the_true_one_as_often_as_it_says():
    random, held, truth = np.random.default_rng(0), 0, 0.8413447  # Φ(√2 / √2) for normal scores √2 apart
    for _ in range(400):
        scores = np.concatenate([random.normal(0, 1, 25), random.normal(np.sqrt(2), 1, 15)])
        likely = 1 / (1 + np.exp(-scores))
        found = ranking(np.stack([1 - likely, likely], axis=1), np.repeat([0, 1], [25, 15]))
        low, high = area_interval(found.area, found.counts)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.99


def test_intervals_of_perfect_and_hopeless_ranking_are_not_points():
    low, high = area_interval(1.0, (10, 10))
    assert 0.6 < low < 0.95
    assert high == 1
    assert area_interval(0.0, (10, 10)) == pytest.approx((0, 1 - low))
    assert area_interval(0.5, (10**6, 10**6)) == pytest.approx((0.5, 0.5), abs=1e-2)


def test_a_proportions_interval_is_wilsons():
    from scipy.stats import binomtest

    exact = binomtest(17, 20).proportion_ci(0.95, method="wilson")
    assert proportion_interval(17 / 20, 20) == pytest.approx((exact.low, exact.high), abs=1e-4)
    assert proportion_interval(1.0, 20)[1] == 1


def test_a_ranking_needs_two_classes_that_are_there():
    with pytest.raises(ValueError, match=r"got counts of \[4, 0\]"):
        ranking(np.full((4, 2), 0.5), np.zeros(4, int))
    with pytest.raises(ValueError, match="must be of two classes"):
        ranking(FOUR, TRUTH)


def test_each_class_against_the_rest_has_scikit_learns_area():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 80)
    probabilities = np.round(random.dirichlet(np.ones(4), 80), 1)  # with ties, and a class that is never true
    found = one_vs_rest(probabilities, labels)
    assert list(found) == [0, 1, 2]
    for number, ranking_ in found.items():
        assert ranking_.area == pytest.approx(roc_auc_score(labels == number, probabilities[:, number]))
    assert one_vs_rest(probabilities, np.zeros(80, int)) == {}


def test_the_macro_interval_is_that_of_a_plain_bootstrap():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    probabilities = 0.6 * random.dirichlet(np.ones(3), 60) + 0.4 * np.eye(3)[random.integers(0, 3, 60)]
    probabilities = (probabilities + np.eye(3)[labels]) / 2
    found = macro_area_interval(probabilities, labels)
    samples = []
    for _ in range(600):
        rows = random.integers(0, 60, 60)
        samples.append(roc_auc_score(labels[rows], probabilities[rows], multi_class="ovr"))
    np.testing.assert_allclose(found, np.percentile(samples, (2.5, 97.5)), atol=0.01)
    assert found == macro_area_interval(probabilities, labels)
