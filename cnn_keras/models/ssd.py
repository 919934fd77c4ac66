"""SSD on MobileNet-V1, with which face-api.js finds faces: Liu et al., "SSD: single shot multibox detector", 2016;
Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications", 2017.

`cnn_keras.weights.face_api` reads weights that were trained by Mühler (2018) on WIDER FACE. Differs from the papers, as
TensorFlow's object detection API does: ReLU6, a 1×1 convolution carries its normalisation as a bias, maps of strides 16
to 512, and scales from 0.2 to 0.95 of the picture.
"""

import math

import keras
import numpy as np
from keras import layers

from cnn_keras.layers import BatchNormalization
from cnn_keras.models import require_size
from cnn_keras.models.mobilenet import relu6

FILTERS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)  # of the separable blocks, from 1
HALVED = (2, 4, 6, 12)  # blocks of stride 2
EXTRA = ((256, 512), (128, 256), (128, 256), (64, 128))  # filters of 1×1 down and of 3×3 with stride 2
SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)  # of the anchors of each map, as shares of the picture
FIRST = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))  # scales and aspect ratios of the finest map's anchors
RATIOS = (2.0, 0.5, 3.0, 0.3333)  # width by height of the others', beside two squares
VARIANCES = (0.1, 0.1, 0.2, 0.2)
EPSILON = 0.0010000000474974513


def ssd_mobilenet_v1(*, input_shape: tuple[int, ...] = (512, 512, 3), classes: int = 1) -> keras.Model:
    """SSD on MobileNet-V1: 5,505,797 parameters and 3.1 G multiply-adds.

    Args:
        input_shape: (height, width, channels).
        classes: classes of things that are found, each with a sigmoid of its own.

    Returns:
        A model from `image` (batch, height, width, channels), floats in [-1, 1], to `offsets` (batch, A, 4), float32,
        t_x, t_y, t_w and t_h of each of the A anchors that `anchors` gives, with VARIANCES, and `logits` (batch, A,
        classes), float32. At 512×512, A is 5118.
    """
    require_size(input_shape, 64)
    image = keras.Input(input_shape, name="image")
    x, maps = _conv(image, 32, 3, 2, name="conv0"), []
    for number, filters in enumerate(FILTERS, start=1):
        stride = 2 if number in HALVED else 1
        x = layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"conv{number}_depthwise")(x)
        x = BatchNormalization(epsilon=EPSILON, name=f"conv{number}_norm")(x)
        x = _conv(relu6(x, name=f"conv{number}_depthwise_relu"), filters, 1, 1, name=f"conv{number}")
        if number in (11, 13):
            maps.append(x)
    for number, (narrow, wide) in enumerate(EXTRA):
        x = _conv(x, narrow, 1, 1, name=f"extra{2 * number}")
        x = _conv(x, wide, 3, 2, name=f"extra{2 * number + 1}")
        maps.append(x)
    outputs = {}
    for output, depth in (("offsets", 4), ("logits", classes)):
        heads = []
        for level, features in enumerate(maps):
            count = len(_shapes(level))
            head = layers.Conv2D(count * depth, 1, dtype="float32", name=f"{output}{level}")(features)
            heads.append(layers.Reshape((-1, depth), dtype="float32", name=f"{output}{level}_rows")(head))
        outputs[output] = layers.Concatenate(axis=1, dtype="float32", name=output)(heads)
    return keras.Model(image, outputs, name="ssd_mobilenet_v1")


def anchors(size: tuple[int, int] = (512, 512)) -> np.ndarray:
    """The anchors of all maps for pictures of a height and width, float32 (A, 4): left, top, right, bottom.

    In [0, 1] of the picture; some reach beyond it.
    """
    rows, (height, width) = [], (math.ceil(side / 16) for side in size)
    for level in range(len(SCALES) - 1):
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        half = np.array([(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in _shapes(level)]) / 2
        centres = np.stack([x, y], axis=-1)[:, :, None]
        rows.append(np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4))
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return np.concatenate(rows).astype(np.float32)


def _shapes(level: int) -> list[tuple[float, float]]:
    """Scale and aspect ratio of each anchor at a place of a map."""
    if level == 0:
        return list(FIRST)
    scale = SCALES[level]
    return [(scale, 1.0), (math.sqrt(scale * SCALES[level + 1]), 1.0), *((scale, ratio) for ratio in RATIOS)]


def _conv(x: keras.KerasTensor, filters: int, size: int, stride: int, *, name: str) -> keras.KerasTensor:
    convolution = layers.Conv2D(filters, size, stride, "same", kernel_initializer="he_normal", name=name)
    return relu6(convolution(x), name=f"{name}_relu")
