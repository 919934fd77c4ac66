"""Maxout networks: Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout networks", 2013.

The sizes are those of the authors' `mnist.yaml` in pylearn2.

Differs from the paper: the convolutions have one bias for each map, not one for each position; He initialisation, and
inputs scaled up in training for those that are dropped; where the last window of a pooling hangs over the edge, it
sees zeros there.
"""

import keras
from keras import layers

from cnn_keras.layers import Maxout
from cnn_keras.models import require_size

LARGEST_NORM = 1.9365  # of a filter; the first layer's is smaller


def maxout(
    *, input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10, input_dropout: float = 0.2, dropout: float = 0.5
) -> keras.Model:
    """The convolutional network for MNIST (0.45 % errors in the paper's table 2): 418,714 parameters.

    Three convolutions whose maps compete in twos and fours, each with a pooling, and one dense layer.

    Args:
        input_shape: (height, width, channels), height and width at least 18; the dense layer grows with it.
        classes: length of the logits.
        input_dropout: share of the pixels dropped in training, in [0, 1).
        dropout: share of the values behind each pooling dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 18)
    x = image = keras.Input(input_shape, name="image")
    x = layers.Dropout(input_dropout, name="image_dropout")(x)
    x = _competing(x, 48, 2, size=8, largest_norm=0.9, name="conv1")
    x = layers.Dropout(dropout, name="dropout1")(_pool(x, 4, name="pool1"))
    x = _competing(layers.ZeroPadding2D(3, name="pad2")(x), 48, 2, size=8, name="conv2")
    x = layers.Dropout(dropout, name="dropout2")(_pool(x, 4, name="pool2"))
    x = _competing(layers.ZeroPadding2D(3, name="pad3")(x), 24, 4, size=5, name="conv3")
    x = layers.Dropout(dropout, name="dropout3")(_pool(x, 2, name="pool3"))
    x = layers.Flatten(name="flatten")(x)
    limit = keras.constraints.MaxNorm(LARGEST_NORM, axis=0)
    logits = layers.Dense(classes, kernel_constraint=limit, dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name="maxout")


def _competing(
    x: keras.KerasTensor, filters: int, pieces: int, *, size: int, name: str, largest_norm: float = LARGEST_NORM
) -> keras.KerasTensor:
    """A convolution of `pieces` times `filters` maps, and maxout, which keeps the largest of every `pieces`."""
    limit = keras.constraints.MaxNorm(largest_norm, axis=[0, 1, 2])
    options = {"kernel_initializer": "he_normal", "kernel_constraint": limit}
    x = layers.Conv2D(filters * pieces, size, name=name, **options)(x)
    return Maxout(pieces, name=f"{name}_maxout")(x)


def _pool(x: keras.KerasTensor, size: int, *, name: str) -> keras.KerasTensor:
    """Max-pooling by twos that leaves out no row or column: zeros complete the last windows."""
    padding = [(0, (size - side) % 2) for side in x.shape[1:3]]
    if any(pixels for _, pixels in padding):
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, strides=2, name=name)(x)
