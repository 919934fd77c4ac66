"""The occlusion map: which parts of an image a class loses by when they are hidden.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.learn.visualization.taps import batches, compile_for, require_logits, tap


def occlusion_map(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    *,
    patch: int | None = None,
    stride: int | None = None,
    fill: float | Sequence[float] | np.ndarray | None = None,
    odds: bool = False,
) -> np.ndarray:
    """How much the probability of a class falls when a square hides a pixel: float32 (images, height, width).

    Positive where the class loses, negative where it gains, within -1 to 1; the mean over the squares that cover the
    pixel. Differs from the paper, which draws the probability that is left at the middle of each square.

    Args:
        images: (images, height, width, channels), as the model takes them, which answers with logits.
        classes: the class of each image, integers (images,).
        patch: side of the square in pixels; None takes a quarter of the shorter side.
        stride: pixels from one square to the next; None takes a quarter of `patch`.
        fill: colour of the square, a number or one for each channel; None takes the image's mean.
        odds: whether the natural logarithm of the odds is asked for instead of the probability, which hardly moves
            where an answer is certain.

    Raises:
        Fault: `patch` does not fit into the images, or the model answers with probabilities.
    """
    require_logits(model)
    logits, scale = compile_for(tap(model), images.shape[1:]), _log_odds if odds else _probability
    size = inference.batch_limit(model, input_shape=images.shape[1:])
    height, width = images.shape[1:3]
    patch = patch or max(1, round(min(height, width) / 4))
    if not 1 <= patch <= min(height, width):
        raise Fault(f"patch must be 1 to {min(height, width)} pixels, got {patch}")
    stride = stride or max(1, patch // 4)
    corners = [(top, left) for top in _steps(height, patch, stride) for left in _steps(width, patch, stride)]
    falls = np.zeros(images.shape[:3], np.float32)
    covers = np.zeros((height, width), np.float32)
    for top, left in corners:
        covers[top : top + patch, left : left + patch] += 1
    for image, label, fall in zip(images, classes, falls, strict=True):
        whole = scale(logits(image[np.newaxis]), label)[0]
        colour = image.mean(axis=(0, 1)) if fill is None else fill
        for chunk in batches(np.array(corners), size):
            hidden = np.repeat(image[np.newaxis].astype(np.float32), len(chunk), axis=0)
            for row, (top, left) in enumerate(chunk):
                hidden[row, top : top + patch, left : left + patch] = colour
            for (top, left), left_over in zip(chunk, scale(logits(hidden), label), strict=True):
                fall[top : top + patch, left : left + patch] += whole - left_over
    return falls / covers


def _steps(size: int, patch: int, stride: int) -> list[int]:
    """Where squares begin along an axis: every `stride` pixels, and at the far end."""
    return sorted({*range(0, size - patch + 1, stride), size - patch})


def _probability(logits: tf.Tensor, label: int) -> np.ndarray:
    return tf.nn.softmax(logits)[:, int(label)].numpy()


def _log_odds(logits: tf.Tensor, label: int) -> np.ndarray:
    others = tf.concat([logits[:, :label], logits[:, label + 1 :]], axis=1)
    return (logits[:, label] - tf.reduce_logsumexp(others, axis=1)).numpy()
