"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998.

Both networks read 32×32 images, as the paper does, or larger ones. Images of 28 pixels and more, but below
32, are padded with zeros by the first convolution, as the paper pads the digits of MNIST.

Differs from the paper: weights start with LeCun's later rule (variance 1 / fan-in) instead of uniform in
±2.4 / fan-in, and sub-sampling starts as averaging; the codes of the output layer are random ±1 (which the
paper permits) instead of drawings of the digits, so that any number of classes works.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization, DropConnect, FixedRBF, PartialConv2D, SubSampling, scaled_tanh
from cnn_keras.models import require_size

# Table I of the paper: the maps of S2 that each map of C3 sees. It breaks the symmetry between the maps.
CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
# Each with the initialiser that suits it: He's behind what passes half of its input on, else Glorot's.
ACTIVATIONS = {
    "relu": "he_uniform",
    "tanh": "glorot_uniform",
    "sigmoid": "glorot_uniform",
    "leaky_relu": "he_uniform",
    "elu": "he_uniform",
}


def lenet5(*, input_shape: tuple[int, ...] = (32, 32, 1), classes: int = 10, code_seed: int = 0) -> keras.Model:
    """LeNet-5 as published: 60,000 trainable parameters and 340,908 connections at 32×32×1 and 10 classes.

    Args:
        input_shape: (height, width, channels), height and width at least 28.
        classes: length of the logits, which are minus squared distances to fixed codes, so at most 0.
        code_seed: of the random ±1 codes.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is smaller than 28×28.
    """
    x = image = keras.Input(input_shape, name="image")
    x = _squashed(_convolution(6, 5, padding=_padding(input_shape), name="c1"), x)
    x = _squashed(SubSampling(name="s2"), x)
    x = _squashed(PartialConv2D(CONNECTIONS, 5, name="c3"), x)
    x = _squashed(SubSampling(name="s4"), x)
    x = _squashed(_convolution(120, 5, name="c5"), x)
    x = layers.Flatten(name="flatten")(x)
    x = _squashed(layers.Dense(84, kernel_initializer="lecun_uniform", name="f6"), x)
    return keras.Model(image, FixedRBF(classes, seed=code_seed, dtype="float32", name="logits")(x), name="lenet5")


def _convolution(filters: int, size: int, **arguments: Any) -> layers.Layer:
    return layers.Conv2D(filters, size, kernel_initializer="lecun_uniform", **arguments)


def _squashed(layer: layers.Layer, x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Activation(scaled_tanh, name=f"{layer.name}_tanh")(layer(x))


def lenet5_modern(
    *,
    input_shape: tuple[int, ...] = (32, 32, 1),
    classes: int = 10,
    pooling: str = "max",
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
    drop_connect: float = 0.0,
) -> keras.Model:
    """LeNet-5 as it is built today: C3 sees every map, pooling has no weights, the output is a dense layer.

    61,706 parameters and 416,520 multiply-adds at 32×32×1 and 10 classes.

    Args:
        input_shape: (height, width, channels), height and width at least 28.
        classes: length of the logits.
        pooling: "max" or "average".
        activation: "relu", "tanh", "sigmoid", "leaky_relu" (slope 0.2) or "elu".
        batch_norm: normalise between every convolution or dense layer, which then has no bias, and its activation;
            not behind the logits.
        dropout: share of the units of C5 and F6 dropped in training, in [0, 1).
        drop_connect: share of the connections of F6 dropped in training, in [0, 1); see `layers.DropConnect`.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is smaller than 28×28, or `pooling` or `activation` is none of the above.
    """
    _one_of("pooling", pooling, POOLINGS)
    _one_of("activation", activation, ACTIVATIONS)
    activated = partial(_activated, activation=activation, batch_norm=batch_norm)
    pool = POOLINGS[pooling]
    dense = partial(DropConnect, rate=drop_connect) if drop_connect else layers.Dense
    x = image = keras.Input(input_shape, name="image")
    x = activated(x, layers.Conv2D, 6, 5, padding=_padding(input_shape), name="c1")
    x = pool(2, name="s2")(x)
    x = activated(x, layers.Conv2D, 16, 5, name="c3")
    x = pool(2, name="s4")(x)
    x = activated(x, layers.Conv2D, 120, 5, name="c5")
    x = layers.Dropout(dropout, name="c5_dropout")(layers.Flatten(name="flatten")(x))
    x = activated(x, dense, 84, name="f6")
    x = layers.Dropout(dropout, name="f6_dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="lenet5_modern")


def _activated(
    x: keras.KerasTensor,
    kind: Callable[..., layers.Layer],
    *sizes: int,
    activation: str,
    batch_norm: bool,
    name: str,
    **arguments: Any,
) -> keras.KerasTensor:
    """A layer of this kind and its activation, which stands alone where normalisation comes between them."""
    inside = {"use_bias": False} if batch_norm else {"activation": activation}
    x = kind(*sizes, kernel_initializer=ACTIVATIONS[activation], name=name, **inside, **arguments)(x)
    if batch_norm:
        x = BatchNormalization(name=f"{name}_norm")(x)
        x = layers.Activation(activation, name=f"{name}_{activation}")(x)
    return x


def _padding(input_shape: tuple[int, ...]) -> str:
    """How C1 treats the border, so that five layers later C5 has at least one position left."""
    require_size(input_shape, 28)
    return "valid" if min(input_shape[:2]) >= 32 else "same"


def _one_of(argument: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise Fault(f"{argument} must be one of {', '.join(choices)}, got {value!r}")
