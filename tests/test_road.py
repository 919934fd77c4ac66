"""The road that is drawn: always the same, seen as a pinhole camera sees it, driven as a bicycle is."""

import math
from itertools import islice

import numpy as np
import pytest

from cnn_keras.data import road

TRACK = road.road(3, 300)
STRAIGHT = road.Road(np.arange(400) * road.SPACING, np.zeros(400), np.zeros(400), seed=1)


def seen(ahead, left, size=road.SIZE):
    """The pixel, column and row, of a point on the ground so far from the camera: the pinhole's own formula."""
    height, width = size
    focal = width / 2 / math.tan(road.FIELD / 2)
    down, deep = road.HEIGHT, ahead
    forward = deep * math.cos(road.PITCH) + down * math.sin(road.PITCH)
    below = down * math.cos(road.PITCH) - deep * math.sin(road.PITCH)
    return width / 2 - focal * left / forward, height / 2 + focal * below / forward


@pytest.mark.parametrize("ahead", [5, 8, 12])
def test_the_edge_of_the_road_is_painted_where_a_pinhole_camera_sees_it(ahead):
    picture = road.frame(STRAIGHT, road.start(STRAIGHT, 20)).astype(int)
    column, row = (round(value - 0.5) for value in seen(ahead, -road.LANE / 2))  # half a lane to the right
    line = picture[row, column - 8 : column + 9].sum(axis=1)
    assert abs(int(line.argmax()) - 8) <= 1


def test_a_car_that_is_moved_to_the_left_sees_the_edge_further_right():
    columns = []
    for offset in (0.0, 0.5):
        picture = road.frame(STRAIGHT, road.start(STRAIGHT, 20, offset=offset)).astype(int)
        row = round(seen(8, 0)[1])
        columns.append(80 + int(picture[row, 80:].sum(axis=1).argmax()))
    focal = road.SIZE[1] / 2 / math.tan(road.FIELD / 2)
    assert columns[1] - columns[0] == pytest.approx(focal * 0.5 / 8, abs=2)


def test_a_frame_is_a_function_of_road_and_pose():
    car = road.start(TRACK, 40, offset=0.2, heading=0.05)
    first = road.frame(TRACK, car)
    assert first.dtype == np.uint8
    assert first.shape == (*road.SIZE, 3)
    np.testing.assert_array_equal(first, road.frame(road.road(3, 300), car))
    assert (first != road.frame(road.road(4, 300), car)).any()


def test_roads_of_two_seeds_differ_and_no_curve_is_tighter_than_the_tightest():
    assert not np.allclose(TRACK.heading[100:300], road.road(4, 300).heading[100:300])
    for seed in range(5):
        track = road.road(seed, 500)
        assert np.abs(np.diff(track.heading)).max() / road.SPACING <= 1 / road.TIGHTEST + 1e-9
        assert track.length >= 500
        np.testing.assert_allclose(np.hypot(np.diff(track.x), np.diff(track.y)), road.SPACING, rtol=1e-6)


@pytest.mark.parametrize(("offset", "heading"), [(0.0, 0.0), (0.7, -0.1), (-0.9, 0.2)])
def test_the_place_of_a_car_is_where_it_was_put(offset, heading):
    found = road.place(TRACK, road.start(TRACK, 60, offset=offset, heading=heading))
    assert found.along == pytest.approx(60, abs=0.3)
    assert found.offset == pytest.approx(offset, abs=0.02)
    assert found.heading == pytest.approx(heading, abs=0.03)


def test_a_wheel_that_is_held_makes_a_circle_to_its_side():
    car = road.start(STRAIGHT, 50)
    turned = road.moved(STRAIGHT, car, 0.5)
    assert turned.heading < car.heading  # right
    radius = road.WHEELBASE / math.tan(0.5 * road.FULL)
    assert turned.heading - car.heading == pytest.approx(-road.STRIDE / radius)
    assert math.hypot(turned.x - car.x, turned.y - car.y) == pytest.approx(road.STRIDE)
    assert road.moved(STRAIGHT, car, 7.0) == road.moved(STRAIGHT, car, 1.0)


def test_the_driver_stays_in_the_lane_and_who_does_not_steer_leaves_it():
    for seed in range(4):
        track = road.road(seed, 300)
        car = road.start(track)
        for _ in range(280):
            car = road.moved(track, car, road.driver(track, car))
            assert abs(road.place(track, car).offset) < road.ROOM / 2
        car = road.start(track)
        for _ in range(280):
            car = road.moved(track, car, 0.0)
        assert abs(road.place(track, car).offset) > road.ROOM


def test_the_driver_steers_back():
    assert road.driver(STRAIGHT, road.start(STRAIGHT, 50, offset=0.5)) > 0.02  # from the left to the right
    assert road.driver(STRAIGHT, road.start(STRAIGHT, 50, offset=-0.5)) < -0.02
    assert road.driver(STRAIGHT, road.start(STRAIGHT, 50, heading=0.1)) > 0.02


def test_a_recording_repeats_itself_and_shows_more_than_the_lanes_middle():
    shots = list(road.recording(7, 120, wander=0.25, hand=0.02))
    again = list(islice(road.recording(7, 120, wander=0.25, hand=0.02), 5))
    assert [angle for _, angle in again] == [angle for _, angle in shots[:5]]
    np.testing.assert_array_equal(again[4][0](), shots[4][0]())
    angles = np.array([angle for _, angle in shots])
    assert np.abs(angles).max() <= 1
    offsets = [road.place(shot.track, shot.car).offset for shot, _ in shots]
    assert np.std(offsets) > 0.1
