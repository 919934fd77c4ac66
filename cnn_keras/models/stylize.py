"""Style transfer: the tower of features that judges pictures, and the transformer that paints one in a single pass.

The tower is any network of the catalogue as far as its deepest tapped layer. The transformer is that of Johnson, Alahi
and Fei-Fei, "Perceptual losses for real-time style transfer and super-resolution", 2016, with instance normalisation
(Ulyanov, Vedaldi and Lempitsky, 2016) and, for many styles in one network, scales and shifts for each of them:
Dumoulin, Shlens and Kudlur, "A learned representation for artistic style", 2017.

Differs from the papers: as in the last of them, reflection instead of zeros at the borders, enlarging by nearest
neighbours and a convolution instead of a transposed one, and a sigmoid at the end. Maps are enlarged to the size that
they had before they were made smaller, so that any size comes out as it went in.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.ops.winograd import fixed_kernel_convolution
from cnn_keras.weights import catalog, pretrained

register = keras.saving.register_keras_serializable(package="cnn_keras")

SIDE = 96  # pixels for which a backbone is built before it is cut off: any network has room in it
POOLINGS = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}
UNPUBLISHED = {"axis": -1, "mean": [127.5] * 3, "variance": [127.5**2] * 3}  # of a network without published weights


class Taps(NamedTuple):
    """Layers of a backbone, and what each counts."""

    content: dict[str, float]
    style: dict[str, float]


def _equal(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 1.0)


# What is tapped unless told otherwise: of VGG the paper's layers, those that the edges' network still has.
TAPS = {
    "vgg.vgg19": Taps(_equal("conv4_2_relu"), _equal(*(f"conv{stage}_1_relu" for stage in range(1, 6)))),
    "vgg.vgg16": Taps(_equal("conv4_2_relu"), _equal(*(f"conv{stage}_1_relu" for stage in range(1, 5)))),
    "efficientnet.efficientnet_lite0": Taps(
        _equal("stage3"), _equal("stem_relu", "stage2_unit1_expand_relu", "stage3_unit1_expand_relu", "stage3")
    ),
}


def tower(builder: str, taps: Collection[str], *, weights: str | Path, pooling: str = "max") -> keras.Model:
    """A network of the catalogue as features: what its tapped layers answer to pictures of any size.

    Args:
        builder: its name, such as vgg.vgg19.
        taps: names of layers; what is behind the deepest of them is never computed.
        weights: of `cnn_keras.weights.pretrained`, or "random", which is a control and no extractor.
        pooling: "max", as trained, or "average", which the paper finds to look a little better.

    Returns:
        A model, not to be trained or saved, from `image`, float32 (batch, height, width, 3), RGB 0–255, to a dictionary
        of features by layer.

    Raises:
        Fault: no such builder, layer or pooling, or weights that cannot be had.
    """
    if pooling not in POOLINGS:
        raise Fault(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    network = models.build(builder, input_shape=(SIDE, SIDE, 3), classes=10)
    names = [layer.name for layer in network.layers]
    if unknown := [name for name in taps if name not in names]:
        raise Fault(f"layers must be those of {builder}, got {unknown[0]}; `cnn models show {builder}` lists them")
    image = keras.Input((None, None, 3), name="image")
    if weights == "random":
        _shuffle(network)
        row = catalog.PUBLISHED.get(builder)
        figures = row.normalization if row else UNPUBLISHED
    else:
        pretrained.load(network, builder, weights, say=False)
        figures = pretrained.normalization(builder, weights) or UNPUBLISHED
    features_model = keras.Model(network.inputs, [network.get_layer(name).output for name in taps])
    still = keras.models.clone_model(
        features_model,
        input_tensors=[keras.Input((None, None, 3))],
        clone_function=lambda layer: _still(layer, pooling),
    )
    features = still(layers.Normalization(**figures, name="normalization")(image))
    model = keras.Model(image, dict(zip(taps, keras.tree.flatten(features), strict=True)), name="tower")
    model.trainable = False
    return model


def _shuffle(network: keras.Model) -> None:
    """Fill kernels with He's normal distribution, the same numbers for ever: a control is one only if it is known."""
    generator = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D):
            deviation = np.sqrt(2 / np.prod(layer.kernel.shape[:-1]))
            layer.kernel.assign(generator.normal(0, deviation, layer.kernel.shape))


def _still(layer: layers.Layer, pooling: str) -> layers.Layer:
    """What stands for a layer in the tower: itself, but for poolings and for convolutions that can be faster."""
    if isinstance(layer, layers.MaxPooling2D):
        return POOLINGS[pooling](layer.pool_size, layer.strides, layer.padding, name=layer.name)
    return StillConvolution(layer) if _is_plain(layer) else layer


def _is_plain(layer: layers.Layer) -> bool:
    """Whether it is a convolution of the kind that `StillConvolution` does, in single precision."""
    if type(layer) is not layers.Conv2D or layer.compute_dtype != "float32":
        return False
    expected = {"kernel_size": (3, 3), "strides": (1, 1), "dilation_rate": (1, 1), "padding": "same", "groups": 1}
    return all(getattr(layer, name) == value for name, value in expected.items())


