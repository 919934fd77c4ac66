"""Optical flow: what moves from one frame of a video to the next, and a painting that is carried along by it."""

from typing import Any

import cv2
import numpy as np

from pipelines.plots.image_grid import Array


def warp_forward(painting: Array, before: Array, after: Array) -> Array:
    """A painted frame carried along to the next one by the optical flow between the two (Farnebäck's): float32.

    Args:
        painted, before, after: uint8 (height, width, 3): the painting of `before`, and the frame that follows.
    """
    this, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (after, before))
    flow: Any = np.zeros((*this.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(this, other, flow, 0.5, 3, 21, 3, 5, 1.2, 0)  # from a pixel of after to before
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    warped: Array = cv2.remap(
        painting, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    return warped
