"""Networks of signals: (length, channels), such as an electrocardiogram or a sensor's readings.

`fcn` and `resnet`: Wang, Yan and Oates, "Time series classification from scratch with deep neural networks: a strong
baseline", 2017. Differs from the paper: convolutions before a normalisation have no bias, and identity shortcuts are
not normalised.
"""

import keras
from keras import layers

from cnn_keras.models import require_size
from cnn_keras.models.resnet import conv_norm, conv_norm_relu, merged, option_b


def two_conv(*, input_shape: tuple[int | None, ...] = (14, 1), classes: int = 10) -> keras.Model:
    """The one-dimensional example of introductory courses: 14×1, 16 filters of 5: 10×16, 32 filters of 5: 6×32.

    Args:
        input_shape: (length, channels), the length at least 9.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, length, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the signal is too short.
    """
    require_size(input_shape, 9)
    x = signal = keras.Input(input_shape, name="image")
    for place, filters in enumerate((16, 32), start=1):
        x = layers.Conv1D(filters, 5, activation="relu", kernel_initializer="he_normal", name=f"conv{place}")(x)
    return _averaged(signal, x, classes, name="conv1d_two_conv")


def fcn(*, input_shape: tuple[int | None, ...] = (96, 1), classes: int = 2) -> keras.Model:
    """The fully convolutional network of the paper: 128 filters of 8, 256 of 5, 128 of 3, averaged over time.

    Args:
        input_shape: (length, channels); the length may be None.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, length, channels), floats, to `logits` (batch, classes), float32.
    """
    x = signal = keras.Input(input_shape, name="image")
    for place, (filters, size) in enumerate(((128, 8), (256, 5), (128, 3)), start=1):
        x = conv_norm_relu(x, filters, size, name=f"conv{place}")
    return _averaged(signal, x, classes, name="conv1d_fcn")


def resnet(*, input_shape: tuple[int | None, ...] = (96, 1), classes: int = 2) -> keras.Model:
    """The residual network of the paper: three blocks of filters of 8, 5 and 3 positions. Arguments as for `fcn`."""
    x = signal = keras.Input(input_shape, name="image")
    for place, filters in enumerate((64, 128, 128), start=1):
        x = _block(x, filters, name=f"block{place}")
    return _averaged(signal, x, classes, name="conv1d_resnet")


def _block(x: keras.KerasTensor, filters: int, *, name: str) -> keras.KerasTensor:
    residue = conv_norm_relu(x, filters, 8, name=f"{name}_conv1")
    residue = conv_norm_relu(residue, filters, 5, name=f"{name}_conv2")
    residue = conv_norm(residue, filters, 3, name=f"{name}_conv3")
    return merged(option_b(x, filters, 1, name=f"{name}_shortcut"), residue, name=name)


def _averaged(signal: keras.KerasTensor, x: keras.KerasTensor, classes: int, name: str) -> keras.Model:
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(signal, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)
