"""Anchors: overlaps by hand, clusters that are found again, and more anchors never fit worse."""

import numpy as np
import pytest

from cnn_keras.ops import anchors, boxes


def test_sizes_overlap_as_boxes_that_share_a_corner():
    sizes, others = np.array([[2.0, 4.0], [1.0, 1.0]]), np.array([[4.0, 2.0], [1.0, 1.0], [3.0, 5.0]])
    np.testing.assert_allclose(anchors.iou(sizes, others)[0], [4 / 12, 1 / 8, 8 / 15])
    cornered = [np.pad(values, ((0, 0), (2, 0))).astype(np.float32) for values in (sizes, others)]
    np.testing.assert_allclose(anchors.iou(sizes, others), boxes.pairwise_iou(*cornered), rtol=1e-6)


def test_clusters_are_found_again_smallest_first():
    generator = np.random.default_rng(0)
    centres = np.array([[0.05, 0.1], [0.3, 0.2], [0.6, 0.8]])
    sizes = np.concatenate([centre * generator.uniform(0.95, 1.05, (50, 2)) for centre in centres[::-1]])
    found = anchors.kmeans(sizes, 3)
    np.testing.assert_allclose(found, centres, rtol=0.03)
    assert anchors.best_iou(sizes, found).min() > 0.85
    np.testing.assert_array_equal(found, anchors.kmeans(sizes, 3))


def test_more_anchors_fit_better():
    sizes = np.random.default_rng(1).uniform(0.02, 0.9, (300, 2))
    fits = [anchors.best_iou(sizes, anchors.kmeans(sizes, count)).mean() for count in (1, 2, 4, 8)]
    assert fits == sorted(fits)
    assert fits[-1] > fits[0] + 0.2


@pytest.mark.parametrize(("sizes", "count"), [([[0.1, 0.2]] * 5, 1), ([[0.1, 0.2], [0.3, 0.3]], 2)])
def test_no_more_anchors_than_sizes_that_differ(sizes, count):
    found = anchors.kmeans(np.array(sizes), 9)
    assert len(found) == count
    np.testing.assert_allclose(anchors.best_iou(np.array(sizes), found), 1)
