"""Sheets of images: whole PNG files of the expected size, whatever the images and the names."""

import numpy as np
import pytest
from PIL import Image

from pipelines.plots.image_grid import (
    DOTS,
    Scale,
    Strip,
    augmentation_sheet,
    contact_sheet,
    detections,
    draw_prediction,
    page,
    shorten,
    strips,
    text_width,
    worst,
)

GREY = np.tile(np.arange(8, dtype=np.uint8) * 36, (8, 1))
RED = np.full((30, 60, 3), (255, 0, 0), np.uint8)
NAMES = ["Bachman's northern red-winged sparrow", "$5 & $x_", "猫", "two\nlines", "\udcff undecodable", ""]


def pixels(path):
    """Read a picture back, decoded in full, as RGB [H, W, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def holds(picture, colour):
    return bool(np.any(np.all(picture == colour, axis=2)))


def test_a_contact_sheet_holds_grey_and_colour_in_rows(tmp_path):
    path = contact_sheet([GREY, RED, GREY[..., None]], ["0", "1", "2"], tmp_path / "sheet.png", columns=2)
    assert path == tmp_path / "sheet.png"
    picture = pixels(path)
    assert holds(picture, (255, 0, 0))
    assert holds(picture, (36, 36, 36))
    wide = pixels(contact_sheet([GREY] * 3, ["0", "1", "2"], tmp_path / "wide.png", columns=3))
    assert picture.shape[0] > 1.5 * wide.shape[0]  # two rows
    assert wide.shape[1] > picture.shape[1]


def test_small_images_keep_their_pixels_and_grey_its_range(tmp_path):
    picture = pixels(draw_prediction(GREY, "", 1.0, tmp_path / "a.png"))
    column = picture[picture.shape[0] // 3, 30:-30, 0]
    # No smoothing between them, no stretching to black and white: each level as it was, up to rounding.
    np.testing.assert_allclose(np.unique(column), GREY[0], atol=1)


def test_an_image_keeps_its_proportions(tmp_path):
    red = np.all(pixels(contact_sheet([RED], ["x"], tmp_path / "a.png")) == (255, 0, 0), axis=2)
    height, width = (np.ptp(np.flatnonzero(red.any(axis=axis))) for axis in (1, 0))
    assert width / height == pytest.approx(2, rel=0.05)


def test_any_name_can_be_written(tmp_path):
    count = len(NAMES)
    contact_sheet([RED] * count, NAMES, tmp_path / "a.png", heading=NAMES[2])
    worst([RED] * count, NAMES, NAMES[::-1], [0.5] * count, NAMES, tmp_path / "b.png")
    augmentation_sheet([(name, [RED]) for name in NAMES], tmp_path / "c.png")
    draw_prediction(RED, NAMES[0], 0.5, tmp_path / "d.png")
    strips([Strip(name, name, [RED]) for name in NAMES], tmp_path / "e.png", heading=NAMES[0], columns=NAMES[:1])
    for name in "abcde":
        assert min(pixels(tmp_path / f"{name}.png").shape[:2]) > DOTS


def test_worst_is_wider_for_more_and_says_when_there_are_none(tmp_path):
    one = pixels(worst([GREY], ["3"], ["8"], [0.97], ["digits/0001"], tmp_path / "one.png"))
    three = pixels(worst([GREY] * 3, list("123"), list("456"), [0.9, 0.8, 0.7], list("abc"), tmp_path / "b.png"))
    none = pixels(worst([], [], [], [], [], tmp_path / "none.png"))
    assert three.shape[1] > one.shape[1] > none.shape[1] > 100
    assert none.min() < 100  # the words


def test_an_augmentation_sheet_has_a_row_for_each_title(tmp_path):
    one = pixels(augmentation_sheet([("original", [GREY])], tmp_path / "one.png"))
    two = pixels(augmentation_sheet([("original", [GREY]), ("flipped", [GREY] * 5)], tmp_path / "two.png"))
    assert two.shape[0] > 1.8 * one.shape[0]
    assert two.shape[1] > one.shape[1]


def test_strips_have_a_row_each_and_scales_at_the_foot(tmp_path):
    rows = [Strip("unit 3", "4.2 to 3.9", [GREY, RED]), Strip("unit 12", "", [GREY])]
    path = tmp_path / "strips.png"
    assert strips(rows, path, heading="c3", columns=["image", "map"]) == path
    two = pixels(path)
    one = pixels(strips(rows[:1], tmp_path / "one.png", heading="c3", columns=["image", "map"]))
    assert holds(two, (255, 0, 0))
    assert two.shape[0] > 1.4 * one.shape[0]
    blue = Scale("from nothing to all", np.full((1, 8, 3), (0, 0, 255), np.uint8))
    scaled = pixels(strips(rows, path, heading="c3", scales=[blue, blue]))
    assert not holds(two, (0, 0, 255))
    assert holds(scaled[-DOTS // 3 :], (0, 0, 255))


def test_long_names_lose_their_middle_and_short_ones_nothing():
    cut = shorten(NAMES[0], 1.2)
    assert text_width(cut) <= 1.2 < text_width(NAMES[0])
    first, last = cut.split("…")
    assert NAMES[0].startswith(first)
    assert NAMES[0].endswith(last)
    assert min(len(first), len(last)) >= 5
    assert shorten("sparrow", 1.2) == "sparrow"
    assert shorten("two\nlines", 2) == "two lines"
    assert text_width(shorten("W" * 500, 0.5)) <= 0.5


def test_text_twice_as_large_is_twice_as_wide():
    assert text_width("sparrow", 16) == pytest.approx(2 * text_width("sparrow", 8), rel=0.01)


def test_no_temporary_file_is_left_and_folders_are_made(tmp_path):
    path = draw_prediction(GREY, "3", 0.9, tmp_path / "new" / "deep" / "a.png")
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_picture_leaves_the_old_one(tmp_path):
    path = draw_prediction(GREY, "3", 0.9, tmp_path / "a.png")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), page(path, 1, 1):
        _ = 1 / 0
    with pytest.raises(ValueError, match="far too big"), page(path, 1, 1) as figure:
        figure.savefig = lambda *_, **__: (_ for _ in ()).throw(ValueError("far too big"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_style_ends_with_the_page(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw_prediction(GREY, "3", 0.9, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


def test_lists_of_other_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="titles must have 2 entries, one for each, got 1"):
        contact_sheet([GREY, GREY], ["0"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        contact_sheet([GREY], ["0"], tmp_path / "a.png", columns=0)
    with pytest.raises(ValueError, match="confidences must have 1 entries, one for each, got 2"):
        worst([GREY], ["0"], ["1"], [0.5, 0.6], ["id"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="rows must hold at least one"):
        augmentation_sheet([], tmp_path / "a.png")
    with pytest.raises(ValueError, match="rows must hold at least one strip"):
        strips([], tmp_path / "a.png", heading="")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [GREY / 255, np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_images_of_other_kinds_are_refused(image, tmp_path):
    with pytest.raises(ValueError, match="images must be uint8"):
        contact_sheet([image], ["0"], tmp_path / "a.png")


def test_detections_stand_three_in_a_row(tmp_path):
    one, three, four = (
        pixels(detections([RED] * count, [["a", "b"]] * count, tmp_path / "a.png", heading="x", size=1))
        for count in (1, 3, 4)
    )
    assert three.shape[1] > 2 * one.shape[1]
    assert four.shape[1] == three.shape[1]
    assert four.shape[0] > 1.5 * three.shape[0]
