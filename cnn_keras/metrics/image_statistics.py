"""What an image is like as a measurement: how bright, how contrasty and how sharp it is."""

from typing import NamedTuple

import numpy as np

LUMA = (0.299, 0.587, 0.114)  # of R, G and B (ITU-R BT.601)
FLAT = 1e-8  # added to the variance before its logarithm: that of an image of one colour is −8


class ImageStatistics(NamedTuple):
    """Of an image's luma, in [0, 1].

    Attributes:
        brightness: its mean, in [0, 1].
        contrast: its standard deviation, in [0, 0.5].
        sharpness: the decimal logarithm of the variance of its Laplacian, which blur lowers: Pech-Pacheco et al.,
            *Diatom autofocusing in brightfield microscopy: a comparative study* (ICPR 2000), LAPV. Differs: logarithm,
            and the Laplacian is that of the four neighbours, inside the image.
    """

    brightness: float
    contrast: float
    sharpness: float


def image_statistics(image: np.ndarray) -> ImageStatistics:
    """The statistics of an image, uint8 (height, width, 1 or 3), grey or RGB; both sides must be 3 pixels or more.

    Raises:
        ValueError: it has another shape.
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or min(image.shape[:2]) < 3:
        raise ValueError(f"image must be (height, width, 1 or 3) of 3 pixels or more, got {list(image.shape)}")
    pixels = image.astype(np.float32) / 255
    luma = pixels @ np.array(LUMA, np.float32) if image.shape[2] == 3 else pixels[..., 0]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    return ImageStatistics(float(luma.mean()), float(luma.std()), float(np.log10(laplacian.var() + FLAT)))