class StillConvolution(layers.Layer):
    """A 3×3 convolution with the weights of another that is not trained any more; see `cnn_keras.ops.winograd`."""

    def __init__(self, convolution: layers.Conv2D) -> None:
        super().__init__(name=convolution.name, trainable=False)
        self.convolve = fixed_kernel_convolution(convolution.kernel)
        self.shift = tf.constant(convolution.bias) if convolution.use_bias else None
        self.filters, self.activation = convolution.filters, convolution.activation

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = self.convolve(x)
        return self.activation(y if self.shift is None else tf.nn.bias_add(y, self.shift))

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.filters)


def transformer(
    *,
    input_shape: tuple[Any, ...] = (256, 256, 3),
    styles: int = 1,
    width: int = 32,
    blocks: int = 5,
    name: str = "transformer",
) -> keras.Model:
    """The network that paints: 1.7 million parameters.

    Args:
        input_shape: (height, width, 3); height and width may be None, and are at least 16.
        styles: how many it knows; of more than one, a second input says which.
        width: filters of the first convolution; twice and four times as many follow.
        blocks: residual blocks at a quarter of the size.
        name: of the model.

    Returns:
        A model from `image` (batch, height, width, 3), floats, RGB 0–255, to `painting`, float32 of the same shape and
        range. With several styles it takes `style` too, float32 (batch, styles): shares that sum to 1, a single 1 for
        one of them.

    Raises:
        Fault: when the image is too small.
    """
    models.require_size(input_shape, 16)
    image = keras.Input(input_shape, name="image")
    style = keras.Input((styles,), name="style") if styles > 1 else None
    x = layers.Rescaling(1 / 127.5, -1.0, name="rescaled")(image)
    x = half = _block(x, style, width, 9, name="conv1")
    x = quarter = _block(x, style, 2 * width, 3, stride=2, name="conv2")
    x = _block(x, style, 4 * width, 3, stride=2, name="conv3")
    for number in range(1, blocks + 1):
        inner = _block(x, style, 4 * width, 3, name=f"residual{number}_conv1")
        inner = _block(inner, style, 4 * width, 3, relu=False, name=f"residual{number}_conv2")
        x = layers.Add(name=f"residual{number}")([x, inner])
    x = _block(EnlargedLike(name="enlarged1")([x, quarter]), style, 2 * width, 3, name="conv4")
    x = _block(EnlargedLike(name="enlarged2")([x, half]), style, width, 3, name="conv5")
    x = _block(x, style, 3, 9, relu=False, name="conv6")
    x = layers.Activation("sigmoid", dtype="float32", name="share")(x)
    painting = layers.Rescaling(255.0, dtype="float32", name="painting")(x)
    return keras.Model([image, style] if styles > 1 else image, painting, name=name)


def _block(
    x: keras.KerasTensor,
    style: keras.KerasTensor | None,
    filters: int,
    size: int,
    *,
    stride: int = 1,
    relu: bool = True,
    name: str,
) -> keras.KerasTensor:
    """Reflected borders, a convolution, its instances normalised."""
    x = ReflectionPadding(size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(filters, size, stride, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    inputs = x if style is None else [x, style]
    x = InstanceNormalization(name=f"{name}_norm")(inputs)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


@register
class ReflectionPadding(layers.Layer):
    """The picture beyond its borders goes on as in a mirror, without the outermost pixel twice.

    (batch, height, width, channels), sides longer than the border, to sides longer by it at both ends.

    Args:
        width: of the border, in pixels.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width

    def call(self, x: tf.Tensor) -> tf.Tensor:
        edge = [self.width, self.width]
        return tf.pad(x, [[0, 0], edge, edge, [0, 0]], "REFLECT")

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, *sides, channels = input_shape
        return (batch, *(None if side is None else side + 2 * self.width for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width}


@register
class InstanceNormalization(layers.Layer):
    """Each map of each image brought to mean 0 and variance 1 over its positions, then to a learnt scale and shift.

    (batch, height, width, channels), floats, to the same. Given a list of maps and shares of styles, (batch, styles),
    scale and shift are those of the styles, mixed.

    Args:
        epsilon: added to the variances.
    """

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        many = _of_two(input_shape)
        shape = (input_shape[1][-1], input_shape[0][-1]) if many else (1, input_shape[-1])
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")

    def call(self, inputs: Any) -> tf.Tensor:
        x, style = inputs if isinstance(inputs, list | tuple) else (inputs, None)
        exact = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(exact, axes=[1, 2], keepdims=True)
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        if style is not None:
            shares = tf.cast(style, tf.float32)
            gamma, beta = (tf.matmul(shares, part)[:, None, None] for part in (gamma, beta))
        scale = gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(exact * scale + (beta - mean * scale), x.dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        return input_shape[0] if _of_two(input_shape) else input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"epsilon": self.epsilon}


def _of_two(shapes: Any) -> bool:
    """Whether these are the shapes of two tensors; a file gives that of one as a list of numbers."""
    return isinstance(shapes[0], list | tuple)


@register
class EnlargedLike(layers.Layer):
    """Maps made as high and wide as others, by nearest neighbours: a list of (batch, h, w, channels) and (batch, H, W,
    any) to (batch, H, W, channels)."""

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        x, like = inputs
        return tf.image.resize(x, tf.shape(like)[1:3], method="nearest")

    def compute_output_shape(self, input_shape: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        x, like = input_shape
        return (*like[:3], x[-1])
