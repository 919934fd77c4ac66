"""Any number of labels: F1 and average precision against scikit-learn, thresholds against every threshold there is."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from cnn_keras.metrics import multi_label


def answers(seed, examples=60, classes=5):
    generator = np.random.default_rng(seed)
    truth = generator.random((examples, classes)) < 0.3
    truth[0], truth[1] = True, False
    return (0.3 * truth + 0.7 * generator.random(truth.shape)).round(2), truth  # with ties


@pytest.mark.parametrize("seed", range(3))
def test_f1_and_average_precision_are_scikit_learns(seed):
    probabilities, truth = answers(seed)
    found = multi_label.f1(probabilities >= 0.5, truth)
    assert found.micro == pytest.approx(f1_score(truth, probabilities >= 0.5, average="micro"))
    assert found.macro == pytest.approx(f1_score(truth, probabilities >= 0.5, average="macro"))
    expected = average_precision_score(truth, probabilities, average="macro")
    assert multi_label.average_precisions(probabilities, truth).mean() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_weights_count_examples_as_often_as_if_they_were_there(seed):
    probabilities, truth = answers(seed)
    counts = np.random.default_rng(seed).integers(0, 3, len(truth))
    repeated = np.repeat(probabilities, counts, axis=0), np.repeat(truth, counts, axis=0)
    weighted = multi_label._mean_average_precisions(probabilities, truth, counts[None].astype(float))
    assert weighted[0] == pytest.approx(np.nanmean(multi_label.average_precisions(*repeated)))
    assert multi_label.f1(probabilities >= 0.5, truth, counts).macro == pytest.approx(
        multi_label.f1(repeated[0] >= 0.5, repeated[1]).macro
    )


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_has_a_larger_f1_than_the_one_chosen(seed):
    probabilities, truth = answers(seed)
    thresholds = multi_label.best_thresholds(probabilities, truth)
    for number, threshold in enumerate(thresholds):
        column, scores = truth[:, number], probabilities[:, number]
        levels = np.append(np.unique(scores), threshold)
        reached = scores >= levels[:, None]
        f1 = 2 * (reached & column).sum(axis=1) / (reached.sum(axis=1) + column.sum())
        assert f1[-1] == pytest.approx(f1.max())


def test_a_label_that_no_example_has_keeps_one_half_and_has_no_average_precision():
    probabilities, truth = answers(0)
    truth[:, 2] = False
    assert multi_label.best_thresholds(probabilities, truth)[2] == 0.5
    assert np.isnan(multi_label.average_precisions(probabilities, truth)[2])


def test_intervals_hold_the_figures_and_narrow_with_more_examples():
    widths = []
    for examples in (60, 2000):
        probabilities, truth = answers(3, examples)
        thresholds = multi_label.best_thresholds(probabilities, truth)
        intervals = multi_label.intervals(probabilities, truth, thresholds)
        low, high = intervals["mean_average_precision"]
        assert low < multi_label.average_precisions(probabilities, truth).mean() < high + 0.02
        chosen, halves = (multi_label.f1(probabilities >= least, truth).micro for least in (thresholds, 0.5))
        assert intervals["micro_f1_gain"][0] <= chosen - halves <= intervals["micro_f1_gain"][1]
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_the_gain_of_average_precision_is_measured_on_the_same_draws():
    generator = np.random.default_rng(0)
    truth = generator.random((200, 3)) < 0.3
    first = generator.random((200, 3))
    better = np.where(truth, 0.5 + first / 2, first)
    found = multi_label.average_precision_gain(first, better, truth)
    means = [np.nanmean(multi_label.average_precisions(values, truth)) for values in (first, better)]
    assert found["gain"] == pytest.approx(means[1] - means[0])
    low, high = found["gain_interval"]
    assert 0 < low < found["gain"] < high
    assert multi_label.average_precision_gain(first, first, truth)["gain_interval"] == [0, 0]
    apart = [
        np.diff(values["mean_average_precision"])[0]
        for values in (multi_label.intervals(first, truth, np.full(3, 0.5)),)
    ]
    nearly = first + 0.01 * generator.random((200, 3))
    assert np.diff(multi_label.average_precision_gain(first, nearly, truth)["gain_interval"])[0] < apart[0] / 2
