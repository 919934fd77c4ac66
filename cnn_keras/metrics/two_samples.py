"""Whether two independent samples differ."""

import math
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency

Interval = tuple[float, float]


def difference_interval(
    first: float, first_interval: Interval, second: float, second_interval: Interval
) -> tuple[float, float]:
    """The interval of first − second, of the confidence that both have, for figures of independent samples.

    Of two shares with Wilson's intervals it is the hybrid score interval: Newcombe, *Interval estimation for the
    difference between independent proportions* (Statistics in Medicine, 1998), method 10. Of any other figures it is
    the method of variance estimates recovery: Zou and Donner, *Construction of confidence limits about effect
    measures* (Statistics in Medicine, 2008), equation 3. Both only need the intervals of the figures, which need not
    be symmetric. A figure that lies outside its interval, as one of a bootstrap may, counts as its end.
    """
    (low, high), (least, most) = first_interval, second_interval
    below = math.hypot(max(first - low, 0.0), max(most - second, 0.0))
    above = math.hypot(max(high - first, 0.0), max(second - least, 0.0))
    return first - second - below, first - second + above


def mmd_test(first: Any, second: Any, *, permutations: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The maximum mean discrepancy of two samples of vectors, and the p-value that both are of one distribution.

    Gretton et al., *A kernel two-sample test* (JMLR, 2012), with a Gaussian kernel as wide as the median distance
    within the pooled sample. The statistic is the biased estimate of the squared discrepancy, in [0, 2]. The p-value is
    that of a permutation test: what is drawn under one distribution has a p of at most α in a share of at most α.

    Args:
        first, second: real (N, d) and (M, d).
        permutations: of the pooled sample; no p-value is below 1 / (permutations + 1).
        seed: of the permutations.

    Raises:
        ValueError: the samples are empty or have vectors of different length.
    """
    first, second = (np.asarray(sample, np.float64) for sample in (first, second))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        raise ValueError(f"samples must be (N, d) and (M, d), got {list(first.shape)} and {list(second.shape)}")
    pooled = np.concatenate([first, second])
    distances = cdist(pooled, pooled, "sqeuclidean")
    width = float(np.median(distances[np.triu_indices(len(pooled), 1)])) or 1.0
    kernel = np.exp(-distances / width)
    weights = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    generator = np.random.default_rng(seed)
    drawn = np.stack([weights, *(generator.permutation(weights) for _ in range(permutations))])
    statistics = np.einsum("ij,ij->i", drawn @ kernel, drawn)
    as_large = int((statistics[1:] >= statistics[0] * (1 - 1e-9)).sum())
    return float(statistics[0]), (1 + as_large) / (1 + permutations)


def counts_test(first: Any, second: Any, *, expected: float = 5.0) -> tuple[float, float]:
    """The largest difference of the shares of two samples' classes, and the p-value that both have the same shares.

    Pearson's chi-squared test of homogeneity; classes of which fewer than `expected` are expected in either sample are
    one class.

    Args:
        first, second: how many examples of each class there are, int (classes,).

    Raises:
        ValueError: a sample is empty, or they have different classes.
    """
    table = np.stack([np.asarray(first, np.int64), np.asarray(second, np.int64)])
    totals = table.sum(axis=1)
    if (totals <= 0).any():
        raise ValueError(f"samples must have an example each, got counts of {totals.tolist()}")
    difference = float(np.abs(table[0] / totals[0] - table[1] / totals[1]).max())
    rare = table.sum(axis=0) * totals.min() / totals.sum() < expected
    merged = np.concatenate([table[:, ~rare], table[:, rare].sum(axis=1, keepdims=True)], axis=1)
    merged = merged[:, merged.sum(axis=0) > 0]
    if merged.shape[1] < 2:
        return difference, 1.0
    return difference, float(chi2_contingency(merged, correction=False).pvalue)
