"""Objects as points: radii by trying corners out, heat maps by loops, the focal loss by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.losses import center_points
from cnn_keras.models import centernet


def iou(first, second):
    sides = [min(first[2 + axis], second[2 + axis]) - max(first[axis], second[axis]) for axis in (0, 1)]
    common = max(sides[0], 0) * max(sides[1], 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return common / (both - common)


@pytest.mark.parametrize(("width", "height"), [(10.0, 10.0), (3.0, 30.0), (57.0, 8.0)])
@pytest.mark.parametrize("overlap", [0.3, 0.7])
def test_corners_moved_by_the_radius_leave_the_overlap_that_was_asked_for(width, height, overlap):
    radius = float(center_points.radius(tf.constant(width), tf.constant(height), overlap=overlap))
    box = np.array([0.0, 0.0, width, height])
    moves = [[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, 1]]
    assert min(iou(box, box + radius * np.array(move)) for move in moves) == pytest.approx(overlap, abs=1e-4)


BOXES = np.array([[[1.2, 2.1, 9.9, 12.3], [4.0, 4.0, 12.0, 13.0], [0.0, 0.0, 0.0, 0.0], [13.0, 1.0, 15.9, 3.0]]], "f")
LABELS = np.array([[1, 1, 0, 0]])


def test_heat_maps_are_gaussians_as_wide_as_boxes_allow_and_the_highest_counts():
    expected = np.zeros((16, 20, 2))
    for (left, top, right, bottom), label in zip(BOXES[0], LABELS[0], strict=True):
        if right > left:
            reach = int(center_points.radius(tf.constant(right - left), tf.constant(bottom - top)))
            column, row, sigma = int((left + right) / 2), int((top + bottom) / 2), (2 * reach + 1) / 6
            for y in range(max(row - reach, 0), min(row + reach, 15) + 1):
                for x in range(max(column - reach, 0), min(column + reach, 19) + 1):
                    value = math.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma**2))
                    expected[y, x, label] = max(expected[y, x, label], value)
    actual = center_points.heatmaps(tf.constant(BOXES), tf.constant(LABELS), size=(16, 20), classes=2)
    np.testing.assert_allclose(actual[0], expected, atol=1e-6)
    assert (expected == 1).sum() == 3


def test_the_focal_loss_is_the_papers_first_equation():
    probabilities, targets = np.array([0.9, 0.2, 0.5, 0.3]), np.array([1.0, 1.0, 0.8, 0.0])
    logits = np.log(probabilities / (1 - probabilities))
    by_hand = -(0.1**2 * math.log(0.9) + 0.8**2 * math.log(0.2) + 0.2**4 * 0.5**2 * math.log(0.5))
    by_hand -= 0.3**2 * math.log(0.7)
    actual = center_points.penalty_reduced_focal_loss(tf.constant(logits), tf.constant(targets))
    assert float(actual) == pytest.approx(by_hand, rel=1e-6)


def true_outputs():
    """Distances that tell the boxes of BOXES, and their heat map."""
    distances = np.zeros((1, 16, 20, 4), "float32")
    for left, top, right, bottom in BOXES[0]:
        column, row = int((left + right) / 2), int((top + bottom) / 2)
        distances[0, row, column] = column - left, row - top, right - column, bottom - row
    return distances, center_points.heatmaps(tf.constant(BOXES), tf.constant(LABELS), size=(16, 20), classes=2)


def test_size_and_offset_are_l1_of_what_the_distances_say():
    distances, heatmap = true_outputs()
    unit = BOXES / np.array([20, 16, 20, 16], "f")
    logits = tf.math.log(heatmap + 1e-9)
    terms = center_points.loss(logits, tf.constant(distances), tf.constant(unit), tf.constant(LABELS))
    assert float(terms["size"]) == pytest.approx(0, abs=1e-5)
    assert float(terms["offset"]) == pytest.approx(0, abs=1e-5)
    wider = distances + np.array([0, 0, 2, 0], "f")  # two wider, one further right
    terms = center_points.loss(logits, tf.constant(wider), tf.constant(unit), tf.constant(LABELS))
    assert float(terms["size"]) == pytest.approx(0.1 * 2, abs=1e-5)
    assert float(terms["offset"]) == pytest.approx(1, abs=1e-5)


def test_what_is_encoded_is_decoded():
    distances, heatmap = true_outputs()
    boxes, scores = center_points.decode(heatmap, tf.constant(distances), limit=5)
    pixels, labels, best = (
        boxes[0].numpy() * [20, 16, 20, 16],
        np.argmax(scores[0], axis=-1),
        np.max(scores[0], axis=-1),
    )
    assert (best == 1).sum() == 3
    found = sorted((*box, label) for box, label in zip(pixels[best == 1], labels[best == 1], strict=True))
    truth = sorted((*box, label) for box, label in zip(BOXES[0], LABELS[0], strict=True) if box[2] > box[0])
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_a_corner_aligned_map_is_tensorflow_ones_resize():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    larger = centernet.CornerUpSampling2D()(maps).numpy()
    np.testing.assert_allclose(larger[:, ::2, ::2], maps, atol=1e-6)
    np.testing.assert_allclose(larger[:, ::2, 1:-1:2], (maps[:, :, 1:] + maps[:, :, :-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(larger[:, -1], larger[:, -2], atol=1e-6)  # nothing beyond the border
