"""Figures of pixels against scikit-learn, borders against a slow reading of their definition, and laws of both."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as oracle

from cnn_keras.errors import Fault
from cnn_keras.metrics import segmentation

CLASSES = 4


@pytest.fixture(scope="module")
def pair():
    drawn = np.random.default_rng(0)
    truth = drawn.integers(-1, 3, (3, 20, 30))  # class 3 is never true
    answer = np.where(drawn.random(truth.shape) < 0.6, np.maximum(truth, 0), drawn.integers(0, CLASSES, truth.shape))
    return truth, answer


def test_the_confusion_matrix_is_scikit_learns(pair):
    truth, answer = pair
    expected = oracle.confusion_matrix(truth[truth >= 0], answer[truth >= 0], labels=range(CLASSES))
    np.testing.assert_array_equal(segmentation.confusion(truth, answer, CLASSES), expected)


def test_the_figures_are_scikit_learns(pair):
    truth, answer = pair
    found = segmentation.scores(segmentation.confusion(truth, answer, CLASSES))
    known = truth[truth >= 0], answer[truth >= 0]
    each = {"labels": range(CLASSES), "average": None, "zero_division": 0}
    np.testing.assert_allclose(found.iou, oracle.jaccard_score(*known, **each))
    np.testing.assert_allclose(found.dice, oracle.f1_score(*known, **each))
    np.testing.assert_allclose(found.precision, oracle.precision_score(*known, **each))
    np.testing.assert_allclose(found.accuracy[:3], oracle.recall_score(*known, **each)[:3])
    assert np.isnan(found.accuracy[3])  # never true
    assert found.pixel_accuracy == pytest.approx(oracle.accuracy_score(*known))
    assert found.mean_accuracy == pytest.approx(oracle.recall_score(*known, labels=range(3), average="macro"))
    assert found.mean_iou == pytest.approx(oracle.jaccard_score(*known, labels=range(CLASSES), average="macro"))
    weighted = oracle.jaccard_score(*known, labels=range(CLASSES), average="weighted")
    assert found.frequency_weighted_iou == pytest.approx(weighted)


def test_a_class_that_is_neither_true_nor_said_is_left_out_of_the_means():
    found = segmentation.scores(np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert np.isnan(found.iou[2])
    assert found.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert found.mean_dice == pytest.approx((12 / 15 + 6 / 9) / 2)


def test_nothing_known_gives_no_figure():
    found = segmentation.scores(np.zeros((2, 2)))
    assert found.pixel_accuracy == 0
    assert np.isnan(found.mean_iou)


def test_counts_of_pictures_add_up(pair):
    truth, answer = pair
    parts = sum(segmentation.confusion(*one, CLASSES) for one in zip(truth, answer, strict=True))
    np.testing.assert_array_equal(parts, segmentation.confusion(truth, answer, CLASSES))


def test_shapes_that_differ_are_refused():
    with pytest.raises(Fault, match=r"answer must have the shape of the truth, \[2, 3\], got \[3, 2\]"):
        segmentation.confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


def slow_border(labels, number):
    """Places (row, column) of the border pixels of a class, pixel by pixel."""
    found = []
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            near = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            near = [labels[v, u] for v, u in near if 0 <= v < height and 0 <= u < width]
            if labels[y, x] == number and any(other not in (number, -1) for other in near):
                found.append((y, x))
    return np.array(found, float).reshape(-1, 2)


def slow_score(truth, answer, number, tolerance):
    true, said = slow_border(truth, number), slow_border(np.where(truth < 0, -1, answer), number)
    apart = np.sqrt(((true[:, None] - said[None]) ** 2).sum(axis=-1))
    precision, recall = (apart.min(axis=0) <= tolerance).mean(), (apart.min(axis=1) <= tolerance).mean()
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("tolerance", [1.0, 1.5, 3.0])
def test_the_f_score_of_borders_is_its_definition(tolerance):
    truth, answer = np.zeros((24, 30), int), np.zeros((24, 30), int)
    truth[5:15, 6:20], answer[6:18, 4:19] = 1, 1
    truth[:3] = -1
    found = segmentation.border_f(segmentation.border_counts(truth, answer, 2, tolerance=tolerance))
    expected = [slow_score(truth, answer, number, tolerance) for number in (0, 1)]
    np.testing.assert_allclose(found, expected)
    assert 0 < found[1] < 1


def test_borders_that_agree_score_one_and_those_that_are_nowhere_nothing():
    truth = np.zeros((8, 8), int)
    truth[2:5, 2:5] = 1
    same = segmentation.border_f(segmentation.border_counts(truth, truth, 3, tolerance=0))
    np.testing.assert_array_equal(same, [1, 1, np.nan])
    missed = segmentation.border_f(segmentation.border_counts(truth, np.zeros_like(truth), 2, tolerance=2))
    np.testing.assert_array_equal(missed, [0, 0])


def test_volumes_have_borders_too():
    truth = np.zeros((6, 6, 6), int)
    truth[2:4, 2:4, 2:4] = 1
    counts = segmentation.border_counts(truth, np.roll(truth, 1, axis=0), 2, tolerance=1)
    assert counts[1].tolist() == [8, 8, 8, 8]
    assert segmentation.border_counts(truth, np.roll(truth, 1, axis=0), 2, tolerance=0)[1].tolist() == [8, 4, 8, 4]


def slow_distances(truth, answer, number, spacing):
    """Of all pairs of border voxels: the Hausdorff distance at 95 % and the average surface distance."""
    borders = [voxel_border(labels, number) * np.array(spacing) for labels in (truth, answer)]
    apart = np.linalg.norm(borders[0][:, None] - borders[1][None], axis=-1)
    here, there = apart.min(axis=0), apart.min(axis=1)
    hausdorff = max(np.percentile(here, 95), np.percentile(there, 95))
    return hausdorff, (here.sum() + there.sum()) / (len(here) + len(there))


def voxel_border(labels, number):
    """Places of the voxels of a class that have a neighbour across one of their six sides which is of another."""
    steps = [sign * np.eye(labels.ndim, dtype=int)[axis] for axis in range(labels.ndim) for sign in (-1, 1)]
    return np.array(
        [
            place
            for place in np.argwhere(labels == number)
            if any(
                ((place + step) >= 0).all()
                and ((place + step) < labels.shape).all()
                and labels[tuple(place + step)] != number
                for step in steps
            )
        ]
    )


def test_distances_of_surfaces_are_those_of_all_pairs():
    drawn = np.random.default_rng(0)
    truth = (ndimage.gaussian_filter(drawn.normal(size=(14, 18, 10)), 2) > 0.02).astype(int)
    answer = (ndimage.gaussian_filter(drawn.normal(size=(14, 18, 10)), 2) > 0.04).astype(int)
    spacing = (0.7, 2.0, 3.5)
    found = segmentation.surface_distances(truth, answer, 3, spacing=spacing)
    for number in (0, 1):
        np.testing.assert_allclose(found[number], slow_distances(truth, answer, number, spacing))
    assert np.isnan(found[2]).all()


def test_a_shift_is_as_far_as_the_voxels_are_large():
    truth = np.zeros((20, 20, 20), int)
    truth[5:15, 5:15, 8] = 1  # a plane, one voxel thick
    moved = np.roll(truth, 3, axis=2)
    assert segmentation.surface_distances(truth, moved, 2, spacing=(1, 1, 2.5))[1].tolist() == [7.5, 7.5]
    assert segmentation.surface_distances(truth, moved, 2)[1].tolist() == [3, 3]
    assert segmentation.surface_distances(truth, truth, 2)[1].tolist() == [0, 0]
    assert np.isnan(segmentation.surface_distances(truth, np.zeros_like(truth), 2)).all()
