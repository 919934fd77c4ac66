"""GoogLeNet: Szegedy et al., "Going deeper with convolutions", 2014 (Inception v1), as the authors' Caffe model has it.

With batch normalisation: Ioffe and Szegedy, "Batch normalization", 2015, on the same modules. torchvision's
GoogLeNet is another network: its 5×5 convolutions are 3×3.

Differs from the paper: He initialisation.
"""

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization, LocalResponseNormalization

AUXILIARY_WEIGHT = 0.3  # of the loss of each auxiliary head against that of the logits (section 5)

# Table 1 of the paper, filters of each module: 1×1; reduction and 3×3; reduction and 5×5; projection of the pool.
MODULES = {
    "3a": (64, (96, 128), (16, 32), 32),
    "3b": (128, (128, 192), (32, 96), 64),
    "4a": (192, (96, 208), (16, 48), 64),
    "4b": (160, (112, 224), (24, 64), 64),
    "4c": (128, (128, 256), (24, 64), 64),
    "4d": (112, (144, 288), (32, 64), 64),
    "4e": (256, (160, 320), (32, 128), 128),
    "5a": (256, (160, 320), (32, 128), 128),
    "5b": (384, (192, 384), (48, 128), 128),
}
HEADS = {"4a": "auxiliary1", "4d": "auxiliary2"}


def googlenet(
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 1000,
    batch_norm: bool = False,
    reductions: bool = True,
    auxiliary: bool = False,
    dropout: float = 0.4,
) -> keras.Model:
    """GoogLeNet: 6,998,552 parameters, 7,005,832 with batch normalisation, 13,378,280 with the auxiliary heads.

    Args:
        input_shape: (height, width, channels).
        classes: length of the logits.
        batch_norm: normalise behind every convolution, which then has no bias, instead of the two response
            normalisations.
        reductions: False for the naive modules of figure 2(a), without any 1×1 convolution before the 3×3 and 5×5 or
            behind the pooling. Each then hands on all the channels it is given, and more: 97 M parameters.
        auxiliary: add the two side classifiers. Train them with `AUXILIARY_WEIGHT`; to drop them afterwards,
            make a model of the same input and the output of the layer `logits`.
        dropout: share of the averaged features dropped in training, in [0, 1); the heads drop 0.7.

    Returns:
        A model from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32; with
        heads to a dictionary of `logits`, `auxiliary1` and `auxiliary2`, all of that shape. The stages end in
        layers named `stage3`, `stage4` and `stage5`, with strides 8, 16 and 32.

    Raises:
        Fault: when the image is too small for the heads, whose pooling covers 5×5 positions of stride 16.
    """
    image = keras.Input(input_shape, name="image")
    x = _stem(image, batch_norm)
    heads = {}
    for module, filters in MODULES.items():
        if module in ("4a", "5a"):
            x = _pool(x, name=f"pool{int(module[0]) - 1}")
        build = _inception if reductions else _naive
        x = build(x, *filters, batch_norm, name=f"inception{module}")
        if auxiliary and module in HEADS:
            heads[HEADS[module]] = _head(x, classes, batch_norm, name=HEADS[module])
        if module in ("3b", "4e", "5b"):
            x = layers.Identity(name=f"stage{module[0]}")(x)
    x = layers.Dropout(dropout, name="dropout")(layers.GlobalAveragePooling2D(name="average")(x))
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(image, {"logits": logits, **heads} if heads else logits, name="googlenet")


def _stem(x: keras.KerasTensor, batch_norm: bool) -> keras.KerasTensor:
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)  # alike on both sides, unlike "same" with a stride
    x = _pool(_convolution(x, 64, 7, batch_norm, strides=2, padding="valid", name="conv1"), name="pool1")
    x = x if batch_norm else LocalResponseNormalization(name="norm1")(x)
    x = _convolution(x, 64, 1, batch_norm, name="conv2_reduce")
    x = _convolution(x, 192, 3, batch_norm, name="conv2")
    x = x if batch_norm else LocalResponseNormalization(name="norm2")(x)
    return _pool(x, name="pool2")


def _inception(
    x: keras.KerasTensor,
    single: int,
    triple: tuple[int, int],
    quintuple: tuple[int, int],
    projection: int,
    batch_norm: bool,
    *,
    name: str,
) -> keras.KerasTensor:
    """Four views of the same maps side by side: 1×1, 3×3, 5×5 and pooled; 1×1 reductions make them affordable."""
    a = _convolution(x, single, 1, batch_norm, name=f"{name}_1x1")
    b = _convolution(x, triple[0], 1, batch_norm, name=f"{name}_3x3_reduce")
    b = _convolution(b, triple[1], 3, batch_norm, name=f"{name}_3x3")
    c = _convolution(x, quintuple[0], 1, batch_norm, name=f"{name}_5x5_reduce")
    c = _convolution(c, quintuple[1], 5, batch_norm, name=f"{name}_5x5")
    d = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    d = _convolution(d, projection, 1, batch_norm, name=f"{name}_projection")
    return layers.Concatenate(name=name)([a, b, c, d])


def _naive(
    x: keras.KerasTensor,
    single: int,
    triple: tuple[int, int],
    quintuple: tuple[int, int],
    _projection: int,
    batch_norm: bool,
    *,
    name: str,
) -> keras.KerasTensor:
    """The module as it was first thought of, which the paper shows to be too expensive (figure 2a)."""
    a = _convolution(x, single, 1, batch_norm, name=f"{name}_1x1")
    b = _convolution(x, triple[1], 3, batch_norm, name=f"{name}_3x3")
    c = _convolution(x, quintuple[1], 5, batch_norm, name=f"{name}_5x5")
    d = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    return layers.Concatenate(name=name)([a, b, c, d])


def _head(x: keras.KerasTensor, classes: int, batch_norm: bool, *, name: str) -> keras.KerasTensor:
    """A side classifier, which brings the gradient to the middle of the network."""
    if None in x.shape[1:3] or min(x.shape[1:3]) < 5:
        raise Fault(
            f"input_shape must give the auxiliary heads 5×5 positions, got {x.shape[1]}×{x.shape[2]}; "
            "take images of at least 65 pixels, or auxiliary=False"
        )
    x = layers.AveragePooling2D(5, strides=3, name=f"{name}_pool")(x)
    x = layers.Flatten(name=f"{name}_flatten")(_convolution(x, 128, 1, batch_norm, name=f"{name}_conv"))
    x = layers.Dense(1024, activation="relu", kernel_initializer="he_normal", name=f"{name}_dense")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, dtype="float32", name=name)(x)


def _pool(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(x)


def _convolution(
    x: keras.KerasTensor,
    filters: int,
    size: int,
    batch_norm: bool,
    *,
    name: str,
    strides: int = 1,
    padding: str = "same",
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, size, strides, padding, use_bias=not batch_norm, kernel_initializer="he_normal", name=name
    )(x)
    if batch_norm:
        x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
