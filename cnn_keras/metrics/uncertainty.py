"""How unsure a model is of an answer: 0 where it has no doubt, 1 where it cannot decide.

Settles, "Active learning literature survey", 2009, has the measures of one class; that of a margin is turned round
here, so that the largest number is the most uncertain. Needs no TensorFlow.
"""

import numpy as np


def margin(probabilities: np.ndarray) -> np.ndarray:
    """One less the difference of the two largest probabilities: float64 (N,) of (N, classes)."""
    second, first = np.sort(np.asarray(probabilities, np.float64), axis=1)[:, -2:].T
    return 1 - (first - second)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """The entropy as a share of that of equal probabilities: float64 (N,) of (N, classes)."""
    shares = np.asarray(probabilities, np.float64)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logarithms).sum(axis=1) / np.log(shares.shape[1])


def binary(probabilities: np.ndarray) -> np.ndarray:
    """The two classes of each yes or no, whose probabilities of yes are (N,): (N, 2)."""
    yes = np.asarray(probabilities, np.float64)
    return np.stack([1 - yes, yes], axis=1)
