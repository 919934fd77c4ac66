"""Lesions: which connected parts of a class are found, and how many parts are claimed where there is none.

Pixels or voxels that touch by a side, an edge or a corner are of one lesion (8 neighbours in pictures, 26 in volumes),
as in ISLES 2022 (Hernandez Petzsche et al., "ISLES 2022: a multi-center magnetic resonance imaging stroke lesion
segmentation dataset", 2022) and BraTS 2023. A lesion is compared with all claimed parts that have a voxel in common
with it, put together; it is found if their intersection over union reaches a threshold. With the threshold 0 a common
voxel is enough, as in ISLES and in autoPET (Gatidis et al., 2022). A claimed part is a false positive unless it touches
a lesion that is found. Dice by lesion follows BraTS 2023: the mean over lesions and false positives, where one that is
missed and one that is false have 0; unlike there, neighbouring lesions are not put together before.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.stats import chi2

from cnn_keras.metrics.classification import proportion_interval


class Scores(NamedTuple):
    """Shares in [0, 1], and a number for each scan; NaN where there is nothing to count."""

    sensitivity: float  # of the lesions, those that are found
    false_positives: float  # for each scan
    f1: float  # 2 · found / (2 · found + missed + false positives)
    dice: float  # mean over lesions and false positives


def counts(truth: np.ndarray, answer: np.ndarray, *, overlap: float = 0.0) -> np.ndarray:
    """What one scan has: lesions, those found, false positives, and the sum of the Dice of those found.

    Args:
        truth, answer: bool (*sizes), where the class is and where it is claimed.
        overlap: the intersection over union that a lesion needs to be found, in [0, 1].

    Returns:
        float64 (4,), to be added up over scans and given to `scores`.
    """
    structure = generate_binary_structure(truth.ndim, truth.ndim)
    (true, lesions), (claimed, parts) = (label(mask, structure) for mask in (truth, answer))
    sizes = [
        np.bincount(numbers.ravel(), minlength=count + 1) for numbers, count in ((true, lesions), (claimed, parts))
    ]
    both = (true > 0) & (claimed > 0)
    pairs, common = np.unique(np.stack([true[both], claimed[both]]), axis=1, return_counts=True)
    lesion, part = pairs
    shared, covered = (
        np.bincount(lesion, weights=weights, minlength=lesions + 1)[1:] for weights in (common, sizes[1][part])
    )
    found = (shared > 0) & (shared >= overlap * (sizes[0][1:] + covered - shared))
    touching = np.unique(part[found[lesion - 1]])
    dice = 2 * shared / (sizes[0][1:] + covered)
    return np.array([lesions, found.sum(), parts - len(touching), dice[found].sum()], np.float64)


def scores(total: Sequence[float] | np.ndarray, scans: int) -> Scores:
    """The `Scores` of summed `counts` of so many scans."""
    lesions, found, false, dice = map(float, total)
    return Scores(
        found / lesions if lesions else float("nan"),
        false / scans,
        2 * found / (found + lesions + false) if lesions + false else float("nan"),
        dice / (lesions + false) if lesions + false else float("nan"),
    )


def intervals(total: Sequence[float] | np.ndarray, scans: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of sensitivity, false positives and F1, as if lesions were independent of each other.

    Those of shares are Wilson's, of F1 by way of found / (lesions + false positives), of which it is a function; that
    of the false positives is the exact one of a Poisson count (Garwood, 1936).
    """
    lesions, found, false, _ = map(float, total)
    low, high = proportion_interval(found / (lesions + false), lesions + false) if lesions + false else (0.0, 1.0)
    fewest = chi2.ppf(0.025, 2 * false) / 2 if false else 0.0
    return {
        "sensitivity": proportion_interval(found / lesions, lesions) if lesions else (0.0, 1.0),
        "false_positives": (float(fewest) / scans, float(chi2.ppf(0.975, 2 * (false + 1))) / 2 / scans),
        "f1": (2 * low / (1 + low), 2 * high / (1 + high)),
    }
