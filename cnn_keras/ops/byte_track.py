"""Objects across the frames of a film: the boxes of a detector become tracks, each with a number. NumPy and SciPy.

Zhang et al., "ByteTrack: Multi-object tracking by associating every detection box", ECCV 2022. Boxes with high scores
are associated with the predicted boxes of all tracks first. Those with low scores, which are often of objects that are
partly hidden, are associated with the tracks that are left. Both associations maximise the sum of the IoU.

Differs from the paper: tracks and boxes of different classes are never associated, and appearance is not compared. As
in the authors' program, a track is reported from its second box on, unless it begins in the first frame, and is dropped
if the second frame has no box for it.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from cnn_keras.errors import Fault
from cnn_keras.metrics.average_precision import pairwise_iou
from cnn_keras.ops import kalman_filter
from cnn_keras.ops.kalman_filter import State

LEAST = 0.2  # IoU of a track and a box of one object


class Tracks(NamedTuple):
    """The objects that are seen in a frame, in the order of their numbers, and the numbers that may come back."""

    ids: np.ndarray  # int64 (N,), from 1 in the order of appearance
    boxes: np.ndarray  # float64 (N, 4), left, top, right, bottom in pixels, as they were detected
    scores: np.ndarray  # float64 (N,), of the boxes
    classes: np.ndarray  # int64 (N,)
    lost: np.ndarray  # int64 (M,): numbers of objects that are not seen in this frame, but may be in a later one


class _Tracks(NamedTuple):
    """All that is kept of N tracks."""

    ids: np.ndarray  # 0 until the second box
    boxes: np.ndarray  # the last one of each
    scores: np.ndarray
    classes: np.ndarray
    seen: np.ndarray  # the frame of the last box
    mean: np.ndarray  # of the Kalman filter
    covariance: np.ndarray

    def take(self, rows: np.ndarray) -> "_Tracks":
        return _Tracks(*(column[rows] for column in self))


class ByteTrack:
    """Follows objects from frame to frame.

    Args:
        high: the least score of the first association.
        low: the least score of the second association; boxes below it are left out.
        new: the least score of a box that begins a track.
        buffer: frames that a lost track is kept for.

    Raises:
        Fault: the scores are not in [0, 1] or not in this order, or the buffer is negative.
    """

    def __init__(self, *, high: float = 0.6, low: float = 0.1, new: float = 0.7, buffer: int = 30) -> None:
        if not 0 <= low <= high <= new <= 1:
            raise Fault(f"low, high and new must be in [0, 1] and in this order, got {low:g}, {high:g} and {new:g}")
        if buffer < 0:
            raise Fault(f"buffer must be a number of frames, got {buffer}")
        self.high, self.low, self.new, self.buffer = high, low, new, buffer
        self._frame = self._last_id = 0
        self._tracks = self._begun(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    def update(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Tracks:
        """The objects in the next frame.

        Args:
            boxes: float (K, 4), left, top, right, bottom in pixels; those without an area are left out.
            scores: float (K,), in [0, 1].
            classes: int (K,).
        """
        boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64)
        real = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, scores, classes = boxes[real], scores[real], np.asarray(classes, np.int64)[real]
        self._frame += 1
        tracks = self._predicted()
        overlap = pairwise_iou(_boxes(tracks.mean), boxes) * (tracks.classes[:, None] == classes)
        box_of = np.full(len(tracks.ids), -1)
        for is_chosen in (scores >= self.high, (scores >= self.low) & (scores < self.high)):
            rows, columns = _associate(overlap, box_of < 0, is_chosen)
            box_of[rows] = columns
        rows, columns = np.flatnonzero(box_of >= 0), box_of[box_of >= 0]
        self._correct(tracks, rows, boxes[columns], scores[columns])
        is_kept = self._frame - tracks.seen <= np.where(tracks.ids > 0, self.buffer, 0)
        is_new = scores >= self.new
        is_new[columns] = False
        self._tracks = _joined(tracks.take(is_kept), self._begun(boxes[is_new], scores[is_new], classes[is_new]))
        return self._reported()

    def _predicted(self) -> _Tracks:
        """The tracks as they are expected in this frame; the height of one that is lost stays."""
        mean = self._tracks.mean.copy()
        mean[self._tracks.seen < self._frame - 1, 7] = 0
        mean, covariance = kalman_filter.predict(State(mean, self._tracks.covariance))
        return self._tracks._replace(mean=mean, covariance=covariance)

    def _correct(self, tracks: _Tracks, rows: np.ndarray, boxes: np.ndarray, scores: np.ndarray) -> None:
        """Write into some tracks the boxes that they were associated with, and an id where there is none."""
        state = kalman_filter.update(State(tracks.mean[rows], tracks.covariance[rows]), _measurement(boxes))
        tracks.mean[rows], tracks.covariance[rows] = state
        tracks.boxes[rows], tracks.scores[rows], tracks.seen[rows] = boxes, scores, self._frame
        unnamed = rows[tracks.ids[rows] == 0]
        tracks.ids[unnamed] = self._new_ids(len(unnamed))

    def _begun(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> _Tracks:
        """New tracks; those of the first frame have an id at once."""
        ids = self._new_ids(len(boxes)) if self._frame == 1 else np.zeros(len(boxes), np.int64)
        state = kalman_filter.initiate(_measurement(boxes))
        return _Tracks(ids, boxes, scores, classes, np.full(len(boxes), self._frame), *state)

    def _new_ids(self, count: int) -> np.ndarray:
        self._last_id += count
        return np.arange(self._last_id - count, self._last_id) + 1

    def _reported(self) -> Tracks:
        tracks = self._tracks.take(np.argsort(self._tracks.ids))
        tracks = tracks.take(tracks.ids > 0)
        is_seen = tracks.seen == self._frame
        return Tracks(*tracks.take(is_seen)[:4], tracks.ids[~is_seen])


def _associate(overlap: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows and columns that overlap by at least LEAST, with the largest sum: int (P,) twice.

    Args:
        overlap: float (N, K), IoU.
        rows: bool (N,), which may be paired; `columns` (K,) likewise.
    """
    left, right = np.flatnonzero(rows), np.flatnonzero(columns)
    permitted = overlap[np.ix_(left, right)]
    permitted = np.where(permitted >= LEAST, permitted, 0)
    pairs = linear_sum_assignment(permitted, maximize=True)
    is_paired = permitted[pairs] > 0
    return left[pairs[0][is_paired]], right[pairs[1][is_paired]]


def _measurement(boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) as the Kalman filter measures them: x and y of the centre, aspect ratio, height."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    return np.stack([boxes[:, [0, 2]].mean(axis=1), boxes[:, [1, 3]].mean(axis=1), width / height, height], axis=1)


def _boxes(mean: np.ndarray) -> np.ndarray:
    """States (N, 8) of the Kalman filter as boxes (N, 4), left, top, right, bottom."""
    x, y, aspect, height = mean[:, :4].T
    half = np.stack([aspect * height, height], axis=1) / 2
    centre = np.stack([x, y], axis=1)
    return np.concatenate([centre - half, centre + half], axis=1)


def _joined(first: _Tracks, second: _Tracks) -> _Tracks:
    return _Tracks(*(np.concatenate(columns) for columns in zip(first, second, strict=True)))
