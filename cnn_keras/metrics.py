"""What a classifier's probabilities are worth: top-k accuracy, calibration, and its most confident mistakes.

Calibration follows Guo et al., *On Calibration of Modern Neural Networks* (ICML 2017), equations 1-3.

Every function takes `probabilities`, real [N, C] in [0, 1], a row per example, and `labels`, integer [N] in
[0, C). The answer of a row is its largest probability, the first of equals, as `numpy.argmax` has it; so all
numbers here agree with each other and with a list of predictions. Malformed arrays raise ValueError.
"""

from typing import NamedTuple

import numpy as np


class Reliability(NamedTuple):
    """One entry per bin of confidence, from low to high; NaN where a bin holds no example."""

    confidence: np.ndarray  # float64 [bins] in [0, 1]: mean largest probability
    accuracy: np.ndarray  # float64 [bins] in [0, 1]: share of right answers
    count: np.ndarray  # int64 [bins]: examples


def top_accuracy(probabilities, labels, k=1):
    """Return the share of examples, in [0, 1], whose label is among the `k` most probable classes."""
    probabilities, labels = _checked(probabilities, labels)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(np.mean(np.any(best == labels[:, None], axis=1)))


def reliability_bins(probabilities, labels, bins=15):
    """Group the examples by confidence into `bins` intervals ((m-1)/bins, m/bins]; return `Reliability`."""
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


def expected_calibration_error(probabilities, labels, bins=15):
    """Return the mean distance, in [0, 1], of confidence and accuracy over the bins, weighted by count."""
    confidence, accuracy, count = reliability_bins(probabilities, labels, bins)
    return float(np.nansum(count * np.abs(accuracy - confidence)) / count.sum())


def confident_mistakes(probabilities, labels, limit):
    """Return the row numbers, int64 [at most `limit`], of wrong answers, the most confident first."""
    probabilities, labels = _checked(probabilities, labels)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:limit]


def _checked(probabilities, labels):
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
