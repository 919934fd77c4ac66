"""The detector of hand-made features of the benchmark: gradients and windows."""

import numpy as np
import pytest

from tests.benchmarks import bench_hog as bench


def test_a_window_has_the_gradients_across_an_edge_whichever_side_is_light():
    """Of an upright edge they are level, angle 0, which OpenCV's first and last bin share."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 200

    def bins(pixels):
        return bench.features(np.ascontiguousarray(pixels), [[20, 20]], [bench.THING]).reshape(-1, 9).sum(axis=0)

    upright, level = bins(image), bins(image.transpose(1, 0, 2))
    assert upright[[0, 8]].sum() == pytest.approx(upright.sum())
    assert level[4] == pytest.approx(level.sum())
    np.testing.assert_allclose(bins(200 - image), upright, rtol=1e-4)


def test_windows_that_slide_are_those_cut_out_one_by_one():
    """Away from their borders, where what slides sees its neighbours."""
    image = np.random.default_rng(0).integers(0, 255, (160, 160, 3)).astype(np.uint8)
    rows, centres, sizes = bench.windows(image)
    chosen = np.flatnonzero((sizes == bench.THING) & (abs(centres - 80) < 40).all(axis=1))[::37]
    cut = bench.features(image, centres[chosen], sizes[chosen])
    inner = (slice(None), slice(1, 3), slice(1, 3))  # of 4×4 blocks, column by column
    blocks = [values.reshape(-1, 4, 4, 36)[inner] for values in (cut, rows[chosen])]
    directions = [values / np.linalg.norm(values, axis=-1, keepdims=True) for values in blocks]
    np.testing.assert_allclose(*directions, atol=1e-3)
