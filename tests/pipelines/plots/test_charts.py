"""Figures with axes: whole PNG files for few and many classes, long and short histories."""

import numpy as np
import pytest
from PIL import Image

from cnn_keras.metrics.classification import reliability_bins
from pipelines.plots.charts import (
    LINES,
    Panel,
    Precision,
    class_balance,
    confusion_matrix,
    curves,
    panels,
    precision_recall,
    reliability,
)
from pipelines.plots.image_grid import BLUE, ORANGE

HISTORY = [
    {
        "epoch": epoch,
        "loss": 2 / epoch,
        "accuracy": 1 - 0.9 / epoch,
        "val_loss": 2.2 / epoch,
        "val_accuracy": 0.95 - 0.9 / epoch,
        "learning_rate": 1e-3,
    }
    for epoch in range(1, 6)
]


def pixels(path):
    """Read a picture back, decoded in full, as RGB [H, W, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def area(picture, colour):
    """Return how many pixels have the colour, "#rrggbb", give or take a rounding."""
    distance = np.abs(picture.astype(int) - list(bytes.fromhex(colour[1:])))
    return int(np.sum(np.all(distance <= 1, axis=2)))


def test_curves_have_a_panel_for_each_quantity(tmp_path):
    everything = pixels(curves(HISTORY, tmp_path / "a.png"))
    loss_only = pixels(curves([{"loss": row["loss"]} for row in HISTORY], tmp_path / "b.png"))
    assert everything.shape[0] > 1.8 * loss_only.shape[0]
    assert area(everything, BLUE) > 100
    assert area(everything, ORANGE) > 100
    assert area(loss_only, BLUE) > 100
    assert area(loss_only, ORANGE) == 0  # no validation, so neither curve nor star


def test_curves_read_text_and_gaps_and_end_at_divergence(tmp_path):
    rows = [{key: str(value) for key, value in row.items()} for row in HISTORY]
    rows.append({"epoch": "6", "loss": "nan", "val_loss": "", "learning_rate": "inf"})
    assert pixels(curves(rows, tmp_path / "a.png")).shape[0] > 500
    assert pixels(curves(HISTORY[:1], tmp_path / "b.png")).shape[0] > 500


def test_the_star_stands_at_the_best_epoch(tmp_path):
    first, last = (pixels(curves(HISTORY, tmp_path / f"{best}.png", best=best)) for best in (1, 5))
    assert np.any(first != last)
    np.testing.assert_array_equal(last, pixels(curves(HISTORY, tmp_path / "found.png")))
    with pytest.raises(ValueError, match="9 is not in list"):
        curves(HISTORY, tmp_path / "a.png", best=9)


@pytest.mark.parametrize("classes", [1, 2, 10, 26, 131])
def test_a_confusion_matrix_shows_right_blue_and_wrong_orange(classes, tmp_path):
    names = [f"Bachman's northern red-winged sparrow ${number}" for number in range(classes)]
    right = pixels(confusion_matrix(np.eye(classes, dtype=int), names, tmp_path / "a.png"))
    assert 350 < min(right.shape[:2]) <= max(right.shape[:2]) < 2200
    assert area(right, BLUE) > 1000
    assert area(right, ORANGE) == 0
    if classes > 1:
        wrong = pixels(confusion_matrix(np.eye(classes, k=1, dtype=int), names, tmp_path / "a.png"))
        assert area(wrong, ORANGE) > 1000
        assert area(wrong, BLUE) == 0


def test_a_single_mistake_among_thousands_is_seen(tmp_path):
    picture = pixels(confusion_matrix(np.array([[9999, 1], [0, 9999]]), ["a", "b"], tmp_path / "a.png")).astype(int)
    assert np.sum(picture[..., 0] - picture[..., 2] > 30) > 5000


def test_reliability_draws_empty_bins_and_certainty(tmp_path):
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet(np.ones(3), 50), random.integers(0, 3, 50)
    for path, values in (("a.png", probabilities), ("b.png", np.eye(3)[labels])):
        picture = pixels(reliability(reliability_bins(values, labels), 0.1, tmp_path / path))
        assert picture.shape == (696, 600, 3)
        assert area(picture, BLUE) > 20


def test_class_balance_grows_with_the_classes(tmp_path):
    heights = []
    for classes in (1, 20, 140):
        counts = {split: {f"class {row}": row % 7 for row in range(classes)} for split in ("train", "test")}
        heights.append(len(pixels(class_balance(counts, tmp_path / "a.png"))))
    assert heights == sorted(heights)
    assert heights[2] < 2200


def test_class_balance_draws_bars_in_proportion(tmp_path):
    picture = pixels(class_balance({"training": {"a": 1000, "b": 500}}, tmp_path / "a.png"))
    blue = np.all(picture == list(bytes.fromhex(BLUE[1:])), axis=2)
    lengths = [np.sum(row) for row in blue if np.sum(row) > 100]
    assert max(lengths) / min(lengths) == pytest.approx(2, rel=0.03)


def test_panels_draw_each_line_in_its_colour_and_say_what_diverged(tmp_path):
    nan, never = float("nan"), float("inf")
    points = [(0.01, 0.5), (0.1, 0.2), (1, 0.1)]
    whole, lost, once = (
        pixels(
            panels([Panel("error", "rate", lines={"a": points, "b": b}, log="xy")], tmp_path / "a.png", heading="$5")
        )
        for b in (points[::-1], [(0.01, 0.4), (0.1, never), (1, nan)], [(1, 0.0)])
    )
    assert whole.shape == lost.shape
    assert area(whole, LINES[1]) > 300  # of the same height as the first, which it hides
    assert area(whole, LINES[0]) < area(lost, LINES[0])
    assert 10 < area(lost, LINES[1]) < area(whole, LINES[1])
    assert area(once, LINES[1]) > 10  # a nought has no logarithm: only the legend


def test_bars_are_drawn_in_proportion(tmp_path):
    panel = Panel("multiply-adds", bars={"a": 3000, "b": 1000})
    picture = pixels(panels([panel], tmp_path / "a.png", heading="a claim"))
    longest = [max(np.sum(np.all(picture == list(bytes.fromhex(colour[1:])), axis=2), axis=1)) for colour in LINES[:2]]
    assert longest[0] / longest[1] == pytest.approx(3, rel=0.05)


def test_panels_stand_below_each_other(tmp_path):
    panel = Panel("error", "epoch", lines={"a": [(1, 0.5), (2, 0.2)]}, marked=0.3)
    one, two = (pixels(panels([panel] * count, tmp_path / "a.png", heading="x")) for count in (1, 2))
    assert two.shape[0] > 1.7 * one.shape[0]


def test_a_heading_takes_the_place_of_the_share_that_is_right(tmp_path):
    plain, headed = (
        pixels(confusion_matrix(np.eye(3, dtype=int), ["a", "b", "c"], tmp_path / "a.png", **heading))
        for heading in ({}, {"heading": "3 objects"})
    )
    differ = np.any(plain != headed, axis=(1, 2))
    assert differ[:42].any()
    assert not differ[42:].any()


@pytest.mark.parametrize("classes", [0, 1, 6, 40])
def test_precision_is_drawn_against_recall_and_of_many_classes_only_the_ends_in_colour(classes, tmp_path):
    recall, precision = np.array([0.2, 0.4, 0.4, 0.6]), np.array([1.0, 1.0, 0.5, 0.6])
    drawn = [Precision(f"$class {n}", n / 100, recall, precision * (1 - n / 100), (0.4, 0.5)) for n in range(classes)]
    picture = pixels(precision_recall(drawn, tmp_path / "a.png", heading="heading " * 30))
    assert [area(picture, shade) > 100 for shade in LINES] == [number < classes for number in range(len(LINES))]


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one epoch"):
        curves([], tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"matrix must have shape \[C, C\]"):
        confusion_matrix(np.zeros((2, 3), int), ["a", "b"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="class_names must have 2 entries, one for each, got 3"):
        confusion_matrix(np.eye(2, dtype=int), ["a", "b", "c"], tmp_path / "a.png")
    with pytest.raises(ValueError, match="compared must hold at least one panel"):
        panels([], tmp_path / "a.png", heading="")
    with pytest.raises(ValueError, match="counts must hold at least one split"):
        class_balance({"training": {}}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
