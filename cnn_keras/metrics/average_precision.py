"""Average precision: which detections are right, precision against recall, and the area below.

Everingham et al., *The PASCAL Visual Object Classes (VOC) Challenge* (IJCV 2010), section 4.2, and the devkit's
VOCevaldet.m: a detection is right when the true object that it overlaps most does so by at least 0.5 and was not found
by a more confident one; another detection of the same object is wrong, of a difficult one neither right nor wrong.

Differs from the devkit: a box from 3 to 5 is 2 wide, not 3 as of pixels counted from edge to edge.

Everything here is about one class. Boxes are float [K, 4], left, top, right, bottom, in any one unit; scores are
real [K]. Outcomes are int8 [K]: 1 right, 0 wrong, -1 neither.
"""

from typing import NamedTuple

import numpy as np


class Matches(NamedTuple):
    """What became of each detection of an image, in the order given."""

    outcomes: np.ndarray  # int8 [K]
    found: np.ndarray  # int64 [K]: the row of the true object that it stands for, -1 without


class Curve(NamedTuple):
    """Precision and recall, float64 [K] in [0, 1], of the detections down to each score, from the highest on."""

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray


class OperatingPoint(NamedTuple):
    """What a class is worth when detections below `score` are dropped."""

    score: float
    precision: float
    recall: float
    f1: float


def pairwise_iou(first: np.ndarray, second: np.ndarray, *, crowd: np.ndarray | None = None) -> np.ndarray:
    """Return the intersection over union of every pair, float64 [A, B] in [0, 1]; of two empty boxes 0.

    Args:
        first: float [A, 4], left, top, right, bottom; `second` [B, 4] likewise.
        crowd: bool [B], boxes of whole crowds: with those it is the intersection over the area of the first.
    """
    first = np.asarray(first, np.float64).reshape(-1, 1, 4)
    second = np.asarray(second, np.float64).reshape(1, -1, 4)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    area, other = (np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1) for boxes in (first, second))
    union = area + other - shared if crowd is None else np.where(crowd, area + 0 * other, area + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match(
    boxes: np.ndarray,
    scores: np.ndarray,
    truth: np.ndarray,
    *,
    difficult: np.ndarray | None = None,
    overlap: float = 0.5,
    coco: bool = False,
) -> Matches:
    """Match the detections of one image to its true objects, the most confident first; return `Matches`.

    Args:
        boxes: float [N, 4], left, top, right, bottom, with `scores` [N].
        truth: float [M, 4], the true boxes.
        difficult: bool [M], objects that need not be found; None takes none of them for such.
        overlap: the least intersection over union, inclusive.
        coco: match as COCO's evaluation does. There a detection whose object was found already may take the next
            best, which VOC calls wrong; a difficult object is a crowd, taken when no other is left, by the share of
            the detection that lies in it.
    """
    shared = pairwise_iou(boxes, truth, crowd=difficult if coco else None)
    difficult = np.zeros(shared.shape[1], bool) if difficult is None else np.asarray(difficult, bool)
    outcomes, matched_to = np.zeros(len(shared), np.int8), np.full(len(shared), -1)
    is_taken = np.zeros_like(difficult)
    for row in np.argsort(-np.asarray(scores), kind="stable") if len(is_taken) else ():
        best = _free(shared[row], difficult, is_taken, overlap) if coco else shared[row].argmax()
        if shared[row, best] < overlap:
            continue
        if difficult[best]:
            outcomes[row], matched_to[row] = -1, best
        elif not is_taken[best]:
            outcomes[row], matched_to[row], is_taken[best] = 1, best, True
    return Matches(outcomes, matched_to)


def precision_recall(scores: np.ndarray, outcomes: np.ndarray, positives: int) -> Curve:
    """Return the `Curve` of the detections (N,) of all images; those that are neither right nor wrong are left out.

    Args:
        positives: the number of true objects that are not difficult; with none the recall is 0.
    """
    scores, outcomes = np.asarray(scores, np.float64), np.asarray(outcomes)
    scores, outcomes = scores[outcomes >= 0], outcomes[outcomes >= 0]
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(outcomes[order] == 1)
    return Curve(right / max(positives, 1), right / np.arange(1, len(order) + 1), scores[order])


def average_precision(recall: np.ndarray, precision: np.ndarray, *, points: int | None = None) -> float:
    """Return the area below the curve, in [0, 1], where each precision counts as the best at its recall or above.

    Args:
        recall: rising, float [K] in [0, 1]; `precision` likewise.
        points: None for the exact area (VOC from 2010 on); else the mean at so many recalls, evenly from 0 to 1: 11
            in VOC 2007, 101 in COCO.
    """
    recall, precision = np.asarray(recall, np.float64), np.asarray(precision, np.float64)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points is None:
        return float(np.diff(recall, prepend=0.0) @ best)
    positions = np.searchsorted(recall, np.linspace(0, 1, points))
    return float(np.append(best, 0.0)[positions].mean())


def best_point(curve: Curve) -> OperatingPoint | None:
    """Return the `OperatingPoint` of the highest F1, that of the highest score among equals; None of an empty curve."""
    if not len(curve.scores):
        return None
    total = curve.precision + curve.recall
    f1 = np.divide(2 * curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0)
    last = np.append(curve.scores[1:] != curve.scores[:-1], True)  # equal scores are kept or dropped together
    row = np.where(last, f1, -1).argmax()
    return OperatingPoint(*(float(column[row]) for column in (curve.scores, curve.precision, curve.recall, f1)))


def operating_point(curve: Curve, score: float) -> OperatingPoint:
    """Return the `OperatingPoint` where detections below `score` are dropped; the precision of none is 0."""
    count = int(np.sum(curve.scores >= score))
    if not count:
        return OperatingPoint(float(score), 0.0, 0.0, 0.0)
    precision, recall = float(curve.precision[count - 1]), float(curve.recall[count - 1])
    f1 = 2 * precision * recall / (precision + recall) if recall else 0.0
    return OperatingPoint(float(score), precision, recall, f1)


def _free(shared: np.ndarray, difficult: np.ndarray, is_taken: np.ndarray, overlap: float) -> int:
    """Return what a detection takes in COCO's way: of equals the last, a difficult object only for want of others."""
    open_to = np.where(difficult | is_taken, -1.0, shared)
    if open_to.max() < overlap:
        open_to = np.where(difficult, shared, -1.0)
    return len(shared) - 1 - int(open_to[::-1].argmax())
