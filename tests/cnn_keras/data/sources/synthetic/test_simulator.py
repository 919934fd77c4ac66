"""The road that is drawn: always the same, seen as a pinhole camera sees it, driven as a bicycle is."""

import math
from itertools import islice

import numpy as np
import pytest

from cnn_keras.data.sources.synthetic import simulator

TRACK = simulator.road(3, 300)
STRAIGHT = simulator.Road(np.arange(400) * simulator.SPACING, np.zeros(400), np.zeros(400), seed=1)


def seen(ahead, left, size=simulator.SIZE):
    """The pixel, column and row, of a point on the ground so far from the camera: the pinhole's own formula."""
    height, width = size
    focal = width / 2 / math.tan(simulator.FIELD / 2)
    down, deep = simulator.HEIGHT, ahead
    forward = deep * math.cos(simulator.PITCH) + down * math.sin(simulator.PITCH)
    below = down * math.cos(simulator.PITCH) - deep * math.sin(simulator.PITCH)
    return width / 2 - focal * left / forward, height / 2 + focal * below / forward


@pytest.mark.parametrize("ahead", [5, 8, 12])
def test_the_edge_of_the_road_is_painted_where_a_pinhole_camera_sees_it(ahead):
    picture = simulator.frame(STRAIGHT, simulator.start(STRAIGHT, 20)).astype(int)
    column, row = (round(value - 0.5) for value in seen(ahead, -simulator.LANE / 2))  # half a lane to the right
    line = picture[row, column - 8 : column + 9].sum(axis=1)
    assert abs(int(line.argmax()) - 8) <= 1


def test_a_car_that_is_moved_to_the_left_sees_the_edge_further_right():
    columns = []
    for offset in (0.0, 0.5):
        picture = simulator.frame(STRAIGHT, simulator.start(STRAIGHT, 20, offset=offset)).astype(int)
        row = round(seen(8, 0)[1])
        columns.append(80 + int(picture[row, 80:].sum(axis=1).argmax()))
    focal = simulator.SIZE[1] / 2 / math.tan(simulator.FIELD / 2)
    assert columns[1] - columns[0] == pytest.approx(focal * 0.5 / 8, abs=2)


def test_a_frame_is_a_function_of_road_and_pose():
    car = simulator.start(TRACK, 40, offset=0.2, heading=0.05)
    first = simulator.frame(TRACK, car)
    assert first.dtype == np.uint8
    assert first.shape == (*simulator.SIZE, 3)
    np.testing.assert_array_equal(first, simulator.frame(simulator.road(3, 300), car))
    assert (first != simulator.frame(simulator.road(4, 300), car)).any()


def test_roads_of_two_seeds_differ_and_no_curve_is_tighter_than_the_tightest():
    assert not np.allclose(TRACK.heading[100:300], simulator.road(4, 300).heading[100:300])
    for seed in range(5):
        track = simulator.road(seed, 500)
        assert np.abs(np.diff(track.heading)).max() / simulator.SPACING <= 1 / simulator.TIGHTEST + 1e-9
        assert track.length >= 500
        np.testing.assert_allclose(np.hypot(np.diff(track.x), np.diff(track.y)), simulator.SPACING, rtol=1e-6)


@pytest.mark.parametrize(("offset", "heading"), [(0.0, 0.0), (0.7, -0.1), (-0.9, 0.2)])
def test_the_place_of_a_car_is_where_it_was_put(offset, heading):
    found = simulator.place(TRACK, simulator.start(TRACK, 60, offset=offset, heading=heading))
    assert found.along == pytest.approx(60, abs=0.3)
    assert found.offset == pytest.approx(offset, abs=0.02)
    assert found.heading == pytest.approx(heading, abs=0.03)


def test_a_wheel_that_is_held_makes_a_circle_to_its_side():
    car = simulator.start(STRAIGHT, 50)
    turned = simulator.step(STRAIGHT, car, 0.5)
    assert turned.heading < car.heading  # right
    radius = simulator.WHEELBASE / math.tan(0.5 * simulator.FULL)
    assert turned.heading - car.heading == pytest.approx(-simulator.STRIDE / radius)
    assert math.hypot(turned.x - car.x, turned.y - car.y) == pytest.approx(simulator.STRIDE)
    assert simulator.step(STRAIGHT, car, 7.0) == simulator.step(STRAIGHT, car, 1.0)


