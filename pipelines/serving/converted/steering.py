"""Angles: quantiles of the mixture that a network thinks likely."""

import math
from typing import Any

import numpy as np

from cnn_keras.data.files.image_pixels import resize_image
from cnn_keras.errors import Fault
from pipelines.serving.converted.served import FLOAT, Array, Ask, Row, Served, of_images, slot

HALVINGS, REACH = 30, 8.0  # as of `cnn_keras.losses.mixture_density`

_erf = np.vectorize(math.erf, otypes=[np.float64])


def signatures(description: dict[str, Any], ask: Ask) -> dict[str, Served]:
    """The signatures of a network that steers: the median of each mixture, and the interval around it."""
    framing, interval = description["preprocessing"], description["interval"]
    outer = (1 - interval) / 2
    shares, size = {"low": outer, "high": 1 - outer}, tuple(framing["size"])
    if "weights" not in description["outputs"]:
        raise Fault("model must be exported without export.donkeycar to be served")
    components = len(ask(np.zeros((*size, framing["channels"]), np.uint8))["weights"])
    prefixes = {"angle": "", "throttle": "throttle_"}
    controls = {name: prefix for name, prefix in prefixes.items() if f"{prefix}weights" in description["outputs"]}

    def answer(image: Array) -> Row:
        mixtures = ask(resize_image(image, size, fit=framing["fit"]))
        answers = {**mixtures, "interval": interval}
        for name, prefix in controls.items():
            weights, means, scales = (mixtures[f"{prefix}{part}"] for part in ("weights", "means", "scales"))
            answers[name] = quantile(weights, means, scales, 0.5)
            answers |= {f"{prefix}{end}": quantile(weights, means, scales, share) for end, share in shares.items()}
        return answers

    outputs = [slot(name, FLOAT) for name in ("interval", *controls)]
    outputs += [slot(f"{prefix}{end}", FLOAT) for prefix in controls.values() for end in shares]
    outputs += [slot(name, FLOAT, components) for name in description["outputs"]]
    return of_images(framing["channels"], (None, None), outputs, answer)


def quantile(weights: Array, means: Array, scales: Array, share: float) -> float:
    """The value below which this share of a mixture of normal distributions lies, by halving an interval."""
    low, high = float((means - REACH * scales).min()), float((means + REACH * scales).max())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = float((weights * 0.5 * (1 + _erf((middle - means) / (scales * math.sqrt(2))))).sum())
        low, high = (middle, high) if below < share else (low, middle)
    return (low + high) / 2
