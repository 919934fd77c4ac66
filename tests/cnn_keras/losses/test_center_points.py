"""Objects as points: targets by loops over boxes and cells, the focal loss and the generalised IoU by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.losses import center_points
from cnn_keras.models import centernet

BOXES = np.array([[[1.2, 2.1, 13.9, 14.3], [6.0, 6.0, 14.0, 15.0], [0.0, 0.0, 0.0, 0.0], [13.0, 1.0, 17.9, 3.0]]], "f")
LABELS = np.array([[1, 1, 0, 0]])


def by_loops():
    """Heat map (16, 20, 2), boxes and weights of BOXES: larger boxes first, smaller ones over them."""
    heatmap, where, weights = np.zeros((16, 20, 2)), np.zeros((16, 20, 4)), np.zeros((16, 20))
    real = [(*box, label) for box, label in zip(BOXES[0], LABELS[0], strict=True) if box[2] > box[0]]
    for left, top, right, bottom, label in sorted(real, key=lambda row: -(row[2] - row[0]) * (row[3] - row[1])):
        width, height = right - left, bottom - top
        across, down = int(0.54 * width / 2), int(0.54 * height / 2)
        column, row, values = int((left + right) / 2), int((top + bottom) / 2), {}
        for y in range(max(row - down, 0), min(row + down, 15) + 1):
            for x in range(max(column - across, 0), min(column + across, 19) + 1):
                exponent = ((x - column) / ((2 * across + 1) / 6)) ** 2 + ((y - row) / ((2 * down + 1) / 6)) ** 2
                values[y, x] = math.exp(-exponent / 2)
        for place, value in values.items():
            heatmap[*place, label] = max(heatmap[*place, label], value)
            where[place] = left, top, right, bottom
            weights[place] = value * math.log(1 + width * height) / sum(values.values())
    return heatmap, where, weights


def test_targets_are_gaussians_of_the_boxes_shape_and_the_smallest_box_counts():
    expected, where, weights = by_loops()
    actual = center_points.targets(tf.constant(BOXES), tf.constant(LABELS), size=(16, 20), classes=2)
    np.testing.assert_allclose(actual.heatmap[0], expected, atol=1e-6)
    np.testing.assert_allclose(actual.weights[0], weights, atol=1e-6)
    np.testing.assert_allclose(actual.boxes[0].numpy()[weights > 0], where[weights > 0])
    assert (expected == 1).sum() == 3
    both = (np.arange(16)[:, None] >= 8) & (expected[..., 1] > 0)
    assert {tuple(box) for box in where[both]} == {tuple(BOXES[0, 0].astype(float)), tuple(BOXES[0, 1].astype(float))}


def test_the_focal_loss_is_the_papers_first_equation():
    probabilities, targets = np.array([0.9, 0.2, 0.5, 0.3]), np.array([1.0, 1.0, 0.8, 0.0])
    logits = np.log(probabilities / (1 - probabilities))
    by_hand = -(0.1**2 * math.log(0.9) + 0.8**2 * math.log(0.2) + 0.2**4 * 0.5**2 * math.log(0.5))
    by_hand -= 0.3**2 * math.log(0.7)
    actual = center_points.penalty_reduced_focal_loss(tf.constant(logits), tf.constant(targets))
    assert float(actual) == pytest.approx(by_hand, rel=1e-6)


def true_outputs():
    """Distances that tell the boxes of BOXES wherever they are asked for, and the heat map."""
    heatmap, where, _ = by_loops()
    x, y = np.meshgrid(np.arange(20), np.arange(16))
    distances = np.stack([x - where[..., 0], y - where[..., 1], where[..., 2] - x, where[..., 3] - y], axis=-1)
    return distances[None].astype("float32"), heatmap[None].astype("float32")


def test_boxes_cost_five_times_what_their_generalised_iou_lacks():
    distances, heatmap = true_outputs()
    unit = tf.constant(BOXES / np.array([20, 16, 20, 16], "f"))
    logits = tf.math.log(heatmap + 1e-9)
    terms = center_points.loss(logits, tf.constant(distances), unit, tf.constant(LABELS))
    assert float(terms["size"]) == pytest.approx(0, abs=1e-5)
    wider = distances + np.array([0, 0, 2, 0], "f")
    _, where, weights = by_loops()
    sides = where[..., 2] - where[..., 0]
    expected = 5 * (weights * (1 - sides / (sides + 2))).sum() / weights.sum()  # inside the wider box: its IoU
    terms = center_points.loss(logits, tf.constant(wider), unit, tf.constant(LABELS))
    assert float(terms["size"]) == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_objects_has_no_loss_of_boxes():
    zeros = tf.zeros([2, 8, 8, 4])
    terms = center_points.loss(zeros[..., :1] - 20, zeros, tf.zeros([2, 3, 4]), tf.zeros([2, 3], tf.int64))
    assert float(terms["size"]) == 0
    assert float(terms["heatmap"]) == pytest.approx(0, abs=1e-6)


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


def test_beyond_the_last_peak_there_are_no_boxes():
    heatmap = np.zeros((1, 4, 4, 2), "f")
    heatmap[0, 1, 2, 1] = 0.5
    boxes, scores = center_points.decode(heatmap, tf.ones([1, 4, 4, 4]), limit=3)
    np.testing.assert_allclose(boxes[0], [[0.25, 0, 0.75, 0.5], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(scores[0], [[0, 0.5], [0, 0], [0, 0]])


def test_a_corner_aligned_map_is_tensorflow_ones_resize():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    larger = centernet.CornerUpSampling2D()(maps).numpy()
    np.testing.assert_allclose(larger[:, ::2, ::2], maps, atol=1e-6)
    np.testing.assert_allclose(larger[:, ::2, 1:-1:2], (maps[:, :, 1:] + maps[:, :, :-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(larger[:, -1], larger[:, -2], atol=1e-6)  # nothing beyond the border
