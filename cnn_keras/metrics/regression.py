"""Numbers that are predicted: errors with intervals, and intervals of predictions that hold what they promise."""

from collections.abc import Callable

import numpy as np

DRAWN = 1000  # samples of a bootstrap


def mean_absolute_error(truth: np.ndarray, answers: np.ndarray) -> float:
    """Of numbers (N,): at least 0, in their unit."""
    return float(np.abs(answers - truth).mean())


def root_mean_squared_error(truth: np.ndarray, answers: np.ndarray) -> float:
    """Of numbers (N,): at least 0, in their unit."""
    return float(np.sqrt(((answers - truth) ** 2).mean()))


def r_squared(truth: np.ndarray, answers: np.ndarray) -> float:
    """The share of the variance of numbers (N,) that is explained: 1 at best, 0 for their mean; NaN of one value."""
    total = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((answers - truth) ** 2).sum() / total) if total > 0 else float("nan")


def bootstrap_interval(
    measure: Callable[[np.ndarray, np.ndarray], float],
    truth: np.ndarray,
    answers: np.ndarray,
    confidence: float = 0.95,
) -> list[float]:
    """The interval of a measure of numbers (N,) by a bootstrap over examples, of a fixed seed: [low, high]."""
    generator, size = np.random.default_rng(0), len(truth)
    rows = (generator.integers(0, size, size) for _ in range(DRAWN))
    figures = [measure(truth[drawn], answers[drawn]) for drawn in rows]
    outer = (1 - confidence) / 2
    return [float(value) for value in np.nanquantile(figures, [outer, 1 - outer])]


def conformal_margins(scores: np.ndarray, share: float) -> np.ndarray:
    """How large a score at most is with probability `share`, of each column: float64 (K,) of scores (N, K).

    Split conformal prediction: the ⌈(N + 1) · share⌉-th smallest score of examples that were not trained on. If those
    and a new example can be exchanged, its score is no larger with a probability of at least `share`, whatever the
    network is. Scores |truth − answer| give intervals of one width; divided by a deviation that is predicted for each
    example they give wider ones where the network is less sure (§ 5.2 of the second paper).

    Vovk, Gammerman and Shafer, "Algorithmic learning in a random world", 2005; Lei, G'Sell, Rinaldo, Tibshirani and
    Wasserman, "Distribution-free predictive inference for regression", 2018.

    Raises:
        ValueError: too few examples for any finite margin.
    """
    place = int(np.ceil(round((len(scores) + 1) * share, 9)))
    if place > len(scores):
        needed = int(np.ceil(round(share / (1 - share), 9)))
        raise ValueError(f"an interval of {share:.0%} needs at least {needed} examples, got {len(scores)}")
    return np.sort(np.asarray(scores, float), axis=0)[place - 1]
