"""VGG: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014.

Differs from the paper: He initialisation instead of growing deep networks out of trained shallow ones; batch
normalisation, which came a year later, on request.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers

from cnn_keras.layers import BatchNormalization
from cnn_keras.models import require_size


def very_deep_network(
    depths: Sequence[int],
    *,
    input_shape: tuple[int, ...] = (224, 224, 3),
    classes: int = 1000,
    batch_norm: bool = False,
    hidden: int = 4096,
    dropout: float = 0.5,
    name: str,
) -> keras.Model:
    """Five stages of 3×3 convolutions and a pooling, then three dense layers.

    Args:
        depths: convolutions in each stage.
        input_shape: (height, width, channels), height and width at least 32; the first dense layer grows with it.
        classes: length of the logits.
        batch_norm: normalise after every convolution, which then has no bias.
        hidden: units of each of the two dense layers before the last.
        dropout: share of those units dropped in training, in [0, 1).
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32. The
        pooled maps are named `stage1` to `stage5`.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 32)
    x = image = keras.Input(input_shape, name="image")
    for stage, depth in enumerate(depths, start=1):
        for unit in range(1, depth + 1):
            x = _convolution(x, min(64 * 2 ** (stage - 1), 512), batch_norm, name=f"conv{stage}_{unit}")
        x = layers.MaxPooling2D(2, name=f"stage{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    for dense in ("fc6", "fc7"):
        x = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name=dense)(x)
        x = layers.Dropout(dropout, name=f"{dense}_dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


def _convolution(x: keras.KerasTensor, filters: int, batch_norm: bool, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=name)(x)
    if batch_norm:
        x = BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


# Table 1 of the paper, columns A, B, D and E: convolutions in each stage; parameters at 1000 classes.
vgg11 = partial(very_deep_network, (1, 1, 2, 2, 2), name="vgg11")  # 132.9 M
vgg13 = partial(very_deep_network, (2, 2, 2, 2, 2), name="vgg13")  # 133.0 M
vgg16 = partial(very_deep_network, (2, 2, 3, 3, 3), name="vgg16")  # 138.4 M
vgg19 = partial(very_deep_network, (2, 2, 4, 4, 4), name="vgg19")  # 143.7 M
