"""DenseNet: Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", 2016.

The networks with bottlenecks and compression one half (DenseNet-BC). Differs from the paper: nothing known.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import layers

from cnn_keras.models import require_size
from cnn_keras.models.resnet import conv_norm_relu, convolution, norm_relu


def dense_network(
    depths: Sequence[int],
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 1000,
    growth: int = 32,
    name: str,
) -> keras.Model:
    """Four blocks whose every layer sees the maps of all layers before it.

    Args:
        depths: layers of each block, of two convolutions each.
        input_shape: (height, width, channels); height and width at least 29, or None.
        classes: length of the logits.
        growth: maps that every layer adds.
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage4` of strides 4, 8, 16 and 32.

    Raises:
        Fault: when the image is too small.
    """
    require_size(input_shape, 29)
    image = keras.Input(input_shape, name="image")
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(conv_norm_relu(image, 2 * growth, 7, 2, name="stem"))
    x = layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)
    for stage, depth in enumerate(depths, start=1):
        if stage > 1:
            x = _transition(x, name=f"transition{stage}")
        for unit in range(1, depth + 1):
            x = _dense_layer(x, growth, name=f"stage{stage}_unit{unit}")
        x = layers.Identity(name=f"stage{stage}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(norm_relu(x, name="last"))
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


def _dense_layer(x: keras.KerasTensor, growth: int, *, name: str) -> keras.KerasTensor:
    added = convolution(norm_relu(x, name=f"{name}_first"), 4 * growth, 1, name=f"{name}_conv1")
    added = convolution(norm_relu(added, name=f"{name}_second"), growth, 3, name=f"{name}_conv2")
    return layers.Concatenate(name=name)([x, added])


def _transition(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Half the maps at half the size."""
    x = convolution(norm_relu(x, name=name), x.shape[-1] // 2, 1, name=f"{name}_conv")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


# Table 1 of the paper: layers of each block; parameters at 1000 classes.
densenet121 = partial(dense_network, (6, 12, 24, 16), name="densenet121")  # 8.0 M
densenet169 = partial(dense_network, (6, 12, 32, 32), name="densenet169")  # 14.1 M
densenet201 = partial(dense_network, (6, 12, 48, 32), name="densenet201")  # 20.0 M
