"""Brightness, contrast and sharpness, of images whose figures are known."""

import numpy as np
import pytest

from cnn_keras.metrics.image_statistics import image_statistics


def test_a_plain_image_has_its_luma_and_nothing_else():
    image = np.full((5, 7, 3), (255, 0, 0), np.uint8)
    assert image_statistics(image) == pytest.approx((0.299, 0, -8), abs=1e-6)


def test_a_checkerboard_is_half_bright_and_as_contrasty_and_sharp_as_can_be():
    """Its Laplacian is 4 at dark and −4 at bright pixels: the variance is 16."""
    board = ((np.indices((6, 6)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None]
    assert image_statistics(board) == pytest.approx((0.5, 0.5, np.log10(16)))
    assert image_statistics(np.repeat(board, 3, axis=2)) == pytest.approx((0.5, 0.5, np.log10(16)), abs=1e-5)


def test_what_is_blurred_is_less_sharp():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    blurred = (image.astype(int) + np.roll(image, 1, axis=1)) // 2
    assert image_statistics(blurred.astype(np.uint8)).sharpness < image_statistics(image).sharpness - 0.1


@pytest.mark.parametrize("shape", [(5, 5), (2, 9, 1), (5, 5, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="image must be"):
        image_statistics(np.zeros(shape, np.uint8))
