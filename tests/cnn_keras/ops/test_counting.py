"""Crossings of lines and visits of zones: by hand, beside OpenCV, and in films of which every path is known."""

from collections import Counter

import cv2
import numpy as np
import pytest

from cnn_keras.data.sources.synthetic.films import film
from cnn_keras.errors import Fault
from cnn_keras.ops import counting
from cnn_keras.ops.byte_track import ByteTrack, Tracks
from cnn_keras.ops.counting import LineCounter, ZoneCounter
from tests.noisy_boxes import noisy

SIDE = 240


def tracks(*points, size=20.0, first=1, lost=()):
    """Tracks of boxes around points."""
    middles = np.array(points, float).reshape(-1, 2)
    boxes = np.concatenate([middles - size / 2, middles + size / 2], axis=1)
    count = len(boxes)
    return Tracks(np.arange(first, first + count), boxes, np.ones(count), np.zeros(count, int), np.array(lost, int))


def walk(counter, *points):
    """What a single object does on its way."""
    return [event.direction for point in points for event in counter.update(tracks(point))]


def test_in_is_from_left_to_right_of_the_line():
    across = LineCounter([[0, 50], [100, 50]])
    assert walk(across, [30, 20], [30, 80]) == ["in"]
    assert walk(across, [30, 20]) == ["out"]
    assert walk(LineCounter([[100, 50], [0, 50]]), [30, 20], [30, 80]) == ["out"]
    assert walk(LineCounter([[50, 0], [50, 100]]), [80, 30], [20, 30]) == ["in"]


def test_who_passes_beside_the_line_has_not_crossed_it():
    assert walk(LineCounter([[0, 50], [40, 50]]), [60, 20], [60, 80], [20, 80]) == []


def test_a_box_that_shakes_on_the_line_crosses_it_once():
    ways = [[30, 40 + 0.5 * step + (0.8 if step % 2 else -0.8)] for step in range(41)]
    assert walk(LineCounter([[0, 50], [100, 50]]), *ways) == ["in"]


def test_what_is_hidden_at_the_line_has_crossed_it_when_it_comes_back():
    counter = LineCounter([[0, 50], [100, 50]])
    counter.update(tracks([30, 20]))
    counter.update(tracks(lost=[1]))
    assert [event.direction for event in counter.update(tracks([30, 80]))] == ["in"]


def test_what_is_gone_is_forgotten():
    counter, zone = LineCounter([[0, 50], [100, 50]]), ZoneCounter([[0, 0], [100, 0], [100, 100]])
    for each in (counter, zone):
        each.update(tracks([30, 20], [80, 30]))
        each.update(tracks())
    assert counter._before == zone._inside == zone._visited == {}


def test_the_middle_of_the_lower_edge_may_be_the_place():
    assert walk(LineCounter([[0, 50], [100, 50]], anchor="bottom"), [30, 20], [30, 45]) == ["in"]
    with pytest.raises(Fault):
        LineCounter([[0, 50], [100, 50]], anchor="top")


def test_a_zone_counts_who_is_in_it_and_who_has_been():
    zone = ZoneCounter([[20, 20], [80, 20], [80, 80], [20, 80]])
    assert [event.direction for event in zone.update(tracks([50, 50], [5, 5]))] == ["in"]
    assert (zone.now, zone.visitors, zone.most) == ({0: 1}, {0: 1}, 1)
    assert [event.id for event in zone.update(tracks([50, 50], [40, 40]))] == [2]
    assert (zone.now, zone.visitors, zone.most) == ({0: 2}, {0: 2}, 2)
    assert [event.direction for event in zone.update(tracks([50, 5], [40, 40]))] == ["out"]
    zone.update(tracks([50, 50], [40, 40]))  # the first comes again
    assert (zone.now, zone.visitors, zone.most) == ({0: 2}, {0: 2}, 2)
    zone.update(tracks())
    assert (zone.now.total(), zone.visitors) == (0, {0: 2})


def test_a_box_that_shakes_at_the_border_of_a_zone_comes_in_once():
    ways = [[10 + 0.5 * step + (0.8 if step % 2 else -0.8), 50] for step in range(41)]
    assert walk(ZoneCounter([[20, 20], [80, 20], [80, 80], [20, 80]]), *ways) == ["in"]


def test_a_point_is_in_a_polygon_when_opencv_says_so():
    generator = np.random.default_rng(0)
    star = np.array([[50, 0], [62, 38], [100, 38], [70, 60], [80, 98], [50, 75], [20, 98], [30, 60], [0, 38], [38, 38]])
    points = generator.uniform(-10, 110, (500, 2))
    expected = [cv2.pointPolygonTest(star.astype(np.float32), tuple(map(float, point)), False) > 0 for point in points]
    assert counting.contains(star.astype(float), points).tolist() == expected
    distances = [abs(cv2.pointPolygonTest(star.astype(np.float32), tuple(map(float, p)), True)) for p in points]
    np.testing.assert_allclose(ZoneCounter(star)._distances(points), distances, atol=1e-3)


@pytest.mark.parametrize("line", [[[3, 4], [3, 4]]])
def test_a_line_of_one_point_is_refused(line):
    with pytest.raises(Fault):
        LineCounter(line)


@pytest.mark.parametrize("polygon", [[[0, 0], [5, 5]], [[0, 0], [5, 5], [10, 10]]])
def test_a_zone_without_an_area_is_refused(polygon):
    with pytest.raises(Fault):
        ZoneCounter(polygon)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_counts_of_a_film_are_exact_though_the_boxes_are_noisy(seed):
    """The truth is where each thing is first and last seen: none turns back."""
    shown, generator, tracker = film(side=SIDE, seed=seed), np.random.default_rng(seed), ByteTrack()
    line, zone = LineCounter([[120, 0], [120, 240]]), ZoneCounter([[60, 0], [180, 0], [180, 240], [60, 240]])
    places = {}
    for number in range(shown.frames):
        truth = shown.frame(number)[1]
        for thing, label, middle in zip(truth.ids, truth.classes, truth.boxes[:, [0, 2]].mean(axis=1), strict=True):
            places.setdefault((int(thing), int(label)), []).append(middle)
        seen = tracker.update(*noisy(truth, SIDE, generator))
        line.update(seen)
        zone.update(seen)
    ends = {thing: (middles[0] < 120, middles[-1] < 120) for thing, middles in places.items()}
    expected = Counter((label, "out" if start else "in") for (_, label), (start, end) in ends.items() if start != end)
    visited = Counter(label for (_, label), middles in places.items() if any(60 < middle < 180 for middle in middles))
    assert expected
    assert line.counts == expected
    assert zone.visitors == visited
