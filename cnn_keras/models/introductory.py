"""The small network that introductory courses build first: two convolutions and two dense layers."""

import keras
from keras import layers

from cnn_keras.models import require_size


def two_conv(*, input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, dropout: float = 0.0) -> keras.Model:
    """32 conv 3×3 – pool – 64 conv 3×3 – pool – dense 1024 – logits.

    3,241,354 parameters at 28×28×1 and 10 classes.

    Args:
        input_shape: (height, width, channels), height and width at least 4.
        classes: length of the logits.
        dropout: share of the dense units dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 4)
    x = image = keras.Input(input_shape, name="image")
    for stage, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(
            filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=f"conv{stage}"
        )(x)
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
    x = layers.Dense(1024, activation="relu", kernel_initializer="he_normal", name="dense")(
        layers.Flatten(name="flatten")(x)
    )
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="two_conv")
