"""A network, an augmentation, a loss, a metric and a source for cnn-keras: how many dots are in the picture?"""

from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.classification import Item
from cnn_keras.data.transforms.transform import Colour, check_amounts, uniform
from cnn_keras.models import require_size


@keras.saving.register_keras_serializable("dots")
class Contrast(layers.Layer):
    """Each picture without its mean level; a layer of one's own must be registered, or saved models cannot be read."""

    def call(self, images):
        return images - tf.reduce_mean(images, axis=(1, 2), keepdims=True)


def dots_net(*, input_shape=(32, 32, 1), classes=3, filters=8):
    """Two convolutions and an average over the picture: counting needs no more.

    A builder takes keyword arguments only, `input_shape` and `classes` among them, and returns a functional model from
    `image` to `logits`.
    """
    require_size(input_shape, 8)
    image = keras.Input(input_shape, name="image")
    x = Contrast(name="contrast")(image)
    for number in (1, 2):
        x = layers.Conv2D(filters * number, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="dots_net")


def vignette(*, amount: float = 0.0) -> Colour:
    """The corners darkened by up to `amount`, a share in [0, 1].

    An augmentation is a factory: it checks its arguments and returns what is drawn from a seed, and what is done with
    it. This one changes float32 (height, width, channels), 0–255.
    """
    check_amounts("vignette", amount=amount)

    def change(image: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
        rows, columns = (tf.linspace(-1.0, 1.0, side) for side in image.shape[:2])
        far = (rows[:, None] ** 2 + columns[None] ** 2) / 2  # 0 in the middle, 1 in a corner
        return image * (1 - amount * drawn[0] * far[..., None])

    return Colour("vignette", uniform(1), change)


def brier(labels, logits):
    """The Brier score instead of cross-entropy: the squared distance of the probabilities from the truth.

    A loss is a function of one-hot labels and logits, both float32 (batch, classes), to one number for each example.
    """
    return tf.reduce_sum((labels - tf.nn.softmax(logits)) ** 2, axis=-1)


def miscount(labels, probabilities) -> float:
    """By how many dots the likeliest class is wrong, on average.

    A metric is a function of the labels, int64 (N,), and the probabilities, float32 (N, classes), of a split.
    """
    dots = np.array([1, 3, 2])  # classes are in alphabetical order: one, three, two
    return float(np.abs(dots[labels] - dots[probabilities.argmax(axis=1)]).mean())


def dots() -> list[Item]:
    """120 pictures of one, two or three dots, 32×32 grey pixels.

    A source returns items, and reads none: an id, the class's name, and a function that gives the encoded bytes. It
    may take `path`, `classes` and `group`, the settings of the same names.
    """
    return [Item(f"{row:03d}", ("one", "two", "three")[row % 3], partial(drawn, row)) for row in range(120)]


def drawn(row: int) -> bytes:
    """A PNG file with `row` % 3 + 1 dots that do not touch."""
    pixels = np.full((32, 32, 1), 30, np.uint8)
    for left, top, right, bottom in boxes(row):
        pixels[top:bottom, left:right] = 220
    return encode_png(pixels)


def boxes(row: int) -> list[tuple[int, int, int, int]]:
    """Where the dots are: left, top, right, bottom in pixels."""
    random = np.random.default_rng(row)
    found = []
    for place in random.permutation(9)[: row % 3 + 1]:
        top, left = (int(3 + 10 * cell + random.integers(0, 3)) for cell in divmod(place, 3))
        found.append((left, top, left + 4, top + 4))
    return found
