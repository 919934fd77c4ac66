"""EfficientNet-Lite0: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019, in
the authors' variant for small devices: ReLU6 instead of swish and no squeeze-and-excitation.

Differs from the authors' model: He initialisation, no stochastic depth.
"""

import keras
from keras import layers

from cnn_keras.models.mobilenet import conv_norm, inverted_residual, relu6

# Table 1 of the paper: expansion, filters, repetitions, the first one's stride and the filter's size.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet_lite0(
    *, input_shape: tuple[int | None, ...] = (224, 224, 3), classes: int = 1000, dropout: float = 0.2
) -> keras.Model:
    """EfficientNet-Lite0: 4,652,008 parameters, about 0.4 billion multiply-adds.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.
        dropout: share of the averaged features dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1` to `stage7` of strides 2, 4, 8, 16, 16, 32 and 32.
    """
    image = keras.Input(input_shape, name="image")
    x = relu6(conv_norm(image, 32, 3, 2, name="stem"), name="stem_relu")
    for stage, (expansion, filters, repetitions, stride, size) in enumerate(STAGES, start=1):
        for unit in range(1, repetitions + 1):
            step = stride if unit == 1 else 1
            x = inverted_residual(x, filters, step, expansion=expansion, size=size, name=f"stage{stage}_unit{unit}")
        x = layers.Identity(name=f"stage{stage}")(x)
    x = relu6(conv_norm(x, 1280, 1, name="features"), name="features_relu")
    x = layers.Dropout(dropout, name="dropout")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="efficientnet_lite0")
