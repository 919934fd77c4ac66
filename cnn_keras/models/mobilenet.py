"""MobileNet-V2: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: inverted residuals and linear bottlenecks",
2018. Differs from the paper: He initialisation.
"""

import keras
from keras import layers

from cnn_keras.layers import BatchNormalization

# Table 2 of the paper: expansion, filters, repetitions and the first one's stride.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 1000,
    width: float = 1.0,
    dropout: float = 0.2,
) -> keras.Model:
    """MobileNet-V2: 3,504,872 parameters and 300,774,272 multiply-adds.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.
        width: multiplies the filters of every layer, which stay multiples of 8; the features never get fewer
            than 1280.
        dropout: share of the averaged features dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage7` of strides 2, 4, 8, 16, 16, 32 and 32.
    """
    image = keras.Input(input_shape, name="image")
    x = relu6(conv_norm(image, divisible(32 * width), 3, 2, name="stem"), name="stem_relu")
    for stage, (expansion, filters, repetitions, stride) in enumerate(STAGES, start=1):
        for unit in range(1, repetitions + 1):
            step = stride if unit == 1 else 1
            name = f"stage{stage}_unit{unit}"
            x = inverted_residual(x, divisible(filters * width), step, expansion=expansion, name=name)
        x = layers.Identity(name=f"stage{stage}")(x)
    x = relu6(conv_norm(x, divisible(1280 * max(width, 1)), 1, name="features"), name="features_relu")
    x = layers.Dropout(dropout, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="mobilenet_v2")


def inverted_residual(
    x: keras.KerasTensor, filters: int, stride: int, *, expansion: int, size: int = 3, name: str
) -> keras.KerasTensor:
    """1×1 up to many channels, a filter of each, 1×1 down to few, linear; a shortcut where shapes agree."""
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        x = relu6(conv_norm(x, expansion * channels, 1, name=f"{name}_expand"), name=f"{name}_expand_relu")
    x = layers.DepthwiseConv2D(
        size, stride, "same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_depthwise"
    )(x)
    x = relu6(norm(x, name=f"{name}_depthwise_norm"), name=f"{name}_depthwise_relu")
    x = conv_norm(x, filters, 1, name=f"{name}_project")
    return x if stride > 1 or channels != filters else layers.Add(name=f"{name}_sum")([shortcut, x])


def conv_norm(x: keras.KerasTensor, filters: int, size: int, stride: int = 1, *, name: str) -> keras.KerasTensor:
    """A convolution without bias, normalised."""
    x = layers.Conv2D(filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return norm(x, name=f"{name}_norm")


def norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Batch normalisation with the epsilon of the published Keras weights."""
    return BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def relu6(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """min(max(x, 0), 6), which survives eight-bit arithmetic."""
    return layers.ReLU(6.0, name=name)(x)


def divisible(filters: float) -> int:
    """The nearest multiple of 8, but not below nine tenths of what was asked for."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8
