"""Stacks of equal convolutions, to compare what a receptive field costs: Simonyan and Zisserman, 2014, section 2.3.

Three 3×3 layers see as far as one 7×7 layer, with 27·C² weights against 49·C² and three rectifications for one.

Differs from the paper, where such a stack is a part of a network: here it is one, with an average and a dense layer
behind it. Its convolutions have no biases, as in the paper's count.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers


def stack(
    sizes: Sequence[int],
    *,
    input_shape: tuple[int | None, ...] = (56, 56, 64),
    classes: int = 10,
    filters: int | None = None,
    name: str,
) -> keras.Model:
    """Convolutions of stride 1, one behind the other, averaged over all positions and classified.

    Args:
        sizes: of the windows, one for each convolution.
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.
        filters: of each convolution; as many as the input has channels, the paper's C, unless given.
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32. The
        convolutions are named `conv1`, `conv2` and so on.
    """
    x = image = keras.Input(input_shape, name="image")
    for number, size in enumerate(sizes, start=1):
        convolution = layers.Conv2D(
            filters or input_shape[-1],
            size,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )
        x = layers.ReLU(name=f"relu{number}")(convolution(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


three_3x3 = partial(stack, (3, 3, 3), name="three_3x3")
one_7x7 = partial(stack, (7,), name="one_7x7")
