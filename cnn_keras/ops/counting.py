"""What crosses a line and what is in a zone, counted by the tracks of `byte_track`. NumPy.

Points are x and y in pixels. An object is where the centre of its box is, or the middle of its lower edge. It counts as
across a line, in a zone or out of it only from MARGIN of its size on, so that a box that shakes at the border is
counted once.
"""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cnn_keras.errors import Fault
from cnn_keras.ops.byte_track import Tracks

MARGIN = 0.05  # of the square root of a box's area
ANCHORS = ("center", "bottom")


class Event(NamedTuple):
    """An object has crossed a line, or has come into a zone or gone out of it."""

    id: int
    label: int  # class
    direction: str  # "in" or "out"


class LineCounter:
    """Counts what crosses a line, in both directions.

    "in" is from the left of the line to its right, seen from its first point towards its second: downwards over a line
    that is drawn from left to right.

    Args:
        line: ((x, y), (x, y)).
        anchor: where an object is, one of ANCHORS.

    Raises:
        Fault: the points are the same, or there is no such anchor.

    Attributes:
        counts: by class and direction.
    """

    def __init__(self, line: ArrayLike, *, anchor: str = "center") -> None:
        self.line, self.anchor = np.asarray(line, np.float64), _known_anchor(anchor)
        if (self.line[0] == self.line[1]).all():
            raise Fault(f"a line must have two different points, got {self.line.tolist()}")
        self.counts: Counter[tuple[int, str]] = Counter()
        self._before: dict[int, np.ndarray] = {}  # where an object was last clear of the line

    def update(self, tracks: Tracks) -> list[Event]:
        """What has crossed the line in the next frame."""
        points, margins = anchors(tracks.boxes, self.anchor), _margins(tracks.boxes)
        along = self.line[1] - self.line[0]
        heights = _cross(along, points - self.line[0]) / np.linalg.norm(along)  # positive on the right
        events = []
        for row in np.flatnonzero(np.abs(heights) > margins):
            number, point = int(tracks.ids[row]), points[row]
            before = self._before.get(number, point)
            self._before[number] = point
            if _meet(before, point, *self.line):
                events.append(Event(number, int(tracks.classes[row]), "in" if heights[row] > 0 else "out"))
        self.counts.update((event.label, event.direction) for event in events)
        self._before = _known(self._before, tracks)
        return events


class ZoneCounter:
    """Counts what is in a zone, and what has been in it.

    Args:
        polygon: float (P, 2), P at least 3.
        anchor: where an object is, one of ANCHORS.

    Raises:
        Fault: the polygon has fewer than three points or no area, or there is no such anchor.

    Attributes:
        now: objects that are seen in the zone in this frame, by class.
        visitors: different objects that have been in it, by class.
        most: in one frame, all classes together.
    """

    def __init__(self, polygon: ArrayLike, *, anchor: str = "center") -> None:
        self.polygon, self.anchor = np.asarray(polygon, np.float64), _known_anchor(anchor)
        if len(self.polygon) < 3 or _cross(self.polygon, np.roll(self.polygon, -1, axis=0)).sum() == 0:
            raise Fault(f"a zone must have at least three points and an area, got {self.polygon.tolist()}")
        self.now: Counter[int] = Counter()
        self.visitors: Counter[int] = Counter()
        self.most = 0
        self._inside: dict[int, bool] = {}
        self._visited: dict[int, None] = {}

    def update(self, tracks: Tracks) -> list[Event]:
        """What has come into the zone or gone out of it in the next frame."""
        points = anchors(tracks.boxes, self.anchor)
        is_inside, is_clear = contains(self.polygon, points), self._distances(points) > _margins(tracks.boxes)
        events = []
        for row in np.flatnonzero(is_clear):
            number, inside = int(tracks.ids[row]), bool(is_inside[row])
            if inside != self._inside.get(number, False):
                events.append(Event(number, int(tracks.classes[row]), "in" if inside else "out"))
            self._inside[number] = inside
        arrived = [event for event in events if event.direction == "in" and event.id not in self._visited]
        self._visited |= dict.fromkeys(event.id for event in arrived)
        self.visitors.update(event.label for event in arrived)
        seen = zip(tracks.ids.tolist(), tracks.classes.tolist(), strict=True)
        self.now = Counter(label for number, label in seen if self._inside.get(number))
        self.most = max(self.most, self.now.total())
        self._inside, self._visited = _known(self._inside, tracks), _known(self._visited, tracks)
        return events

    def _distances(self, points: np.ndarray) -> np.ndarray:
        """How far points (N, 2) are from the border: (N,)."""
        start = self.polygon
        side = np.roll(start, -1, axis=0) - start
        offset = points[:, None] - start
        along = np.clip((offset * side).sum(axis=-1) / np.maximum((side**2).sum(axis=-1), 1e-12), 0, 1)
        return np.linalg.norm(offset - along[..., None] * side, axis=-1).min(axis=1)


def anchors(boxes: np.ndarray, anchor: str) -> np.ndarray:
    """Where the objects of boxes (N, 4) are: x and y, (N, 2), of the `anchor`, one of ANCHORS."""
    y = boxes[:, 3] if anchor == "bottom" else boxes[:, [1, 3]].mean(axis=1)
    return np.stack([boxes[:, [0, 2]].mean(axis=1), y], axis=1)


def contains(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (N, 2) are in a polygon (P, 2), by the even-odd rule: bool (N,)."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    x, y = points[:, :1], points[:, 1:]
    straddles = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
    return (straddles & (x < crossing)).sum(axis=1) % 2 == 1


def _known_anchor(anchor: str) -> str:
    if anchor not in ANCHORS:
        raise Fault(f"anchor must be {' or '.join(ANCHORS)}, got {anchor!r}")
    return anchor


def _margins(boxes: np.ndarray) -> np.ndarray:
    return MARGIN * np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The third component of the cross product; positive where the second is to the right, with y downwards."""
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def _meet(first: np.ndarray, second: np.ndarray, start: np.ndarray, end: np.ndarray) -> bool:
    """Whether the way from `first` to `second` crosses the line from `start` to `end`."""
    sides = [_cross(end - start, point - start) for point in (first, second)]
    ends = [_cross(second - first, point - first) for point in (start, end)]
    return bool(sides[0] * sides[1] < 0 and ends[0] * ends[1] <= 0)


def _known(values: dict[int, Any], tracks: Tracks) -> dict[int, Any]:
    """What is kept of the objects that are seen or may come back."""
    alive = {*tracks.ids.tolist(), *tracks.lost.tolist()}
    return {number: value for number, value in values.items() if number in alive}
