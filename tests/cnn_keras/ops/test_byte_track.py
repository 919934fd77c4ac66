"""Objects across frames: by hand in small cases, and in films of which every identity is known."""

import numpy as np
import pytest

from cnn_keras.data.sources.synthetic.films import film
from cnn_keras.errors import Fault
from cnn_keras.ops.byte_track import ByteTrack
from tests.noisy_boxes import noisy


def box(x, y=50.0, size=20.0):
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


def follow(frames, **settings):
    """The ids and the classes in each frame of [(box, score, class), …]."""
    tracker, seen = ByteTrack(**settings), []
    for things in frames:
        boxes, scores, classes = zip(*things, strict=True) if things else ([], [], [])
        tracks = tracker.update(np.array(boxes).reshape(-1, 4), np.array(scores), np.array(classes, int))
        seen.append(tracks)
    return seen


def ids(frames, **settings):
    return [tracks.ids.tolist() for tracks in follow(frames, **settings)]


def test_an_object_that_moves_keeps_its_id_and_its_box():
    seen = follow([[(box(4.0 * frame), 0.9, 2)] for frame in range(20)])
    assert all(tracks.ids.tolist() == [1] for tracks in seen)
    np.testing.assert_allclose(seen[-1].boxes, [box(76.0)])
    assert (seen[-1].scores.tolist(), seen[-1].classes.tolist()) == ([0.9], [2])


def test_two_objects_that_pass_each_other_keep_their_ids():
    frames = [[(box(5.0 * frame, 50), 0.9, 0), (box(150 - 5.0 * frame, 56), 0.9, 0)] for frame in range(31)]
    for tracks in follow(frames):
        assert tracks.ids.tolist() == [1, 2]
    assert tracks.boxes[0, 0] > tracks.boxes[1, 0]


def test_a_box_with_a_low_score_continues_a_track_and_begins_none():
    faint = [[(box(3.0 * frame), 0.9 if frame < 5 else 0.2, 0), (box(200), 0.2, 0)] for frame in range(10)]
    assert ids(faint) == [[1]] * 10
    assert ids(faint, low=0.3) == [[1]] * 5 + [[]] * 5


def test_high_scores_are_associated_first():
    """A likely box that overlaps less has the track, though an unlikely one lies exactly on it."""
    seen = follow([[(box(50), 0.9, 0)]] * 3 + [[(box(50), 0.3, 0), (box(56), 0.9, 0)]])
    np.testing.assert_allclose(seen[-1].boxes, [box(56)])


@pytest.mark.parametrize(("missing", "expected"), [(6, 1), (7, 2)])
def test_a_lost_track_comes_back_within_the_buffer(missing, expected):
    moving = [[(box(3.0 * frame), 0.9, 0)] for frame in range(40)]
    frames = [things if not 20 <= row < 20 + missing else [] for row, things in enumerate(moving)]
    seen = follow(frames, buffer=6)
    assert seen[-1].ids.tolist() == [expected]
    assert seen[21].lost.tolist() == [1]
    assert seen[-1].lost.tolist() == []


def test_a_box_of_another_class_is_another_object():
    assert ids([[(box(50), 0.9, 0)]] * 3 + [[(box(50), 0.9, 1)]] * 2) == [[1]] * 3 + [[], [2]]


def test_what_is_seen_once_has_no_id():
    steady = (box(50), 0.9, 0)
    frames = [[steady], [steady, (box(150), 0.9, 0)], [steady], [steady, (box(250), 0.9, 0)]]
    assert ids([*frames, frames[-1]]) == [[1], [1], [1], [1], [1, 2]]


def test_boxes_without_an_area_and_frames_without_boxes_do_no_harm():
    flat = ([10.0, 10.0, 10.0, 30.0], 0.99, 0)
    assert ids([[], [flat], [flat, (box(50), 0.9, 0)], [(box(50), 0.9, 0)], []]) == [[], [], [], [1], []]


@pytest.mark.parametrize("settings", [{"high": 0.8}, {"low": -0.1}, {"low": 0.65}, {"new": 1.2}, {"buffer": -1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(Fault):
        ByteTrack(**settings)


@pytest.mark.parametrize("seed", range(5))
def test_a_track_is_of_one_thing_however_the_boxes_shake(seed):
    """With MOTA's rule: of a thing that is found, the id changes at most once in a film of ten."""
    shown, generator, tracker = film(seed=seed), np.random.default_rng(seed), ByteTrack()
    ids_of: dict[int, list[int]] = {}
    for number in range(shown.frames):
        truth = shown.frame(number)[1]
        tracks = tracker.update(*noisy(truth, len(shown.background), generator))
        for thing, own in zip(truth.ids, truth.boxes, strict=True):
            distance = np.abs(tracks.boxes - own).max(axis=1, initial=0)
            if len(distance) and distance.min() < 5:
                ids_of.setdefault(int(thing), []).append(int(tracks.ids[distance.argmin()]))
    switches = sum(int((np.diff(ids) != 0).sum()) for ids in ids_of.values())
    assert len(ids_of) >= 8
    assert switches <= 1
