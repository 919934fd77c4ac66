"""AlexNet and ZFNet.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012; the one
tower: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, as torchvision lays it
out; Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013 (ZFNet).

Differs from the papers: the input is 227×227, which the sizes of 2012 need, not the 224×224 of its text; He
initialisation; ZFNet's contrast normalisation is AlexNet's response normalisation.
"""

from typing import Any

import keras
from keras import layers

from cnn_keras.layers import LocalResponseNormalization
from cnn_keras.models import require_size

SMALLEST = 67  # pixels of which the strided layers leave at least one position


def alexnet(
    *,
    input_shape: tuple[int, ...] = (227, 227, 3),
    classes: int = 1000,
    groups: int = 2,
    hidden: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """AlexNet of 2012: 60,965,224 parameters in two groups, 62,378,344 in one.

    Args:
        input_shape: (height, width, channels), height and width at least 67.
        classes: length of the logits.
        groups: 2 for the paper's two towers, whose second, fourth and fifth convolutions see only the maps of
            their own tower; 1 for none.
        hidden: units of each of the two dense layers before the last.
        dropout: share of those units dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, SMALLEST)
    x = image = keras.Input(input_shape, name="image")
    x = _convolution(x, 96, 11, strides=4, name="conv1")
    x = _pool(LocalResponseNormalization(name="norm1")(x), name="pool1")
    x = _convolution(x, 256, 5, padding="same", groups=groups, name="conv2")
    x = _pool(LocalResponseNormalization(name="norm2")(x), name="pool2")
    x = _three_convolutions(x, 384, 384, 256, groups)
    return _classifier(image, x, classes, hidden, dropout, name="alexnet")


def alexnet_one_tower(
    *, input_shape: tuple[int, ...] = (224, 224, 3), classes: int = 1000, hidden: int = 4096, dropout: float = 0.5
) -> keras.Model:
    """AlexNet as torchvision has it: one tower of 64–192–384–256–256 filters, 61,100,840 parameters.

    It has no response normalisation. Differs from torchvision: dropout comes behind the dense layers, as in 2012.
    Arguments, result and errors are those of `alexnet`.
    """
    require_size(input_shape, SMALLEST)
    x = image = keras.Input(input_shape, name="image")
    x = _convolution(layers.ZeroPadding2D(2, name="pad1")(x), 64, 11, strides=4, name="conv1")
    x = _pool(x, name="pool1")
    x = _pool(_convolution(x, 192, 5, padding="same", name="conv2"), name="pool2")
    x = _three_convolutions(x, 384, 256, 256, groups=1)
    return _classifier(image, x, classes, hidden, dropout, name="alexnet_one_tower")


def zfnet(
    *, input_shape: tuple[int, ...] = (224, 224, 3), classes: int = 1000, hidden: int = 4096, dropout: float = 0.5
) -> keras.Model:
    """ZFNet: AlexNet in one group with a smaller, denser first layer; 62,357,608 parameters.

    Arguments, result and errors are those of `alexnet`.
    """
    require_size(input_shape, SMALLEST)
    x = image = keras.Input(input_shape, name="image")
    x = _convolution(layers.ZeroPadding2D(1, name="pad1")(x), 96, 7, strides=2, name="conv1")
    x = LocalResponseNormalization(name="norm1")(_pool(x, padding="same", name="pool1"))
    x = _convolution(x, 256, 5, strides=2, name="conv2")
    x = LocalResponseNormalization(name="norm2")(_pool(x, padding="same", name="pool2"))
    x = _three_convolutions(x, 384, 384, 256, groups=1)
    return _classifier(image, x, classes, hidden, dropout, name="zfnet")


def _convolution(x: keras.KerasTensor, filters: int, size: int, *, name: str, **arguments: Any) -> keras.KerasTensor:
    return layers.Conv2D(filters, size, activation="relu", kernel_initializer="he_normal", name=name, **arguments)(x)


def _pool(x: keras.KerasTensor, *, name: str, padding: str = "valid") -> keras.KerasTensor:
    return layers.MaxPooling2D(3, strides=2, padding=padding, name=name)(x)


def _three_convolutions(x: keras.KerasTensor, third: int, fourth: int, fifth: int, groups: int) -> keras.KerasTensor:
    x = _convolution(x, third, 3, padding="same", name="conv3")
    x = _convolution(x, fourth, 3, padding="same", groups=groups, name="conv4")
    x = _convolution(x, fifth, 3, padding="same", groups=groups, name="conv5")
    return _pool(x, name="pool5")


def _classifier(
    image: keras.KerasTensor, x: keras.KerasTensor, classes: int, hidden: int, dropout: float, name: str
) -> keras.Model:
    x = layers.Flatten(name="flatten")(x)
    for dense in ("fc6", "fc7"):
        x = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name=dense)(x)
        x = layers.Dropout(dropout, name=f"{dense}_dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)
