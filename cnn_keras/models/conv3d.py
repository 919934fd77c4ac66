"""Networks of volumes and clips: (depth or frames, height, width, channels).

`c3d`: Tran, Bourdev, Fergus, Torresani and Paluri, "Learning spatiotemporal features with 3D convolutional networks",
2015. `resnet18`: Tran, Wang, Torresani, Ray, LeCun and Paluri, "A closer look at spatiotemporal convolutions for action
recognition", 2018 (R3D). Differs from the papers: He initialisation.
"""

import keras
from keras import layers

from cnn_keras.models import require_size
from cnn_keras.models.resnet import basic, norm


def two_conv(*, input_shape: tuple[int | None, ...] = (14, 14, 14, 1), classes: int = 10) -> keras.Model:
    """The three-dimensional example of introductory courses: 14³×1, 16 filters of 5³: 10³×16, 32 filters: 6³×32.

    Args:
        input_shape: (depth, height, width, channels), each side at least 9.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, depth, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the volume is too small.
    """
    require_size(input_shape, 9)
    x = volume = keras.Input(input_shape, name="image")
    for place, filters in enumerate((16, 32), start=1):
        x = layers.Conv3D(filters, 5, activation="relu", kernel_initializer="he_normal", name=f"conv{place}")(x)
    x = layers.GlobalAveragePooling3D(name="pool")(x)
    return _classifier(volume, x, classes, name="conv3d_two_conv")


# Figure 3 of the C3D paper: filters of the convolutions of each stage.
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def c3d(
    *,
    input_shape: tuple[int | None, ...] = (16, 112, 112, 3),
    classes: int = 487,
    hidden: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """C3D: eight convolutions of 3³ and five poolings, of which the first leaves time alone; 79,991,015 parameters.

    Args:
        input_shape: (frames, height, width, channels).
        classes: length of the logits.
        hidden: units of each of the two dense layers before the last.
        dropout: share of those units dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, frames, height, width, channels), floats, to `logits` (batch, classes), float32.
    """
    x = clip = keras.Input(input_shape, name="image")
    for stage, widths in enumerate(STAGES, start=1):
        for filters, letter in zip(widths, "ab", strict=False):
            x = layers.Conv3D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"conv{stage}{letter}",
            )(x)
        window = (1, 2, 2) if stage == 1 else (2, 2, 2)
        x = layers.MaxPooling3D(window, padding="same", name=f"pool{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    for dense in ("fc6", "fc7"):
        x = layers.Dense(hidden, activation="relu", kernel_initializer="he_normal", name=dense)(x)
        x = layers.Dropout(dropout, name=f"{dense}_dropout")(x)
    return _classifier(clip, x, classes, name="c3d")


def resnet18(*, input_shape: tuple[int | None, ...] = (16, 112, 112, 3), classes: int = 400) -> keras.Model:
    """R3D-18: the ResNet-18 of clips, all of whose filters reach over three frames; 33,371,472 parameters.

    Args:
        input_shape: (frames, height, width, channels); the first three may be None.
        classes: length of the logits.

    Returns:
        A model from `image` (batch, frames, height, width, channels), floats, to `logits` (batch, classes), float32.
    """
    clip = keras.Input(input_shape, name="image")
    x = layers.ZeroPadding3D((1, 3, 3), name="stem_pad")(clip)
    x = layers.Conv3D(64, (3, 7, 7), (1, 2, 2), use_bias=False, kernel_initializer="he_normal", name="stem")(x)
    x = layers.ReLU(name="stem_relu")(norm(x, name="stem_norm"))
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for unit in (1, 2):
            stride = 2 if stage > 1 and unit == 1 else 1
            x = basic(x, filters, stride, name=f"stage{stage}_unit{unit}")
    return _classifier(clip, layers.GlobalAveragePooling3D(name="pool")(x), classes, name="conv3d_resnet18")


def _classifier(volume: keras.KerasTensor, x: keras.KerasTensor, classes: int, name: str) -> keras.Model:
    return keras.Model(volume, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)
