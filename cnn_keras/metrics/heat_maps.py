"""How faithful a heat map is: what becomes of a score when the hottest places go first, and when they come first.

Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models", 2018, section 4.3.

Differs from the paper: places are blurred in both curves, by one blur that grows with the image; the score may be
anything, not a probability alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

Array = np.ndarray[Any, np.dtype[Any]]

BLUR = 1 / 12  # of the shorter side: the standard deviation, in pixels


class Faithfulness(NamedTuple):
    """Mean scores over both curves: of a faithful map deletion is low and insertion is high.

    The curves, float64 (steps + 1,), hold the score of the image with so many places changed, from none to all.
    """

    deletion: float
    insertion: float
    deleted: Array
    inserted: Array


def deletion_insertion(
    score: Callable[[Array], Any],
    image: Array,
    heat: Array,
    *,
    steps: int = 16,
    removed: Array | float | None = None,
) -> Faithfulness:
    """Replace the places of an image from the hottest to the coldest, and put them back in the same order.

    A random map, `numpy.random.default_rng(seed).random(heat.shape)`, is what to compare with.

    Args:
        score: images (steps + 1, *sizes, channels) of the image's dtype to a score of each, (steps + 1,).
        image: (*sizes, channels), as the model takes it.
        heat: (*sizes); of equally hot places the first goes first.
        steps: in how many equal parts the places are replaced.
        removed: what stands where a place is gone, of the image's shape or a number; None takes the image, blurred.

    Raises:
        ValueError: the map does not fit the image.
    """
    image, heat = np.asarray(image), np.asarray(heat)
    if heat.shape != image.shape[:-1]:
        raise ValueError(f"heat must be {image.shape[:-1]}, as the image is, got {heat.shape}")
    gone = np.broadcast_to(_blurred(image) if removed is None else removed, image.shape)
    rank = np.empty(heat.size, np.int64)
    rank[np.argsort(-heat, axis=None, kind="stable")] = np.arange(heat.size)
    ends = np.linspace(0, heat.size, steps + 1).round()
    masks = (rank < ends[:, None]).reshape(steps + 1, *heat.shape, 1)
    curves = [
        np.asarray(score(np.where(masks, *pair).astype(image.dtype)), np.float64)
        for pair in ((gone, image), (image, gone))
    ]
    deletion, insertion = (float(np.trapezoid(curve, dx=1 / steps)) for curve in curves)
    return Faithfulness(deletion, insertion, *curves)


def _blurred(image: Array) -> Array:
    sigma = [BLUR * min(image.shape[:-1])] * (image.ndim - 1)
    blurred: Array = ndimage.gaussian_filter(image.astype(np.float32), [*sigma, 0], mode="nearest")
    return blurred
