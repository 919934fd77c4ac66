"""Fully convolutional networks: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation",
2015, and Shelhamer, Long and Darrell, 2017.

A classifier without its head gives a score for every class at each position of its last map. Scores of coarse maps are
enlarged by transposed convolutions and, where a network skips, added to those of a finer map: FCN-32s reads the map of
stride 32 alone, FCN-16s that of stride 16 too, FCN-8s that of stride 8 as well.

The transposed convolutions start as bilinear enlargement; the last of them stays so. The scores of a skip start at
zero, so that a network with one more skip starts with the answers of the one without: train FCN-32s, then FCN-16s from
its weights, then FCN-8s from these.

Differs from the paper: maps are padded alike on all sides instead of pictures by 100 pixels, so sides are multiples of
32; any other network of the catalogue may be the backbone, for which the two layers behind VGG's maps can be left out.
"""

from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import register
from cnn_keras.models.backbone import feature_extractor

COARSEST = 32  # the stride of the map that is read first


@register
class Bilinear(keras.initializers.Initializer):
    """Kernels of a transposed convolution that enlarges each map for itself, bilinearly, by half of its window.

    A kernel of shape (size, size, maps, maps) and a stride of size / 2: inside the picture the result is that of
    `tf.image.resize`; at the border, beyond which there are zeros, it fades.
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> keras.KerasTensor:
        size, maps = shape[0], shape[2]
        factor = (size + 1) // 2
        centre = factor - 1 if size % 2 else factor - 0.5
        side = 1 - np.abs(np.arange(size) - centre) / factor
        kernel = side[:, None, None, None] * side[None, :, None, None] * np.eye(maps, shape[3])
        return keras.ops.convert_to_tensor(kernel, dtype)


def fully_convolutional_network(
    stride: int,
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 21,
    backbone: str = "vgg.vgg16",
    hidden: int | None = 4096,
    dropout: float = 0.5,
    name: str,
) -> keras.Model:
    """A backbone, the convolutions that its dense layers have become, and scores enlarged back to the picture.

    Args:
        stride: of the finest map that is read: 32, 16 or 8.
        input_shape: (height, width, channels), height and width multiples of 32, or None.
        classes: of a pixel.
        backbone: name of a builder with maps of the strides from `stride` to 32.
        hidden: maps of the 7×7 and the 1×1 convolution behind the backbone, VGG's dense layers; None leaves them out.
        dropout: share of those maps' values dropped in training, in [0, 1).
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, height, width, classes),
        float32.

    Raises:
        Fault: for other sides, and when the backbone has no map of one of the strides.
    """
    if any(side is not None and (side % COARSEST or not side) for side in input_shape[:2]):
        actual = "×".join(str(side) for side in input_shape[:2])
        raise Fault(f"input_shape must have sides that are multiples of {COARSEST}, got {actual}; resize the images")
    strides = [step for step in (32, 16, 8) if step >= stride]
    trunk = feature_extractor(backbone, input_shape, strides)
    coarse, *skipped = trunk.outputs
    for window, layer in ((7, "fc6"), (1, "fc7")) if hidden else ():
        convolve = layers.Conv2D(hidden, window, padding="same", kernel_initializer="he_normal", name=layer)
        coarse = layers.Dropout(dropout, name=f"{layer}_dropout")(layers.ReLU(name=f"{layer}_relu")(convolve(coarse)))
    scores = _scored(coarse, classes, "he_normal", name="score32")
    for step, fine in zip(strides[1:], skipped, strict=True):
        scores = _enlarged(scores, 2, name=f"up{step}")
        scores = layers.Add(name=f"sum{step}")([scores, _scored(fine, classes, "zeros", name=f"score{step}")])
    return keras.Model(trunk.input, _enlarged(scores, strides[-1], fixed=True, name="logits"), name=name)


def _scored(x: keras.KerasTensor, classes: int, initializer: str, name: str) -> keras.KerasTensor:
    return layers.Conv2D(classes, 1, kernel_initializer=initializer, name=name)(x)


def _enlarged(x: keras.KerasTensor, factor: int, *, fixed: bool = False, name: str) -> keras.KerasTensor:
    """Maps enlarged by a factor, by learnt weights or, `fixed`, bilinearly for good and in float32."""
    enlarge = layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor,
        factor,
        padding="same",
        use_bias=False,
        kernel_initializer=Bilinear(),
        dtype="float32" if fixed else None,
        name=name,
    )
    enlarge.trainable = not fixed
    return enlarge(x)


# Parameters with the paper's 21 classes on VGG-16; those of the enlargement itself are counted.
fcn32s = partial(fully_convolutional_network, 32, name="fcn32s")  # 136.2 M
fcn16s = partial(fully_convolutional_network, 16, name="fcn16s")  # 134.8 M
fcn8s = partial(fully_convolutional_network, 8, name="fcn8s")  # 134.5 M
