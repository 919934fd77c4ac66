"""Fixed filters that find edges: what the first layer of a network would have to learn, written down.

Each is a difference across the edge times a smoothing along it. Signs and names follow Andrew Ng's course
(*Convolutional Neural Networks*, week 1): columns 1, 0, -1 are the *vertical* edge detector – the edge is vertical, the
brightness changes from left to right – and laid on the image without turning it, as `convolution` does, it answers
positively where the left is brighter. The horizontal one is its transpose, positive where the upper side is brighter.
scipy.ndimage has the opposite sign.

Smoothing: "simple" (1, 1, 1) is Prewitt's operator (1970), "sobel" (1, 2, 1) Sobel and Feldman's (1968), "scharr"
(3, 10, 3) Scharr's (2000), whose magnitude depends least on the direction of the edge.
"""

from typing import NamedTuple

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.learn.convolution import convolution

# int64 (3, 3) each.
VERTICAL = {
    "simple": np.outer([1, 1, 1], [1, 0, -1]),
    "sobel": np.outer([1, 2, 1], [1, 0, -1]),
    "scharr": np.outer([3, 10, 3], [1, 0, -1]),
}
HORIZONTAL = {kind: vertical.T for kind, vertical in VERTICAL.items()}
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in grey: ITU-R BT.601, as in JPEG


class Edges(NamedTuple):
    """Absolute responses, float64 (H, W) each, in grey levels."""

    vertical: np.ndarray
    horizontal: np.ndarray
    magnitude: np.ndarray  # sqrt(vertical² + horizontal²), the length of the gradient


def edges(image: np.ndarray, kind: str = "sobel") -> Edges:
    """Return how strongly each pixel is a vertical, a horizontal, or any edge.

    Responses are divided by the sum of the filter's positive weights, so that all kinds speak of grey levels: a
    straight vertical step from 0 to 255 has vertical response 255 on both of its sides. Beyond the border the image
    goes on as its outermost pixels do: its frame is no edge.

    Args:
        image: uint8 (H, W), (H, W, 1) or (H, W, 3), 0-255; RGB is made grey first.
        kind: "simple", "sobel" or "scharr".

    Raises:
        Fault: for an unknown kind or another array.
    """
    if kind not in VERTICAL:
        raise Fault(f"kind must be one of {', '.join(VERTICAL)}, got {kind}")
    if image.dtype != np.uint8 or image.ndim < 2 or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
        raise Fault(f"image must be uint8 (H, W), (H, W, 1) or (H, W, 3), not empty, got {image.dtype} {image.shape}")
    grey = image @ LUMA if image.shape[2:] == (3,) else image.reshape(image.shape[:2])
    padded = np.pad(grey, 1, mode="edge")[np.newaxis, :, :, np.newaxis]
    pair = np.stack([VERTICAL[kind], HORIZONTAL[kind]], axis=-1)[:, :, np.newaxis]  # (3, 3, 1, 2)
    responses = np.abs(convolution(padded, pair)[0]) / VERTICAL[kind].clip(0).sum()
    return Edges(responses[..., 0], responses[..., 1], np.hypot(responses[..., 0], responses[..., 1]))
