"""DeepFace: locally connected layers read faces that are aligned, where every place has a part of its own.

Taigman, Yang, Ranzato and Wolf, "DeepFace: closing the gap to human-level performance in face verification", 2014,
figure 2. The paper's faces are turned to the front by a 3-D model, which is not here; the features it compares are
those of `F7`, and the heads it compares them with are in `cnn_keras.models.siamese`.

Differs from the paper: He initialisation; the biases of a locally connected layer are one for each filter and position.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cnn_keras.layers import LocallyConnected2D
from cnn_keras.models import require_size

LOCAL = ((9, 1), (7, 2), (5, 1))  # window and stride of L4, L5 and L6


def deepface(
    *,
    input_shape: tuple[int, ...] = (152, 152, 3),
    classes: int = 4030,
    hidden: int = 4096,
    dropout: float = 0.5,
    shared: bool = False,
) -> keras.Model:
    """DeepFace: 118,923,774 parameters; with shared weights in L4 to L6 45,509,246. Either takes 0.518 G multiply-adds.

    Args:
        input_shape: (height, width, channels), height and width at least 71.
        classes: length of the logits; the paper's identities.
        hidden: units of F7.
        dropout: share of them dropped in training, in [0, 1).
        shared: whether L4, L5 and L6 are convolutions, to compare.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32. Its layers
        have the names of the paper: C1, M2, C3, L4, L5, L6 and F7.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 71)
    x = image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(32, 11, activation="relu", kernel_initializer="he_normal", name="C1")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="M2")(x)
    x = layers.Conv2D(16, 9, activation="relu", kernel_initializer="he_normal", name="C3")(x)
    x = _local(x, 16, LOCAL, first=4, shared=shared)
    return _classifier(image, x, classes, hidden, dropout, name="deepface")


def small(
    *,
    input_shape: tuple[int, ...] = (16, 16, 1),
    classes: int = 10,
    filters: int = 8,
    hidden: int = 32,
    dropout: float = 0.0,
    shared: bool = False,
) -> keras.Model:
    """Ours, for pictures of a few pixels: a convolution, two locally connected layers of 3×3, and a dense one.

    Args:
        input_shape: (height, width, channels), height and width at least 9.
        filters: of the convolution; the locally connected layers have twice as many.

    The others, result and errors are those of `deepface`; the layers are C1, L2, L3 and F7.
    """
    require_size(input_shape, 9)
    x = image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(filters, 3, activation="relu", kernel_initializer="he_normal", name="C1")(x)
    x = _local(x, 2 * filters, ((3, 2), (3, 1)), first=2, shared=shared)
    return _classifier(image, x, classes, hidden, dropout, name="small")


def _local(
    x: keras.KerasTensor, filters: int, windows: Sequence[tuple[int, int]], *, first: int, shared: bool
) -> keras.KerasTensor:
    kind = layers.Conv2D if shared else LocallyConnected2D
    for number, (size, stride) in enumerate(windows, start=first):
        x = kind(filters, size, stride, activation="relu", kernel_initializer="he_normal", name=f"L{number}")(x)
    return x


def _classifier(
    image: keras.KerasTensor, x: keras.KerasTensor, classes: int, hidden: int, dropout: float, name: str
) -> keras.Model:
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name="F7")(x)
    x = layers.Dropout(dropout, name="F7_dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)
