"""What a detector that is often wrong would say of the frames of a film."""

from typing import NamedTuple

import numpy as np

MISSED, FALSE = 0.05, 0.3  # the share of things that are overlooked; false boxes in a frame
SHAKE = 0.03  # of a side: standard deviation of an edge


class Detected(NamedTuple):
    """The boxes in one frame, as `ByteTrack.update` takes them."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def noisy(truth, side, generator):
    """Boxes that shake, with low scores where a thing is hidden; some are missing, and some are of nothing.

    Args:
        truth: a frame's, of `cnn_keras.data.sources.synthetic.films`.
        side: of the frame, in pixels.
    """
    sides = np.tile(truth.boxes[:, 2:] - truth.boxes[:, :2], 2)
    boxes = truth.boxes + SHAKE * sides * generator.standard_normal(truth.boxes.shape)
    scores = np.clip(truth.visible * generator.uniform(0.85, 1, len(boxes)), 0, 1)
    seen = (generator.random(len(boxes)) > MISSED) & (truth.visible > 0.1)
    count = generator.poisson(FALSE)
    corners, extents = generator.uniform(0, 0.8 * side, (count, 2)), generator.uniform(0.1, 0.2, (count, 2)) * side
    return Detected(
        np.concatenate([boxes[seen], np.concatenate([corners, corners + extents], axis=1)]),
        np.concatenate([scores[seen], generator.uniform(0.1, 0.8, count)]),
        np.concatenate([truth.classes[seen], generator.integers(0, 3, count)]),
    )
