"""Probabilities that keep what they promise, and the confidence from which an answer is given at all.

Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017, section 4.2 (temperature);
Geifman and El-Yaniv, "Selective classification for deep neural networks", 2017 (answers with a guaranteed error);
Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then test", 2021 (the test of each of several thresholds).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

LEAST = 1e-30  # a probability that a float32 softmax rounds to 0
LEVELS = 20  # shares of the answers, from all down to a twentieth, that are tested
RANGE = math.log(20)  # how far from 1, in its logarithm, a temperature is looked for


class Rejection(NamedTuple):
    """Answers of at least this confidence err in at most `bound` of all, with the confidence that was asked for."""

    threshold: float
    bound: float


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The T for which softmax(logits / T) has the least log loss, above 0; 1 where it brings nothing.

    Differs from the paper: T is 1 where nothing is wrong or nothing right, for there is then no least loss, and where
    the loss falls by less than two standard errors of the difference, which other examples might not show.

    Args:
        probabilities: softmax(logits), real (N, classes), of examples that the network was not fitted on.
        labels: integers (N,).
    """
    right = np.asarray(probabilities).argmax(axis=1) == labels
    if right.all() or not right.any():
        return 1.0
    logarithms = _logarithms(probabilities)
    own = logarithms[np.arange(len(labels)), labels]

    def log_loss(exponent: float) -> float:
        inverse = math.exp(-exponent)
        return float(np.mean(special.logsumexp(inverse * logarithms, axis=1) - inverse * own))

    best = math.exp(optimize.minimize_scalar(log_loss, bounds=(-RANGE, RANGE), method="bounded").x)
    gained = special.logsumexp(logarithms, axis=1) - own - special.logsumexp(logarithms / best, axis=1) + own / best
    return best if gained.mean() > 2 * gained.std() / math.sqrt(len(gained)) else 1.0


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature) of softmax(logits), float64 (N, classes): the order of the classes stays."""
    return special.softmax(_logarithms(probabilities) / temperature, axis=1)


def rejection(
    confidences: np.ndarray, right: np.ndarray, error: float, *, confidence: float = 0.95
) -> Rejection | None:
    """The least confidence from which at most the share `error` of the answers is wrong; None if none can be shown.

    Each of LEVELS shares of the answers, the most confident ones, is tested at its part of 1 − `confidence`
    (Bonferroni), with the upper end of the binomial interval as the bound; of those that pass, the largest is taken.

    Args:
        confidences: the largest probability of each of N answers, none of which the network was fitted on.
        right: whether each was right, bool (N,).
        error: the share of wrong answers among those given, in (0, 1).
        confidence: with which it holds for other examples of the same kind, in (0, 1).
    """
    order = np.argsort(-np.asarray(confidences), kind="stable")
    sorted_confidences, wrong = np.asarray(confidences)[order], np.cumsum(~np.asarray(right, bool)[order])
    for level in range(LEVELS, 0, -1):
        threshold = sorted_confidences[max(1, len(order) * level // LEVELS) - 1]
        count = int((sorted_confidences >= threshold).sum())  # equal ones go together
        bound = _upper(int(wrong[count - 1]), count, (1 - confidence) / LEVELS)
        if bound <= error:
            return Rejection(float(threshold), bound)
    return None


def _upper(wrong: int, count: int, risk: float) -> float:
    """The one-sided upper bound of Clopper and Pearson for the share of wrong answers."""
    return 1.0 if wrong == count else float(stats.beta.ppf(1 - risk, wrong + 1, count - wrong))


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST))
