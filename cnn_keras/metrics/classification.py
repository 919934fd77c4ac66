"""What a classifier's probabilities are worth: top-k accuracy, calibration, its most confident mistakes, and how well
they rank.

Calibration follows Guo et al., *On Calibration of Modern Neural Networks* (ICML 2017), equations 1-3.

Every function takes `probabilities`, real [N, C] in [0, 1], a row per example, and `labels`, integer [N] in
[0, C). The answer of a row is its largest probability, the first of equals, as `numpy.argmax` has it; so all
numbers here agree with each other and with a list of predictions. Malformed arrays raise ValueError.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

CHUNK = 20  # resamples that are in memory at once


class Reliability(NamedTuple):
    """One entry per bin of confidence, from low to high; NaN where a bin holds no example."""

    confidence: np.ndarray  # float64 [bins] in [0, 1]: mean largest probability
    accuracy: np.ndarray  # float64 [bins] in [0, 1]: share of right answers
    count: np.ndarray  # type: ignore[assignment]  # int64 [bins]: examples; instead of the method of tuples


class Ranking(NamedTuple):
    """What each distinct probability of the second of two classes, from high to low, would do as a threshold."""

    false_positives: np.ndarray  # float64 [T] in [0, 1]: share of the first class at or above it, rising to 1
    recall: np.ndarray  # float64 [T] in [0, 1]: share of the second class, rising to 1
    precision: np.ndarray  # float64 [T] in [0, 1]: share of the second class among all that is at or above it
    counts: tuple[int, int]  # examples of the two classes

    @property
    def area(self) -> float:
        """Of the ROC: how often an example of the second class stands before one of the first; ties count one half."""
        x, y = (np.concatenate([[0.0], rate]) for rate in (self.false_positives, self.recall))
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))

    @property
    def average_precision(self) -> float:
        """Of the second class: the mean over its examples of the precision at their probability."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))


def top_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int = 1) -> float:
    """Return the share of examples, in [0, 1], whose label is among the `k` most probable classes.

    Raises:
        ValueError: `k` is below 1.
    """
    probabilities, labels = _checked(probabilities, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, None], axis=1)))


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Group the examples by confidence into `bins` intervals ((m-1)/bins, m/bins]; return `Reliability`.

    Raises:
        ValueError: `bins` is below 1.
    """
    probabilities, labels = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bin_of = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    count = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):  # an empty bin is 0/0, which is the NaN we promise
        return Reliability(
            np.bincount(bin_of, weights=confidence, minlength=bins) / count,
            np.bincount(bin_of, weights=right, minlength=bins) / count,
            count,
        )


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the mean distance, in [0, 1], of confidence and accuracy over the bins, weighted by count."""
    confidence, accuracy, count = reliability_bins(probabilities, labels, bins)
    return float(np.nansum(count * np.abs(accuracy - confidence)) / count.sum())


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """Return the row numbers, int64 [at most `limit`], of wrong answers, the most confident first."""
    probabilities, labels = _checked(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]


def ranking(probabilities: np.ndarray, labels: np.ndarray) -> Ranking:
    """Return the `Ranking` of examples of two classes, probabilities [N, 2]; both must be among the labels.

    Raises:
        ValueError: one of the classes is not among the labels, or there are others.
    """
    probabilities, labels = _checked(probabilities, labels)
    counts = tuple(np.bincount(labels, minlength=2).tolist())
    if len(counts) != 2 or 0 in counts:
        raise ValueError(f"labels must be of two classes, both of them there, got counts of {list(counts)}")
    order = np.argsort(-probabilities[:, 1], kind="stable")
    last = np.flatnonzero(np.diff(probabilities[order, 1], append=-1.0))  # of those with one probability
    positives, counts_ranked = np.cumsum(labels[order])[last], last + 1
    return Ranking((counts_ranked - positives) / counts[0], positives / counts[1], positives / counts_ranked, counts)


def one_vs_rest(probabilities: np.ndarray, labels: np.ndarray) -> dict[int, Ranking]:
    """Return the `Ranking` of each class against all others together, by its number; of those among the labels.

    Empty where all labels are of one class.
    """
    probabilities, labels = _checked(probabilities, labels)
    there = np.unique(labels)
    if len(there) < 2:
        return {}
    return {
        int(number): ranking(np.stack([1 - column, column], axis=1), (labels == number).astype(int))
        for number, column in ((number, np.minimum(probabilities[:, number], 1)) for number in there)
    }


