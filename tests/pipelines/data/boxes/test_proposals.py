"""Selective search: rectangles are found, the same way every time, and kept on disk."""

import sys

import numpy as np
import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from cnn_keras.metrics.average_precision import pairwise_iou
from pipelines.data.boxes import proposals as file
from pipelines.data.boxes.proposals import proposals, proposals_of_split, recall

# Left, top, right, bottom in pixels of 160 by 120, and a colour.
RECTANGLES = {
    (10, 15, 50, 45): (220, 40, 40),
    (70, 10, 140, 40): (40, 200, 60),
    (20, 60, 60, 110): (50, 60, 220),
    (90, 60, 150, 105): (230, 220, 60),
}
TRUTH = np.array(list(RECTANGLES)) / [160, 120, 160, 120]
CONSOLE = Console(quiet=True)


def picture(shift=0):
    image = np.full((120, 160, 3), 128, np.uint8)
    for (left, top, right, bottom), colour in RECTANGLES.items():
        image[top:bottom, left + shift : right + shift] = colour
    return image


@pytest.mark.parametrize("mode", ["single", "fast"])
def test_rectangles_are_found(mode):
    found = proposals(picture(), mode=mode)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.all(found[:, :2] < found[:, 2:])
    assert np.all(pairwise_iou(found, TRUTH).max(axis=0) > 0.85)
    assert recall([found], [TRUTH])[100] == 1


def test_a_thing_is_found_that_only_its_colour_sets_off():
    """Red and blue of the same mean over the three channels."""
    image = np.zeros((80, 80, 3), np.uint8)
    image[:, :, 0] = 200
    image[20:60, 20:60] = (0, 0, 200)
    assert pairwise_iou(proposals(image), [(0.25, 0.25, 0.75, 0.75)]).max() > 0.85


def test_the_same_picture_has_the_same_proposals_and_fewer_are_its_first():
    all_of_them, again, first = proposals(picture()), proposals(picture()), proposals(picture(), most=3)
    np.testing.assert_array_equal(all_of_them, again)
    np.testing.assert_array_equal(all_of_them[:3], first)
    assert len(np.unique(all_of_them, axis=0)) == len(all_of_them)


def test_large_and_narrow_pictures_and_those_without_anything_are_searched():
    large = np.repeat(np.repeat(picture(), 6, axis=0), 6, axis=1)
    assert np.all(pairwise_iou(proposals(large), TRUTH).max(axis=0) > 0.85)
    for shape in ((1, 1, 3), (3, 400, 3), (64, 64, 3)):
        found = proposals(np.full(shape, 77, np.uint8))
        assert found.shape[1:] == (4,)
        assert len(found) <= 1  # the whole picture at most
    with pytest.raises(ValueError, match="image must be uint8"):
        proposals(np.zeros((8, 8, 3)))


def test_recall_counts_the_true_boxes_among_the_first_proposals():
    truth = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0, 0]])  # the last is padding
    far = np.tile([0.9, 0.0, 1.0, 0.1], (150, 1))
    found = np.concatenate([truth[:1], far, truth[1:2]])
    assert recall([found], [truth]) == {100: 1 / 2, 300: 1, 1000: 1, 2000: 1}
    assert recall([found, np.zeros((0, 4))], [truth, truth])[2000] == 1 / 2
    assert recall([found], [truth[2:]]) == dict.fromkeys((100, 300, 1000, 2000), 0.0)


def test_a_search_is_kept_and_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "PART", 2)
    pictures, asked = [picture(shift) for shift in range(5)], []

    def images(start, broken=None):
        for number in range(start, 5):
            if number == broken:
                raise OSError("the disk is gone")
            asked.append(number)
            yield pictures[number]

    settings = {"count": 5, "digest": "a", "console": CONSOLE, "mode": "single"}
    with pytest.raises(OSError, match="the disk is gone"):
        proposals_of_split(lambda start: images(start, broken=3), tmp_path / "test", **settings)
    asked.clear()
    found = proposals_of_split(images, tmp_path / "test", **settings)
    assert asked == [2, 3, 4]
    for rows, image in zip(found, pictures, strict=True):
        expected = proposals(image, mode="single")
        np.testing.assert_array_equal(rows[: len(expected)], expected)
        assert not rows[len(expected) :].any()
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]
    asked.clear()
    np.testing.assert_array_equal(proposals_of_split(images, tmp_path / "test", **settings), found)
    assert asked == []
    few = proposals_of_split(images, tmp_path / "test", **settings | {"most": 2})
    assert few.shape == (5, 2, 4)
    assert proposals_of_split(images, tmp_path / "none", **settings | {"count": 0}).shape == (0, 0, 4)
    with pytest.raises(ValueError, match="images must be 6, got 5"):
        proposals_of_split(images, tmp_path / "test", **settings | {"count": 6})


@pytest.mark.parametrize("lacking", [None, object()])
def test_without_the_contributed_modules_the_remedy_is_named(lacking, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", lacking)
    with pytest.raises(Fault, match="pip install opencv-contrib-python-headless"):
        proposals(picture())
