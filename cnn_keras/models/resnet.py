"""Residual networks and their plain twins.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015 (v1, CIFAR networks, plain twins);
the same, "Identity mappings in deep residual networks", 2016 (v2: normalisation and ReLU before each convolution).
v1.5 is the variant of most libraries: the bottleneck's stride sits in its 3×3 instead of its first 1×1 convolution.

Differs from the papers: the ImageNet v2 networks are laid out as the published Keras weights want them, where
a stage ends, rather than begins, with its stride, where a max-pooling is the shortcut there, and where the stem, the
projections and the last convolution of a block have biases. In the small v2 networks of basic blocks the shortcut of
the very first block starts before its normalisation, not behind.
"""

from collections.abc import Callable, Sequence
from functools import partial

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization, PadChannels

Block = Callable[..., keras.KerasTensor]  # of a tensor, filters, stride and name

# Convolutions and their normalisation, of signals, images and volumes.

RANKS = {
    1: (layers.Conv1D, layers.ZeroPadding1D),
    2: (layers.Conv2D, layers.ZeroPadding2D),
    3: (layers.Conv3D, layers.ZeroPadding3D),
}


def convolution(
    x: keras.KerasTensor, filters: int, size: int, stride: int = 1, *, bias: bool = False, name: str
) -> keras.KerasTensor:
    """One to three spatial axes, padded alike at both ends; with a stride, Keras' "same" would not."""
    convolve, pad = RANKS[len(x.shape) - 2]
    padding = "same"
    if size > 1 and stride > 1:
        x, padding = pad(size // 2, name=f"{name}_pad")(x), "valid"
    return convolve(filters, size, stride, padding, use_bias=bias, kernel_initializer="he_normal", name=name)(x)


def norm(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Batch normalisation with the papers' constants."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def conv_norm(x: keras.KerasTensor, filters: int, size: int, stride: int = 1, *, name: str) -> keras.KerasTensor:
    """A convolution without bias, normalised."""
    return norm(convolution(x, filters, size, stride, name=name), name=f"{name}_norm")


def conv_norm_relu(x: keras.KerasTensor, filters: int, size: int, stride: int = 1, *, name: str) -> keras.KerasTensor:
    """The unit of v1."""
    return layers.ReLU(name=f"{name}_relu")(conv_norm(x, filters, size, stride, name=name))


def norm_relu(x: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """What stands before each convolution of v2."""
    return layers.ReLU(name=f"{name}_relu")(norm(x, name=f"{name}_norm"))


# Shortcuts, by the names of the paper.


def option_a(x: keras.KerasTensor, filters: int, stride: int, *, name: str) -> keras.KerasTensor:
    """The identity, without weights: every stride-th position, and zeros for new channels."""
    if stride > 1:
        x = layers.MaxPooling2D(1, strides=stride, name=f"{name}_stride")(x)
    return x if x.shape[-1] == filters else PadChannels(filters, name=f"{name}_zeros")(x)


def option_b(x: keras.KerasTensor, filters: int, stride: int, *, name: str) -> keras.KerasTensor:
    """The identity where shapes agree, a normalised 1×1 convolution elsewhere."""
    if stride == 1 and x.shape[-1] == filters:
        return x
    return conv_norm(x, filters, 1, stride, name=name)


SHORTCUTS = {"A": option_a, "B": option_b}

# Blocks: (batch, height, width, channels) to (batch, height / stride, width / stride, filters of the block).


def plain(x: keras.KerasTensor, filters: int, stride: int, *, name: str) -> keras.KerasTensor:
    """Two 3×3 convolutions: what a basic block is without its shortcut."""
    x = conv_norm_relu(x, filters, 3, stride, name=f"{name}_conv1")
    return conv_norm_relu(x, filters, 3, name=f"{name}_conv2")


def basic(
    x: keras.KerasTensor, filters: int, stride: int, *, shortcut: Callable[..., keras.KerasTensor] = option_b, name: str
) -> keras.KerasTensor:
    """Two 3×3 convolutions and a shortcut."""
    residue = conv_norm_relu(x, filters, 3, stride, name=f"{name}_conv1")
    residue = conv_norm(residue, filters, 3, name=f"{name}_conv2")
    return merged(shortcut(x, filters, stride, name=f"{name}_shortcut"), residue, name=name)


def bottleneck(
    x: keras.KerasTensor, filters: int, stride: int, *, strides_3x3: bool = False, name: str
) -> keras.KerasTensor:
    """1×1 down to `filters`, 3×3, 1×1 up to four times as many, and a shortcut; v1.5 strides in the 3×3."""
    first, second = (1, stride) if strides_3x3 else (stride, 1)
    residue = conv_norm_relu(x, filters, 1, first, name=f"{name}_conv1")
    residue = conv_norm_relu(residue, filters, 3, second, name=f"{name}_conv2")
    residue = conv_norm(residue, 4 * filters, 1, name=f"{name}_conv3")
    return merged(option_b(x, 4 * filters, stride, name=f"{name}_shortcut"), residue, name=name)


def merged(shortcut: keras.KerasTensor, residue: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """The sum of two maps of one shape, and its ReLU: how a block of v1 ends."""
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([shortcut, residue]))


def pre_activation(x: keras.KerasTensor, filters: int, stride: int, *, name: str) -> keras.KerasTensor:
    """Two 3×3 convolutions, each behind its normalisation and ReLU, and a shortcut nothing is done to."""
    active = norm_relu(x, name=f"{name}_first")
    if stride > 1 or x.shape[-1] != filters:
        x = convolution(active, filters, 1, stride, name=f"{name}_shortcut")
    residue = convolution(active, filters, 3, stride, name=f"{name}_conv1")
    residue = convolution(norm_relu(residue, name=f"{name}_second"), filters, 3, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_sum")([x, residue])


def pre_activation_bottleneck(x: keras.KerasTensor, filters: int, stride: int, *, name: str) -> keras.KerasTensor:
    """The bottleneck of v2, laid out as the published Keras weights want it."""
    active = norm_relu(x, name=f"{name}_first")
    if x.shape[-1] != 4 * filters:
        x = convolution(active, 4 * filters, 1, stride, bias=True, name=f"{name}_shortcut")
    elif stride > 1:
        x = layers.MaxPooling2D(1, strides=stride, name=f"{name}_shortcut")(x)
    residue = convolution(active, filters, 1, name=f"{name}_conv1")
    residue = convolution(norm_relu(residue, name=f"{name}_second"), filters, 3, stride, name=f"{name}_conv2")
    residue = convolution(norm_relu(residue, name=f"{name}_third"), 4 * filters, 1, bias=True, name=f"{name}_conv3")
    return layers.Add(name=f"{name}_sum")([x, residue])


# Networks: models from `image` (batch, height, width, channels), floats, to `logits` (batch, classes), float32. Their
# stages end in layers named `stage1`, `stage2` and so on, for detectors and segmenters to tap.


def residual_network(
    block: Block,
    depths: Sequence[int],
    *,
    input_shape: tuple[int | None, ...] = (224, 224, 3),
    classes: int = 1000,
    name: str,
) -> keras.Model:
    """The ImageNet networks: four stages of strides 4, 8, 16 and 32.

    Args:
        block: function of a tensor, filters, stride and name, see above.
        depths: blocks in each stage.
        input_shape: (height, width, channels); height and width may be None.
        classes: length of the logits.
        name: of the model.
    """
    image = keras.Input(input_shape, name="image")
    x = _pooled(conv_norm_relu(image, 64, 7, stride=2, name="stem"))
    for stage, depth in enumerate(depths, start=1):
        for unit in range(1, depth + 1):
            stride = 2 if stage > 1 and unit == 1 else 1
            x = block(x, 64 * 2 ** (stage - 1), stride, name=f"stage{stage}_unit{unit}")
        x = layers.Identity(name=f"stage{stage}")(x)
    return _classifier(image, x, classes, name)


def pre_activation_network(
    depths: Sequence[int], *, input_shape: tuple[int | None, ...] = (224, 224, 3), classes: int = 1000, name: str
) -> keras.Model:
    """The ImageNet networks of v2: all stages but the last end with a stride, so strides are 8, 16, 32 and 32.

    Arguments are those of `residual_network`.
    """
    image = keras.Input(input_shape, name="image")
    x = _pooled(convolution(image, 64, 7, stride=2, bias=True, name="stem"))
    for stage, depth in enumerate(depths, start=1):
        for unit in range(1, depth + 1):
            stride = 2 if stage < len(depths) and unit == depth else 1
            x = pre_activation_bottleneck(x, 64 * 2 ** (stage - 1), stride, name=f"stage{stage}_unit{unit}")
        x = layers.Identity(name=f"stage{stage}")(x)
    return _classifier(image, norm_relu(x, name="last"), classes, name)


def small_network(
    block: Block, depth: int, *, input_shape: tuple[int | None, ...] = (32, 32, 3), classes: int = 10, name: str
) -> keras.Model:
    """The CIFAR networks: three stages of `depth` blocks with 16, 32 and 64 filters, of strides 1, 2 and 4.

    Arguments are those of `residual_network`, but for the depth.
    """
    image = keras.Input(input_shape, name="image")
    x = _three_stages(conv_norm_relu(image, 16, 3, name="stem"), block, depth)
    return _classifier(image, x, classes, name)


def small_residual_network(
    depth: int, *, input_shape: tuple[int | None, ...] = (32, 32, 3), classes: int = 10, shortcut: str = "A", name: str
) -> keras.Model:
    """`small_network` of basic blocks, with the paper's option for shortcuts that change size.

    Args:
        shortcut: "A" for zeros in the new channels, "B" for 1×1 convolutions.

    Raises:
        Fault: when the option is neither.
    """
    if shortcut not in SHORTCUTS:
        raise Fault(f"shortcut must be one of {', '.join(SHORTCUTS)}, got {shortcut!r}")
    block = partial(basic, shortcut=SHORTCUTS[shortcut])
    return small_network(block, depth, input_shape=input_shape, classes=classes, name=name)


def small_pre_activation_network(
    block: Block, depth: int, *, input_shape: tuple[int | None, ...] = (32, 32, 3), classes: int = 10, name: str
) -> keras.Model:
    """`small_network` of v2."""
    image = keras.Input(input_shape, name="image")
    x = _three_stages(convolution(image, 16, 3, name="stem"), block, depth)
    return _classifier(image, norm_relu(x, name="last"), classes, name)


def _three_stages(x: keras.KerasTensor, block: Block, depth: int) -> keras.KerasTensor:
    for stage, filters in enumerate((16, 32, 64), start=1):
        for unit in range(1, depth + 1):
            stride = 2 if stage > 1 and unit == 1 else 1
            x = block(x, filters, stride, name=f"stage{stage}_unit{unit}")
        x = layers.Identity(name=f"stage{stage}")(x)
    return x


def _pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, strides=2, name="stem_pool")(x)


def _classifier(image: keras.KerasTensor, x: keras.KerasTensor, classes: int, name: str) -> keras.Model:
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


# Table 1 of the first paper: blocks in each stage; parameters at 1000 classes.
resnet18 = partial(residual_network, basic, (2, 2, 2, 2), name="resnet18")  # 11.7 M
resnet34 = partial(residual_network, basic, (3, 4, 6, 3), name="resnet34")  # 21.8 M
resnet50 = partial(residual_network, bottleneck, (3, 4, 6, 3), name="resnet50")  # 25.6 M
resnet101 = partial(residual_network, bottleneck, (3, 4, 23, 3), name="resnet101")  # 44.5 M
resnet152 = partial(residual_network, bottleneck, (3, 8, 36, 3), name="resnet152")  # 60.2 M
plain18 = partial(residual_network, plain, (2, 2, 2, 2), name="plain18")  # 11.5 M
plain34 = partial(residual_network, plain, (3, 4, 6, 3), name="plain34")  # 21.6 M

late = partial(bottleneck, strides_3x3=True)
resnet50_v1_5 = partial(residual_network, late, (3, 4, 6, 3), name="resnet50_v1_5")
resnet101_v1_5 = partial(residual_network, late, (3, 4, 23, 3), name="resnet101_v1_5")
resnet152_v1_5 = partial(residual_network, late, (3, 8, 36, 3), name="resnet152_v1_5")

resnet50v2 = partial(pre_activation_network, (3, 4, 6, 3), name="resnet50v2")  # 25.6 M
resnet101v2 = partial(pre_activation_network, (3, 4, 23, 3), name="resnet101v2")  # 44.6 M
resnet152v2 = partial(pre_activation_network, (3, 8, 36, 3), name="resnet152v2")  # 60.2 M

# Section 4.2 and table 6: 6n + 2 layers; parameters at 10 classes with shortcuts of option A.
resnet20 = partial(small_residual_network, 3, name="resnet20")  # 0.27 M
resnet32 = partial(small_residual_network, 5, name="resnet32")  # 0.46 M
resnet44 = partial(small_residual_network, 7, name="resnet44")  # 0.66 M
resnet56 = partial(small_residual_network, 9, name="resnet56")  # 0.85 M
resnet110 = partial(small_residual_network, 18, name="resnet110")  # 1.7 M
plain20 = partial(small_network, plain, 3, name="plain20")
plain32 = partial(small_network, plain, 5, name="plain32")
plain44 = partial(small_network, plain, 7, name="plain44")
plain56 = partial(small_network, plain, 9, name="plain56")
plain110 = partial(small_network, plain, 18, name="plain110")

# Table 1 of the second paper: networks of 6n + 2 layers, and of 9n + 2 with bottlenecks.
resnet20v2 = partial(small_pre_activation_network, pre_activation, 3, name="resnet20v2")
resnet56v2 = partial(small_pre_activation_network, pre_activation, 9, name="resnet56v2")
resnet110v2 = partial(small_pre_activation_network, pre_activation, 18, name="resnet110v2")
