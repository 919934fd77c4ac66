"""YOLO: one look at the picture gives every box – v2, v3, their tiny forms, a small one, any backbone.

Redmon, Divvala, Girshick and Farhadi, "You only look once", 2016 (the grid); Redmon and Farhadi, "YOLO9000", 2016 (v2:
anchors, pass-through), and "YOLOv3", 2018 (three scales). The grid itself, and what networks are asked
about its slots, is `cnn_keras.ops.yolo_head`.

A family of detectors: builders, and `encode`, `loss` and `decode`, which find anchors and settings in the network.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cnn_keras.errors import Fault
from cnn_keras.layers import register
from cnn_keras.models.backbone import feature_extractor
from cnn_keras.models.darknet import trunk19, trunk53, unit
from cnn_keras.ops.yolo_head import OBJECTIVES, Grid
from cnn_keras.ops.yolo_head import decode as decode
from cnn_keras.ops.yolo_head import encode as encode
from cnn_keras.ops.yolo_head import loss as loss

SIDE = 416  # pixels, of the pictures that the papers' anchors are given for
CELL = 32  # pixels, of v2's grid
PRIOR = 0.01  # p_c at the start: nearly all slots are empty
STRIDES = (8, 16, 32)  # of the three scales


def _pixels(*sides: float) -> tuple[tuple[float, float], ...]:
    return tuple(zip(np.array(sides[::2]) / SIDE, np.array(sides[1::2]) / SIDE, strict=True))


def _cells(*sides: float) -> tuple[tuple[float, float], ...]:
    return _pixels(*(CELL * side for side in sides))


# Width and height of the published anchors, as fractions of the picture, for the finest grid first.
V2 = _cells(1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071)
V2_TINY = _cells(1.08, 1.19, 3.42, 4.41, 6.63, 11.38, 9.42, 5.11, 16.62, 10.52)
V3 = _pixels(10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
# The published file gives the fine grid anchors 1, 2 and 3 of 0 to 5, and the coarse one 3, 4 and 5.
V3_TINY = _pixels(23, 27, 37, 58, 81, 82, 81, 82, 135, 169, 344, 319)
SMALL = _pixels(10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)


@register
class Reorg(layers.Layer):
    """Darknet's space to depth, its pass-through: (batch, h, w, c) to (batch, h / 2, w / 2, 4 c), floats, h, w even.

    Differs from the paper, which stacks neighbouring positions: Darknet reads the map as one of c / 4 channels and
    twice the height and width before it does so, and published weights were trained like that.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        _, height, width, channels = (ops.shape(x)[axis] if size is None else size for axis, size in enumerate(x.shape))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, channels // 4, height, 2, width, 2))
        x = ops.transpose(x, (0, 3, 5, 1, 2, 4))  # row and column within the four, channel, height, width
        x = ops.reshape(x, (-1, 4 * channels, height // 2, width // 2))
        return ops.transpose(x, (0, 2, 3, 1))

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = shape
        return batch, height and height // 2, width and width // 2, 4 * channels


# Networks: models from `image` (batch, height, width, 3), floats in [0, 1], sides multiples of 32, to a dict of raw
# outputs, one for each scale by its stride – "stride32", "stride16", "stride8" –, see `Grid`.


def yolov2(
    *,
    input_shape: tuple[int | None, ...] = (416, 416, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "squared",
) -> keras.Model:
    """YOLOv2 on Darknet-19, with the pass-through of stride 16: 50,655,389 trained parameters, 14.680 G at 416.

    Args:
        input_shape: (height, width, channels), height and width multiples of 32 or None.
        classes: C.
        anchors: (width, height) of each, fractions of the picture; the paper's five for VOC unless given.
        anchors_of: (height, width) in pixels of the picture meant; `input_shape`'s, and 416 where that leaves it open.
        objective: "squared", as published; "ciou" or "focal", see `loss`.

    Raises:
        Fault: for other sides, no anchors, or an unknown objective.
    """
    image, numbers, settings = _begun(input_shape, classes, anchors_of, objective)
    *_, passed, x = trunk19(image, numbers)
    for _ in range(2):
        x = unit(x, numbers, 1024, 3)
    passed = Reorg(name="reorg")(unit(passed, numbers, 64, 1))
    x = unit(layers.Concatenate(name="merged")([passed, x]), numbers, 1024, 3)
    (own,) = _shares(anchors, V2, scales=1)
    return keras.Model(image, _end(x, numbers, own, stride=32, softmax=True, **settings), name="yolov2")


def yolov2_tiny(
    *,
    input_shape: tuple[int | None, ...] = (416, 416, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "squared",
    last: int = 1024,
) -> keras.Model:
    """Tiny YOLOv2: 15,861,773 trained parameters, 3.486 G at 416.

    Args:
        last: filters of the last 3×3 convolution: 1024 in the published network for VOC, 512 in the one for COCO.

    The others are those of `yolov2`.
    """
    image, numbers, settings = _begun(input_shape, classes, anchors_of, objective)
    x = unit(_tiny_trunk(image, numbers)[-1], numbers, last, 3)
    (own,) = _shares(anchors, V2_TINY, scales=1)
    return keras.Model(image, _end(x, numbers, own, stride=32, softmax=True, **settings), name="yolov2_tiny")


def yolov3(
    *,
    input_shape: tuple[int | None, ...] = (416, 416, 3),
    classes: int = 80,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "squared",
) -> keras.Model:
    """YOLOv3 on Darknet-53, three scales: 61,949,149 trained parameters, 32.932 G at 416.

    Arguments are those of `yolov2`; a third of the anchors is for each scale, the finest first.
    """
    image, numbers, settings = _begun(input_shape, classes, anchors_of, objective)
    *_, eighth, sixteenth, x = trunk53(image, numbers)
    fine, middle, coarse = _shares(anchors, V3, scales=3)
    outputs: dict[str, keras.KerasTensor] = {}
    for stride, filters, passed, own in ((32, 512, None, coarse), (16, 256, sixteenth, middle), (8, 128, eighth, fine)):
        if passed is not None:
            x = _merged(unit(x, numbers, filters, 1), passed, stride)
        for size in (1, 3, 1, 3, 1):
            x = unit(x, numbers, filters if size == 1 else 2 * filters, size)
        outputs |= _end(unit(x, numbers, 2 * filters, 3), numbers, own, stride=stride, **settings)
    return keras.Model(image, outputs, name="yolov3")


def yolov3_tiny(
    *,
    input_shape: tuple[int | None, ...] = (416, 416, 3),
    classes: int = 80,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "squared",
) -> keras.Model:
    """Tiny YOLOv3, two scales: 8,852,366 trained parameters, 2.782 G at 416.

    Arguments are those of `yolov2`; half of the anchors is for each scale, the finer first.
    """
    image, numbers, settings = _begun(input_shape, classes, anchors_of, objective)
    *_, passed, _, x = _tiny_trunk(image, numbers)
    fine, coarse = _shares(anchors, V3_TINY, scales=2)
    x = unit(x, numbers, 256, 1)
    outputs = _end(unit(x, numbers, 512, 3), numbers, coarse, stride=32, **settings)
    x = _merged(unit(x, numbers, 128, 1), passed, 16)
    outputs |= _end(unit(x, numbers, 256, 3), numbers, fine, stride=16, **settings)
    return keras.Model(image, outputs, name="yolov3_tiny")


def yolo_small(
    *,
    input_shape: tuple[int | None, ...] = (160, 160, 3),
    classes: int = 20,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "ciou",
    filters: int = 8,
) -> keras.Model:
    """Ours, for two cores of a CPU: Darknet-53 a quarter as wide and less deep, scales of strides 16 and 8.

    1,183,470 trained parameters and 137 M multiply-adds for 20 classes at 160.

    Args:
        filters: of the first convolution; the stages have 2, 4, 8, 16 and 32 times as many.

    The others are those of `yolov2`; half of the anchors is for each scale, the finer first.
    """
    image, numbers, settings = _begun(input_shape, classes, anchors_of, objective)
    stages = trunk53(image, numbers, filters=filters, depths=(1, 1, 2, 2, 1))
    taps = {8: stages[2], 16: stages[3], 32: stages[4]}
    outputs = _pyramid(taps, numbers, _shares(anchors, SMALL, scales=2), filters=8 * filters, **settings)
    return keras.Model(image, outputs, name="yolo_small")


def yolo(
    *,
    backbone: str = "resnet.resnet18",
    input_shape: tuple[int | None, ...] = (416, 416, 3),
    classes: int = 80,
    anchors: Sequence[Sequence[float]] | None = None,
    anchors_of: tuple[int, int] | None = None,
    objective: str = "ciou",
    filters: int = 256,
) -> keras.Model:
    """Three scales on any network of the catalogue that has strides 8, 16 and 32; the last map of each is tapped.

    Args:
        backbone: name of a builder, for example resnet.resnet18.
        filters: of the maps that the scales are read from.

    The others are those of `yolov3`.

    Raises:
        Fault: see `yolov2`; and when the backbone lacks one of the strides.
    """
    _, _, settings = _begun(input_shape, classes, anchors_of, objective)
    trunk = feature_extractor(backbone, input_shape, STRIDES)
    named = [int(layer.name[4:]) for layer in trunk.layers if re.fullmatch(r"conv\d+", layer.name)]
    maps = dict(zip(STRIDES, trunk.outputs, strict=True))
    shares = _shares(anchors, V3, scales=len(STRIDES))
    return keras.Model(
        trunk.input, _pyramid(maps, count(1 + max(named, default=0)), shares, filters=filters, **settings), name="yolo"
    )


def _begun(
    input_shape: tuple[int | None, ...], classes: int, anchors_of: tuple[int, int] | None, objective: str
) -> tuple[keras.KerasTensor, Iterator[int], dict[str, Any]]:
    """The input, what numbers the convolutions, and the settings of all scales."""
    height, width, _ = input_shape
    if any(side is not None and (side % 32 or not side) for side in (height, width)):
        raise Fault(f"input_shape must have sides that are multiples of 32, got {height}×{width}; resize the images")
    if objective not in OBJECTIVES:
        raise Fault(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    of = tuple(anchors_of or (height or SIDE, width or SIDE))
    return (
        keras.Input(input_shape, name="image"),
        count(1),
        {"classes": classes, "anchors_of": of, "objective": objective},
    )


def _shares(
    anchors: Sequence[Sequence[float]] | None, published: Sequence[Sequence[float]], *, scales: int
) -> list[np.ndarray]:
    """The anchors of each scale, the finest first: as many for each, so that neighbours may have one in common."""
    sizes = np.array(published if anchors is None else anchors, "float32")
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not len(sizes) or (sizes <= 0).any():
        raise Fault(f"anchors must be (width, height) pairs above 0, one or more, got {np.array(sizes).tolist()}")
    own = -(-len(sizes) // scales)
    return [sizes[start : start + own] for start in np.round(np.linspace(0, len(sizes) - own, scales)).astype(int)]


def _end(
    x: keras.KerasTensor, numbers: Iterator[int], anchors: np.ndarray, *, stride: int, classes: int, **settings: Any
) -> dict[str, keras.KerasTensor]:
    """What a scale answers, by its name."""
    small = keras.initializers.RandomNormal(stddev=0.01)
    convolve = layers.Conv2D(len(anchors) * (5 + classes), 1, kernel_initializer=small, name=f"conv{next(numbers)}")
    x = convolve(x)
    bias = np.zeros((len(anchors), 5 + classes))
    bias[:, 4] = np.log(PRIOR / (1 - PRIOR))
    convolve.bias.assign(bias.ravel())
    return {f"stride{stride}": Grid(anchors.tolist(), stride=stride, name=f"stride{stride}", **settings)(x)}


def _merged(x: keras.KerasTensor, passed: keras.KerasTensor, stride: int) -> keras.KerasTensor:
    """A map at twice its size, before the map of a finer stride."""
    return layers.Concatenate(name=f"merged{stride}")([layers.UpSampling2D(2, name=f"up{stride}")(x), passed])


def _tiny_trunk(x: keras.KerasTensor, numbers: Iterator[int]) -> list[keras.KerasTensor]:
    """The six stages of the tiny networks, strides 1 to 32, and then the last map."""
    stages = []
    for stage in range(1, 7):
        if stage > 1:
            x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage - 1}")(x)
        x = layers.Identity(name=f"stage{stage}")(unit(x, numbers, 8 * 2**stage, 3))
        stages.append(x)
    x = layers.MaxPooling2D(2, 1, "same", name="pool6")(x)
    return [*stages, unit(x, numbers, 1024, 3)]


def _pyramid(
    taps: dict[int, keras.KerasTensor],
    numbers: Iterator[int],
    anchors: Sequence[np.ndarray],
    *,
    filters: int,
    **settings: Any,
) -> dict[str, keras.KerasTensor]:
    """YOLOv3's way down from the coarsest map to the finest, with fewer layers; the finest maps answer.

    Args:
        taps: maps by their strides.
        anchors: of each scale, the finest first; a stride without any is only looked through.
        filters: of the coarsest map that answers; every finer one has half as many.
    """
    x = None
    outputs: dict[str, keras.KerasTensor] = {}
    strides = sorted(taps)
    for place, stride in reversed(list(enumerate(strides))):
        own = filters // 2 ** (len(anchors) - 1 - min(place, len(anchors) - 1))
        x = taps[stride] if x is None else _merged(unit(x, numbers, own, 1), taps[stride], stride)
        x = unit(x, numbers, own, 1)
        if place < len(anchors):
            x = unit(unit(x, numbers, 2 * own, 3), numbers, own, 1)
            outputs |= _end(unit(x, numbers, 2 * own, 3), numbers, anchors[place], stride=stride, **settings)
    return outputs
