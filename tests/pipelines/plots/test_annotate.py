"""Boxes drawn on images: where they are to be, in their colours, with labels that can be read."""

import numpy as np
import pytest

from pipelines.plots import annotate
from pipelines.plots.annotate import Truth, colour, draw_boxes

GREY = np.tile(np.arange(8, dtype=np.uint8) * 36, (8, 1))
RED = np.full((30, 60, 3), (255, 0, 0), np.uint8)
NAMES = ["Bachman's northern red-winged sparrow", "$5 & $x_", "猫", "two\nlines", "\udcff undecodable", ""]


def marked(picture, shade):
    """Return where the colour, "#rrggbb", is: left, top, right, bottom, in pixels."""
    here = np.all(picture == list(bytes.fromhex(shade[1:])), axis=2)
    (left, right), (top, bottom) = (np.flatnonzero(here.any(axis=axis))[[0, -1]] for axis in (0, 1))
    return [int(left), int(top), int(right) + 1, int(bottom) + 1]


def test_boxes_lie_just_inside_their_edges_and_leave_the_rest_alone():
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[50.0, 60, 150, 200]]), [""])
    assert marked(drawn, colour(0)) == [50, 60, 150, 200]
    changed = np.any(drawn != image, axis=2)
    assert not changed[62:198, 52:148].any()
    changed[60:200, 50:150] = False
    assert not changed.any()
    np.testing.assert_array_equal(draw_boxes(image, np.zeros((0, 4)), []), image)


def test_labels_lie_above_their_box_and_never_outside_the_picture():
    image = np.full((300, 400, 3), 90, np.uint8)
    above = marked(draw_boxes(image, np.array([[50, 60, 150, 200]]), ["tree"], [0.5]), colour(0))
    assert 40 < above[1] < 50
    assert above[0] == 50
    for box in ([-9, -9, 20, 20], [390, 290, 500, 400], [380, 0, 400, 300], [500, 500, 600, 600]):
        for name in NAMES:
            assert draw_boxes(image, np.array([box]), [name], [0.5]).shape == image.shape


def test_labels_hide_neither_each_other_nor_in_a_crowd_their_boxes():
    image = np.full((300, 400, 3), 90, np.uint8)
    twice = draw_boxes(image, np.array([[50, 60, 150, 200]] * 2), ["tree"] * 2, [0.5, 0.9], classes=[3, 9])
    assert marked(twice, colour(9))[1] < 50  # the better one above
    assert marked(twice, colour(3))[3] > 210  # the other below
    grid = np.array([[x, y, x + 8, y + 8] for x in range(20, 380, 40) for y in range(20, 280, 40)])
    scores = [0.5] * len(grid)
    few, many = draw_boxes(image, grid[:10], [""] * 10, scores[:10]), draw_boxes(image, grid, [""] * len(grid), scores)
    for picture, count in ((few, 10), (many, len(grid))):
        drawn = np.all(picture == list(bytes.fromhex(colour(0)[1:])), axis=2).sum()
        assert (drawn > 100 * count) == (picture is few)


def test_every_class_has_its_colour_whichever_else_is_drawn():
    image, boxes = np.zeros((300, 400, 3), np.uint8), np.array([[50, 60, 150, 200], [200, 60, 300, 200]])
    both, one = draw_boxes(image, boxes, ["", ""], classes=[3, 9]), draw_boxes(image, boxes[1:], [""], classes=[9])
    assert marked(both, colour(3)) == [50, 60, 150, 200]
    assert marked(both, colour(9)) == marked(one, colour(9)) == [200, 60, 300, 200]
    assert len({colour(number) for number in range(60)}) == 60


def test_the_truth_is_dashed_in_black_and_white():
    image = np.full((300, 400, 3), 90, np.uint8)
    drawn = draw_boxes(image, np.zeros((0, 4)), [], truth=Truth(np.array([[50, 60, 150, 200]]), [""]))
    assert marked(drawn, "#ffffff") == marked(drawn, "#000000") == [50, 60, 150, 200]
    assert len(np.unique(drawn[60, 50:150], axis=0)) == 2
    named = draw_boxes(image, np.zeros((0, 4)), [], truth=Truth(np.array([[50, 60, 150, 200]]), ["tree"]))
    assert marked(named, "#ffffff")[3] > 210  # below the box


@pytest.mark.parametrize("image", [GREY, GREY[..., None], RED])
def test_small_pictures_with_boxes_are_enlarged_by_whole_pixels(image):
    scale = 256 // max(image.shape)
    drawn = draw_boxes(image, np.array([[1, 1, 5, 4]]), [""])
    assert drawn.shape == (scale * image.shape[0], scale * image.shape[1], 3) or image is RED
    assert max(drawn.shape) >= 256
    factor = drawn.shape[1] // image.shape[1]
    assert marked(drawn, colour(0)) == [factor, factor, 5 * factor, 4 * factor]
    assert len(np.unique(drawn[-factor:, -factor:].reshape(-1, 3), axis=0)) == 1  # one pixel of the image


def test_a_side_is_as_long_as_asked_for():
    image = np.zeros((300, 600, 3), np.uint8)
    for side in (100, 900):
        drawn = draw_boxes(image, np.array([[60, 60, 300, 240]]), [""], side=side)
        assert drawn.shape == (side // 2, side, 3)
        np.testing.assert_allclose(marked(drawn, colour(0)), np.array([60, 60, 300, 240]) * side / 600, atol=1)


def test_boxes_without_their_names_are_refused():
    with pytest.raises(ValueError, match="names must have 1 entries"):
        draw_boxes(RED, np.array([[0, 0, 1, 1]]), [])
    with pytest.raises(ValueError, match="scores must have 1 entries"):
        draw_boxes(RED, np.array([[0, 0, 1, 1]]), ["a"], [])
    with pytest.raises(ValueError, match="images must be uint8"):
        draw_boxes(RED / 255, np.array([[0, 0, 1, 1]]), ["a"])


def test_a_font_is_opened_once_for_all_that_is_written_with_it(monkeypatch):
    """A font takes a quarter of a megabyte, and the numbers of a film's objects never end."""
    opened = []
    truetype = annotate.ImageFont.truetype
    monkeypatch.setattr(annotate.ImageFont, "truetype", lambda *file: opened.append(file) or truetype(*file))
    for number in range(50):
        draw_boxes(RED, np.array([[5.0, 40, 150, 200]]), [f"person #{number}"], side=2311)  # of no other test
    assert len(opened) == 1
