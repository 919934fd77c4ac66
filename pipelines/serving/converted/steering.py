"""Angles: quantiles of the mixture that a network thinks likely."""

import math
from typing import Any

import numpy as np

from cnn_keras.data.files.image_pixels import resize_image
from pipelines.serving.converted.served import FLOAT, Array, Ask, Row, Served, of_images, slot

HALVINGS, REACH = 30, 8.0  # as of `cnn_keras.losses.mixture_density`

_erf = np.vectorize(math.erf, otypes=[np.float64])


def signatures(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a network that steers: the median of the mixture, and the interval around it."""
    framing, interval = description["preprocessing"], description["interval"]
    outer = (1 - interval) / 2
    shares = {"angle": 0.5, "low": outer, "high": 1 - outer}
    size, parts = tuple(framing["size"]), ("weights", "means", "scales")
    components = len(ask(np.zeros((*size, framing["channels"]), np.uint8))["weights"])

    def answer(image: Array) -> Row:
        mixture = ask(resize_image(image, size, fit=framing["fit"]))
        numbers = mixture["weights"], mixture["means"], mixture["scales"]
        return {**mixture, **{name: quantile(*numbers, share) for name, share in shares.items()}, "interval": interval}

    outputs = [slot(name, FLOAT) for name in (*shares, "interval")]
    outputs += [slot(name, FLOAT, components) for name in parts]
    return of_images(framing["channels"], (None, None), outputs, answer)


def quantile(weights: Array, means: Array, scales: Array, share: float) -> float:
    """The value below which this share of a mixture of normal distributions lies, by halving an interval."""
    low, high = float((means - REACH * scales).min()), float((means + REACH * scales).max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = float((weights * 0.5 * (1 + _erf((middle - means) / (scales * math.sqrt(2))))).sum())
        low, high = (middle, high) if below < share else (low, middle)
    return (low + high) / 2
