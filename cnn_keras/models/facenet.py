"""FaceNet's two networks, and a small residual one of ours: pictures of faces to 128 numbers.

Schroff, Kalenichenko and Philbin, "FaceNet: a unified embedding for face recognition and clustering", 2015: NN1 is
table 1, after Zeiler and Fergus with 1×1 convolutions; NN2 is table 2, inception. The paper's last layer, which brings
the embedding to length 1, has no weights and is not here: `cnn_keras.models.siamese.embedding` adds it to these as to
any other network, whose `classes` logits are then the dimensions of the embedding.

Differs from the paper: He initialisation; the projections of 3c and 4e that the paper leaves out are left out here too,
and its "normalisation" layers are AlexNet's, with its constants.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cnn_keras.layers import L2Pooling, LocalResponseNormalization, Maxout
from cnn_keras.models import require_size
from cnn_keras.models.resnet import basic, conv_norm_relu

# Table 2: filters of 1×1; reduction and 3×3; reduction and 5×5; the pooling and its projection. The modules without
# 1×1 filters have stride 2.
MODULES = {
    "3a": (64, (96, 128), (16, 32), "max", 32),
    "3b": (64, (96, 128), (32, 64), "l2", 64),
    "3c": (0, (128, 256), (32, 64), "max", 0),
    "4a": (256, (96, 192), (32, 64), "l2", 128),
    "4b": (224, (112, 224), (32, 64), "l2", 128),
    "4c": (192, (128, 256), (32, 64), "l2", 128),
    "4d": (160, (144, 288), (32, 64), "l2", 128),
    "4e": (0, (160, 256), (64, 128), "max", 0),
    "5a": (384, (192, 384), (48, 128), "l2", 128),
    "5b": (384, (192, 384), (48, 128), "max", 128),
}
# Table 1: filters of the 1×1 and of the 3×3 convolution.
PAIRS = {"conv3": (192, 384), "conv4": (384, 256), "conv5": (256, 256), "conv6": (256, 256)}


def nn1(*, input_shape: tuple[int | None, ...] = (220, 220, 3), classes: int = 128, hidden: int = 4096) -> keras.Model:
    """FaceNet's NN1: 140,025,664 parameters and 1.606 G multiply-adds.

    Args:
        input_shape: (height, width, channels).
        classes: length of the logits, which are what is compared.
        hidden: units of each of the two maxout layers; the paper's 32 × 128.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32.
    """
    require_size(input_shape, 16)
    x = image = keras.Input(input_shape, name="image")
    x = _pool(_convolution(x, 64, 7, 2, name="conv1"), name="pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = _convolution(_convolution(x, 64, 1, name="conv2a"), 192, 3, name="conv2")
    x = _pool(LocalResponseNormalization(name="norm2")(x), name="pool2")
    for name, (reduction, filters) in PAIRS.items():
        x = _convolution(_convolution(x, reduction, 1, name=f"{name}a"), filters, 3, name=name)
        x = _pool(x, name="pool3") if name == "conv3" else x
    x = layers.Flatten(name="concat")(_pool(x, name="pool4"))
    for name in ("fc1", "fc2"):
        x = layers.Dense(2 * hidden, kernel_initializer="he_normal", name=name)(x)
        x = Maxout(2, name=f"{name}_maxout")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="nn1")


def nn2(*, input_shape: tuple[int | None, ...] = (224, 224, 3), classes: int = 128) -> keras.Model:
    """FaceNet's NN2: 7,456,304 parameters and 1.597 G multiply-adds.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits, which are what is compared.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        layers named `stage3`, `stage4` and `stage5` of strides 16, 32 and 32.
    """
    x = image = keras.Input(input_shape, name="image")
    x = _pool(_convolution(x, 64, 7, 2, name="conv1"), name="pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = _convolution(_convolution(x, 64, 1, name="inception2_3x3_reduce"), 192, 3, name="inception2_3x3")
    x = _pool(LocalResponseNormalization(name="norm2")(x), name="pool2")
    for name, filters in MODULES.items():
        x = _inception(x, *filters, name=f"inception{name}")
        if name in ("3c", "4e", "5b"):
            x = layers.Identity(name=f"stage{name[0]}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="nn2")


def small(
    *,
    input_shape: tuple[int | None, ...] = (112, 92, 1),
    classes: int = 128,
    filters: int = 24,
    depths: Sequence[int] = (1, 1, 1, 1),
    dropout: float = 0.0,
) -> keras.Model:
    """A small residual network of ours, for CPUs and few people: basic blocks in stages that double their filters.

    Args:
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits, which are what is compared.
        filters: of the first stage.
        depths: blocks in each stage; all stages but the first halve height and width, and so does the stem.
        dropout: share of the averaged features dropped in training, in [0, 1).

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32, with
        stages `stage1`, `stage2` and so on, of strides 2, 4 and so on.
    """
    x = image = keras.Input(input_shape, name="image")
    x = conv_norm_relu(x, filters, 5, 2, name="stem")
    for stage, depth in enumerate(depths):
        for unit in range(depth):
            stride = 2 if stage and not unit else 1
            x = basic(x, filters * 2**stage, stride, name=f"block{stage + 1}_{unit + 1}")
        x = layers.Identity(name=f"stage{stage + 1}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name="small")


def _inception(
    x: keras.KerasTensor,
    single: int,
    triple: tuple[int, int],
    quintuple: tuple[int, int],
    pool: str,
    projection: int,
    *,
    name: str,
) -> keras.KerasTensor:
    """Views of the same maps side by side, as in GoogLeNet; a module without 1×1 filters halves height and width."""
    stride = 1 if single else 2
    views = [_convolution(x, single, 1, name=f"{name}_1x1")] if single else []
    for size, (reduction, filters) in ((3, triple), (5, quintuple)):
        y = _convolution(x, reduction, 1, name=f"{name}_{size}x{size}_reduce")
        views.append(_convolution(y, filters, size, stride, name=f"{name}_{size}x{size}"))
    if pool == "l2":
        y = L2Pooling(3, name=f"{name}_pool")(x)
    else:
        y = layers.MaxPooling2D(3, strides=stride, padding="same", name=f"{name}_pool")(x)
    views.append(_convolution(y, projection, 1, name=f"{name}_projection") if projection else y)
    return layers.Concatenate(name=name)(views)


def _pool(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(x)


def _convolution(x: keras.KerasTensor, filters: int, size: int, stride: int = 1, *, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(filters, size, stride, "same", kernel_initializer="he_normal", name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(x)
