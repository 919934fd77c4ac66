"""Non-maximum suppression in NumPy, as `cnn_keras.ops.boxes` does it in a graph."""

from typing import Any

import numpy as np

from pipelines.serving.converted.served import Array

Kept = tuple[Array, Array, Array]  # boxes (K, 4), scores (K,), classes int64 (K,), the best first


def suppress(boxes: Array, scores: Array, settings: dict[str, Any]) -> Kept:
    """What stays of candidates, at most `limit`.

    Args:
        boxes: float32 (A, 4), left, top, right, bottom in any unit; each stands for every class.
        scores: float32 (A, classes).
        settings: `threshold`, `iou_threshold`, `limit` and `soft` as of `cnn_keras.ops.boxes`' two functions.
    """
    candidates, classes = np.nonzero(scores > settings["threshold"])
    found = boxes[candidates], scores[candidates, classes], classes
    if settings["soft"]:
        return _soft(*found, settings)
    kept: list[Array] = []
    for number in np.unique(classes):
        rows = np.flatnonzero(classes == number)
        kept.append(_greedy(rows[np.argsort(-found[1][rows], kind="stable")], found[0], settings))
    rows = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    best = rows[np.argsort(-found[1][rows], kind="stable")][: settings["limit"]]
    return found[0][best], found[1][best], found[2][best]


def _greedy(rows: Array, boxes: Array, settings: dict[str, Any]) -> Array:
    """Of the candidates of one class, the best first, those that overlap no better one by more than is allowed."""
    kept: list[int] = []
    while len(rows) and len(kept) < settings["limit"]:
        kept.append(rows[0])
        rows = rows[1:][iou(boxes[rows[1:]], boxes[rows[0]]) <= settings["iou_threshold"]]
    return np.array(kept, np.int64)


def _soft(boxes: Array, scores: Array, classes: Array, settings: dict[str, Any]) -> Kept:
    """A candidate's score falls by exp(−IoU² / sigma) for each better one of its class (Bodla et al., 2017)."""
    left = scores.copy()
    taken: list[tuple[int, float]] = []
    while len(taken) < settings["limit"] and len(left) and left.max() > settings["threshold"]:
        best = int(left.argmax())
        taken.append((best, left[best]))
        common = iou(boxes, boxes[best])
        share = np.where(common > settings["iou_threshold"], 0, np.exp(-(common**2) / settings["soft"]))
        left = np.where(classes == classes[best], left * share, left).astype(np.float32)
        left[best] = 0
    order = sorted(taken, key=lambda one: -one[1])
    rows = np.array([row for row, _ in order], np.int64)
    return boxes[rows], np.array([score for _, score in order], np.float32), classes[rows]


def iou(boxes: Array, other: Array) -> Array:
    """Intersection over union of boxes (N, 4) with one: (N,), 0 where neither has an area."""
    low, high = np.maximum(boxes[:, :2], other[:2]), np.minimum(boxes[:, 2:], other[2:])
    common = np.maximum(high - low, 0).prod(axis=-1)
    union = _area(boxes) + _area(other[None]) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def _area(boxes: Array) -> Array:
    return np.asarray(np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=-1))
