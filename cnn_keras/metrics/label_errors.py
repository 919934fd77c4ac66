"""Which labels of classified examples are probably wrong: confident learning.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021. The probabilities
must come from a network that was not trained on the examples: of a test split, or of the folds of a cross-validation.
Here examples are ranked by their margin alone; the paper's ways to prune by the noise rate of each class are left out.
Needs no TensorFlow.
"""

from typing import NamedTuple

import numpy as np

NONE = -1  # of an example of which no class is confident


class LabelErrors(NamedTuple):
    """What confident learning says of examples.

    Attributes:
        order: int64 (N,), the rows from the most suspicious label to the least.
        quality: float64 (N,), `normalized_margin`, 0 for a label that is certainly wrong, 1 for one that is right.
        likeliest: int64 (N,), the class of the largest probability.
        wrong: bool (N,), whether another class is confident and likelier than the label.
    """

    order: np.ndarray
    quality: np.ndarray
    likeliest: np.ndarray
    wrong: np.ndarray


def find(labels: np.ndarray, probabilities: np.ndarray) -> LabelErrors:
    """Rank examples by how suspicious their labels are.

    Args:
        labels: int (N,), in [0, classes).
        probabilities: real (N, classes), two classes or more.
    """
    quality, likeliest = normalized_margin(labels, probabilities), np.argmax(probabilities, axis=1)
    confident = confident_classes(labels, probabilities)
    wrong = (confident != NONE) & (confident != labels) & (likeliest != labels)
    return LabelErrors(np.argsort(quality, kind="stable"), quality, likeliest, wrong)


def self_confidence(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability of the label: float64 (N,)."""
    return np.take_along_axis(np.asarray(probabilities, np.float64), np.asarray(labels)[:, None], axis=1)[:, 0]


def normalized_margin(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How far the label is above the likeliest other class, from 0 to 1, ½ where they are alike: float64 (N,)."""
    others = np.array(probabilities, np.float64)
    np.put_along_axis(others, np.asarray(labels)[:, None], -np.inf, axis=1)
    return (self_confidence(labels, probabilities) - others.max(axis=1) + 1) / 2


def thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """From which probability a class is confident: its mean over the examples with that label, float64 (classes,).

    Infinite for a class without an example.
    """
    shares = np.asarray(probabilities, np.float64)
    means = np.full(shares.shape[1], np.inf)
    for number in np.unique(labels):
        means[number] = shares[labels == number, number].mean()
    return means


def confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The likeliest of the classes that reach their threshold: int64 (N,), NONE where none does."""
    shares = np.asarray(probabilities, np.float64)
    reached = np.where(shares >= thresholds(labels, shares), shares, -np.inf)
    return np.where(np.isfinite(reached).any(axis=1), reached.argmax(axis=1), NONE)


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many examples of each label, in rows, are confidently of each class, in columns: int64 (classes, classes)."""
    classes = np.shape(probabilities)[1]
    counts, confident = np.zeros((classes, classes), np.int64), confident_classes(labels, probabilities)
    counted = confident != NONE
    np.add.at(counts, (np.asarray(labels)[counted], confident[counted]), 1)
    return counts
