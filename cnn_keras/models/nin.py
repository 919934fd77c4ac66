"""Network in network: Lin, Chen and Yan, "Network in network", 2013.

A convolution followed by two 1×1 convolutions slides a small multi-layer perceptron over the image, and the average
over all positions replaces dense layers. Sizes are those of the authors' Caffe models.

Differs from the paper: the class maps are averaged without a ReLU before, so that logits may be negative.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cnn_keras.models import require_size


def nin(
    *, input_shape: tuple[int | None, ...] = (227, 227, 3), classes: int = 1000, dropout: float = 0.5
) -> keras.Model:
    """The ImageNet model: 7,595,176 parameters.

    Args:
        input_shape: (height, width, channels), height and width at least 67.
        classes: length of the logits.
        dropout: share of the values before the last perceptron dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 67)
    x = image = keras.Input(input_shape, name="image")
    x = _perceptron(x, (96, 96, 96), 11, strides=4, name="mlp1")
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = _perceptron(x, (256, 256, 256), 5, name="mlp2")
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    x = _perceptron(x, (384, 384, 384), 3, name="mlp3")
    x = layers.MaxPooling2D(3, strides=2, name="pool3")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return _averaged(image, _perceptron(x, (1024, 1024, classes), 3, last=True, name="mlp4"), name="nin")


def nin_cifar(
    *, input_shape: tuple[int | None, ...] = (32, 32, 3), classes: int = 10, dropout: float = 0.5
) -> keras.Model:
    """The CIFAR model, for small images: 966,986 parameters at 10 classes.

    Arguments and result are those of `nin`; any height and width will do.
    """
    x = image = keras.Input(input_shape, name="image")
    x = _perceptron(x, (192, 160, 96), 5, name="mlp1")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    x = layers.Dropout(dropout, name="dropout1")(x)
    x = _perceptron(x, (192, 192, 192), 5, name="mlp2")
    x = layers.AveragePooling2D(3, strides=2, padding="same", name="pool2")(x)
    x = layers.Dropout(dropout, name="dropout2")(x)
    return _averaged(image, _perceptron(x, (192, 192, classes), 3, last=True, name="mlp3"), name="nin_cifar")


def _perceptron(
    x: keras.KerasTensor, widths: Sequence[int], size: int, *, name: str, strides: int = 1, last: bool = False
) -> keras.KerasTensor:
    """A convolution of this size and two of 1×1; the last one of the network leaves its class maps as they are."""
    padding = "valid" if strides > 1 else "same"
    for place, (filters, side) in enumerate(zip(widths, (size, 1, 1), strict=True), start=1):
        options = {"strides": strides, "padding": padding} if place == 1 else {}
        options["activation"] = None if last and place == len(widths) else "relu"
        x = layers.Conv2D(filters, side, kernel_initializer="he_normal", name=f"{name}_{place}", **options)(x)
    return x


def _averaged(image: keras.KerasTensor, class_maps: keras.KerasTensor, name: str) -> keras.Model:
    logits = layers.GlobalAveragePooling2D(dtype="float32", name="logits")(class_maps)
    return keras.Model(image, logits, name=name)