def test_the_driver_stays_in_the_lane_and_who_does_not_steer_leaves_it():
    for seed in range(4):
        track = simulator.road(seed, 300)
        car = simulator.start(track)
        for _ in range(280):
            car = simulator.step(track, car, simulator.pure_pursuit(track, car))
            assert abs(simulator.place(track, car).offset) < simulator.ROOM / 2
        car = simulator.start(track)
        for _ in range(280):
            car = simulator.step(track, car, 0.0)
        assert abs(simulator.place(track, car).offset) > simulator.ROOM


def test_the_driver_steers_back():
    assert (
        simulator.pure_pursuit(STRAIGHT, simulator.start(STRAIGHT, 50, offset=0.5)) > 0.02
    )  # from the left to the right
    assert simulator.pure_pursuit(STRAIGHT, simulator.start(STRAIGHT, 50, offset=-0.5)) < -0.02
    assert simulator.pure_pursuit(STRAIGHT, simulator.start(STRAIGHT, 50, heading=0.1)) > 0.02


def test_a_recording_repeats_itself_and_shows_more_than_the_lanes_middle():
    shots = list(simulator.recording(7, 120, wander=0.25, hand=0.02))
    again = list(islice(simulator.recording(7, 120, wander=0.25, hand=0.02), 5))
    assert [shot.angle for shot in again] == [shot.angle for shot in shots[:5]]
    np.testing.assert_array_equal(again[4](), shots[4]())
    angles = np.array([shot.angle for shot in shots])
    assert np.abs(angles).max() <= 1
    offsets = [simulator.place(shot.track, shot.car).offset for shot in shots]
    assert np.std(offsets) > 0.1


def test_no_frame_in_front_of_a_fork_tells_the_branch_and_each_map_does():
    one = simulator.road(3, 300, forks=True)
    fork = one.forks[0]
    other = fork.other._replace(forks=(fork._replace(other=one),))
    car = simulator.start(one, fork.along - 15)
    np.testing.assert_array_equal(simulator.frame(one, car), simulator.frame(other, car))
    assert (simulator.frame(one, car) != simulator.frame(one._replace(forks=()), car)).any()
    maps = [simulator.route_map(track, car)[..., 0] for track in (one, other)]
    assert set(np.unique(maps)) == {0.0, 0.5, 1.0}
    for first, second in (maps, maps[::-1]):
        is_branch = first == 0.5
        assert is_branch.sum() > 10
        assert (second[is_branch] == 1).all()  # what is not the one's route is the other's


def test_branches_of_a_fork_bend_by_the_same_angle_to_either_side():
    for seed in range(3):
        track = simulator.road(seed, 300, forks=True)
        assert len(track.forks) >= 2
        for fork in track.forks:
            place = round(fork.along / simulator.SPACING)
            turned = [road.heading[place + 48] - road.heading[place - 16] for road in (track, fork.other)]
            assert turned[0] == pytest.approx(-turned[1])
            assert abs(turned[0]) == pytest.approx(simulator.BEND / simulator.BENT, abs=0.02)


def test_a_map_lies_as_the_car_does_and_is_as_large_as_it_says():
    car = simulator.start(STRAIGHT, 60)  # in the right lane, half a lane right of the middle line
    patch = simulator.route_map(STRAIGHT, car)[..., 0]
    assert patch.shape == simulator.MAP
    columns = np.flatnonzero(patch[5])
    middle = simulator.MAP[1] / 2 - simulator.LANE / 2 / simulator.CELL  # left of the car
    assert columns.mean() + 0.5 == pytest.approx(middle, abs=0.5)
    np.testing.assert_array_equal(patch[0], patch[-1])
    turned = simulator.route_map(STRAIGHT, simulator.start(STRAIGHT, 60, heading=0.5))[..., 0]
    assert (
        np.flatnonzero(turned[2]).mean() > np.flatnonzero(turned[-2]).mean() + 8
    )  # left of the heading is right of it


def test_frames_at_a_fork_are_those_where_the_branches_ask_for_other_angles_and_none_is_taken():
    shots = [shot for shot in simulator.recording(3, 300, wander=0.0, hand=0.0, forks=True) if shot.is_at_fork]
    forks = shots[0].track.forks
    assert len(shots) > 10
    for shot in shots:
        assert any(-20 < shot.car.along - fork.along < simulator.TAKEN for fork in forks)
    assert not any(shot.is_at_fork for shot in simulator.recording(3, 300, wander=0.0, hand=0.0))