def macro_area_interval(
    probabilities: np.ndarray, labels: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval, bootstrapped over examples, of the mean area under the ROC of `one_vs_rest`."""
    probabilities, labels = _checked(probabilities, labels)
    generator, count, samples = np.random.default_rng(seed), len(labels), []
    for _ in range(-(-resamples // CHUNK)):
        weights = generator.multinomial(count, np.full(count, 1 / count), CHUNK)
        areas = [_areas(probabilities[:, number], labels == number, weights) for number in np.unique(labels)]
        known = np.isfinite(areas)
        samples.append(np.where(known, areas, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    low, high = np.percentile(np.concatenate(samples)[:resamples], (2.5, 97.5))
    return float(low), float(high)


def _areas(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Areas under the ROC where examples count so often: float64 (draws,), of weights (draws, N).

    NaN where an example of one of the two kinds is missing.
    """
    order = np.argsort(scores)
    firsts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of those with one score
    drawn = weights[:, order].astype(np.float64)
    above, below = (np.add.reduceat(drawn * kind[order], firsts, axis=1) for kind in (positive, ~positive))
    pairs = above.sum(axis=1) * below.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return ((np.cumsum(below, axis=1) - below / 2) * above).sum(axis=1) / np.where(pairs > 0, pairs, np.nan)


def area_interval(area: float, counts: tuple[int, int], z: float = 1.96) -> tuple[float, float]:
    """Return the interval of an area under the ROC, 95 % unless `z` says otherwise, that stays inside [0, 1].

    Newcombe, *Confidence intervals for an effect size measure based on the Mann-Whitney statistic*, part 2 (Statistics
    in Medicine, 2006), method 5: the areas whose standard error, by Hanley and McNeil (1982), reaches to the one that
    was found. `counts` are the examples of the two classes.
    """
    first, second = counts

    def apart(theta: float) -> float:
        spread = 1 + ((first + second) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (area - theta) ** 2 - z**2 * theta * (1 - theta) * spread / (first * second)

    return _crossing(apart, area, 0.0), _crossing(apart, area, 1.0)


def proportion_interval(share: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count`, which need not be a whole number of them.

    For an average precision `count` is that of the second class (Boyd et al., *Area under the precision-recall curve*,
    ECML 2013, section 3.2, whose binomial interval this is in Wilson's form).
    """
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _crossing(function: Callable[[float], float], inside: float, outside: float) -> float:
    """Where a function that is at most 0 at `inside` and at least 0 at `outside` becomes 0, by halving."""
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if function(middle) <= 0 else (inside, middle)
    return float(outside)


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(f"probabilities must have shape [N, C] with N, C > 0, got {list(probabilities.shape)}")
    if not np.all((probabilities >= 0) & (probabilities <= 1 + 1e-3)):  # half precision adds up to a little over 1
        raise ValueError("probabilities must lie in [0, 1], got others: pass softmax outputs, not logits")
    if labels.shape != probabilities.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers, one for each of {len(probabilities)} rows of probabilities, "
            f"got {labels.dtype} of shape {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(f"labels must lie in [0, {probabilities.shape[1]}), got {labels.min()} to {labels.max()}")
    return probabilities, labels


def wilson_interval(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval in [0, 1] that holds the true accuracy with `confidence`, after `right` of `of`.

    Wilson's score interval (1927) stays inside [0, 1] and keeps its promise near 100 %, where the usual
    plus-minus 1.96 standard errors does not.
    """
    low, high = binomtest(right, of).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def paired_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of what the second of two shares of the same examples has more than the first.

    Newcombe, *Improved confidence intervals for the difference between binomial proportions based on paired data*
    (Statistics in Medicine, 1998), method 10: Wilson's intervals of both shares, and their correlation.

    Args:
        both, only_first, only_second, neither: how many examples have it in both, in one alone, in neither.
    """
    of = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    (low, high), (least, most) = (wilson_interval(count, of, confidence) for count in (first, second))
    product = first * second * (of - first) * (of - second)
    excess = both * neither - only_first * only_second
    shared = (max(excess - of / 2, 0) if excess > 0 else excess) / math.sqrt(product) if product else 0.0
    difference = (second - first) / of

    def spread(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * shared * one * other + other**2, 0.0))

    below = spread(second / of - least, high - first / of)
    above = spread(most - second / of, first / of - low)
    return difference - below, difference + above
