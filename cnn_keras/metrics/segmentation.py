"""What a class said at each pixel or voxel is worth: accuracy, intersection over union, Dice, and how borders fit.

Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", 2015, section 5 (pixel accuracy,
mean accuracy, mean IoU, frequency weighted IoU); Dice, 1945; Csurka, Larlus and Perronnin, "What is a good evaluation
measure for semantic segmentation?", 2013 (the F-score of borders); Heimann et al., "Comparison and evaluation of
methods for liver segmentation from CT datasets", 2009 (distances of surfaces).

All figures but distances come of counts that can be added up over pictures. Everywhere `truth` and `answer` are integer
arrays of one shape, the number of the class at each pixel; where the truth is below 0 nobody knows, and nothing counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from cnn_keras.errors import Fault


class Scores(NamedTuple):
    """Shares in [0, 1]; of each class float64 (classes,), NaN where it is neither true nor said anywhere."""

    pixel_accuracy: float
    mean_accuracy: float  # of the classes that are true somewhere
    mean_iou: float  # of the classes that are true or said somewhere, as mean_dice
    mean_dice: float
    frequency_weighted_iou: float
    accuracy: np.ndarray
    precision: np.ndarray
    iou: np.ndarray
    dice: np.ndarray


def confusion(truth: np.ndarray, answer: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by true class (rows) and said class (columns): int64 (classes, classes).

    Raises:
        Fault: when the shapes differ.
    """
    truth, answer = np.asarray(truth), np.asarray(answer)
    if truth.shape != answer.shape:
        raise Fault(f"answer must have the shape of the truth, {list(truth.shape)}, got {list(answer.shape)}")
    known = truth >= 0
    pairs = truth[known].astype(np.int64) * classes + answer[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def scores(counts: np.ndarray) -> Scores:
    """The `Scores` of a confusion matrix (classes, classes)."""
    counts = np.asarray(counts, np.float64)
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # a class that is not there is 0/0, the NaN that we promise
        iou, dice = right / (true + predicted - right), 2 * right / (true + predicted)
        accuracy, precision = right / true, right / predicted
    total = max(counts.sum(), 1)
    return Scores(
        float(right.sum() / total),
        _mean(accuracy),
        _mean(iou),
        _mean(dice),
        float(np.nansum(true * iou) / total),
        accuracy,
        precision,
        iou,
        dice,
    )


def mean_overlaps(true: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    """`mean_iou` and `mean_dice` as of `Scores`, (…), of counts of pixels (…, classes): true, said, and both."""
    known, count = true + predicted > 0, np.maximum((true + predicted > 0).sum(axis=-1), 1)
    iou = np.divide(right, true + predicted - right, out=np.zeros(known.shape), where=known)
    dice = np.divide(2 * right, true + predicted, out=np.zeros(known.shape), where=known)
    return {"mean_iou": iou.sum(axis=-1) / count, "mean_dice": dice.sum(axis=-1) / count}


def border_counts(truth: np.ndarray, answer: np.ndarray, classes: int, *, tolerance: float) -> np.ndarray:
    """How well the borders of each class in one picture are met: int64 (classes, 4).

    A border pixel of a class has a neighbour – above, below, left or right, in volumes also in front or behind – known
    to be of another class. Columns: border pixels said, those of them at most `tolerance` pixels from a true
    border of the class; true border pixels, those at most so far from one that is said. Add the counts of pictures,
    then see `border_f`.
    """
    truth, answer = np.asarray(truth), np.asarray(answer)
    answer = np.where(truth < 0, -1, answer)
    counts = np.zeros((classes, 4), np.int64)
    for number in range(classes):
        true, predicted = (_border(values == number, truth >= 0) for values in (truth, answer))
        counts[number, [0, 2]] = predicted.sum(), true.sum()
        if true.any() and predicted.any():
            to_true, to_predicted = _distances(true, predicted)
            counts[number, 1], counts[number, 3] = (to_true <= tolerance).sum(), (to_predicted <= tolerance).sum()
    return counts


def border_f(counts: np.ndarray) -> np.ndarray:
    """The F-score of each class's borders, float64 (classes,), of summed `border_counts`; NaN where there is none."""
    predicted, near, true, matched = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    with np.errstate(invalid="ignore"):
        precision, recall = np.where(predicted > 0, near / predicted, 0.0), np.where(true > 0, matched / true, 0.0)
        score = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
    return np.where(predicted + true > 0, score, np.nan)


def surface_distances(
    truth: np.ndarray, answer: np.ndarray, classes: int, *, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """How far the borders of each class are from each other: float64 (classes, 2), NaN where one has none.

    Columns: the Hausdorff distance at 95 %, which is the larger one of the 95th percentiles of the distances from the
    border pixels said to the true border and back; and the average surface distance, the mean of all these distances.
    Border pixels are those of `border_counts`; the edge of the picture is none.

    Args:
        spacing: the sides of a voxel along each axis, in the unit of the distances; pixels unless given.
    """
    truth, answer = np.asarray(truth), np.asarray(answer)
    answer = np.where(truth < 0, -1, answer)
    found = np.full((classes, 2), np.nan)
    for number in range(classes):
        true, predicted = (_border(values == number, truth >= 0) for values in (truth, answer))
        if true.any() and predicted.any():
            distances = _distances(true, predicted, spacing)
            found[number] = max(np.percentile(part, 95) for part in distances), np.concatenate(distances).mean()
    return found


def _distances(
    true: np.ndarray, predicted: np.ndarray, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel predicted is from the nearest true one, and each true one from the nearest predicted."""
    sides = np.ones(true.ndim) if spacing is None else np.asarray(spacing, np.float64)
    there, here = (KDTree(np.argwhere(edge) * sides) for edge in (true, predicted))
    return there.query(here.data)[0], here.query(there.data)[0]


def _border(inside: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The pixels of a region that touch another one; the edge of the picture and what is not known make no border."""
    edge = np.zeros_like(inside)
    for axis in range(inside.ndim):
        for way in (slice(None, -1), slice(1, None)):
            other = slice(1, None) if way.stop else slice(None, -1)
            here, there = (tuple(w if a == axis else slice(None) for a in range(inside.ndim)) for w in (way, other))
            edge[here] |= inside[here] & ~inside[there] & known[there]
    return edge


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
