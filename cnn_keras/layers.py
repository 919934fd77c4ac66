"""Layers that families share and Keras lacks, every one registered, so that a saved model loads without help.

`scaled_tanh`, `SubSampling`, `PartialConv2D` and `FixedRBF` are those of LeNet-5: LeCun, Bottou, Bengio and
Haffner, "Gradient-based learning applied to document recognition", 1998.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.python.ops import control_flow_util  # private: nothing public knows whether XLA is tracing

from cnn_keras.errors import Fault

register = keras.saving.register_keras_serializable(package="cnn_keras")


@register
def scaled_tanh(x: keras.KerasTensor) -> keras.KerasTensor:
    """1.7159 · tanh(2x / 3), which maps ±1 to ±1: an activation for any float tensor (appendix A)."""
    return 1.7159 * ops.tanh(2 / 3 * x)


@register
class SubSampling(keras.layers.Layer):
    """Trainable sub-sampling: the sum of each 2×2 window times a coefficient plus a bias, one per channel.

    (batch, height, width, channels) to (batch, height // 2, width // 2, channels), floats.
    Differs from the paper: the coefficient starts at 1/4, so that the layer starts as average pooling.
    """

    pool_size = strides = (2, 2)
    padding = "valid"

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = (input_shape[-1],)
        quarter = keras.initializers.Constant(0.25)
        self.coefficient = self.add_weight(name="coefficient", shape=channels, initializer=quarter)
        self.bias = self.add_weight(name="bias", shape=channels, initializer="zeros")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return 4 * ops.average_pool(x, self.pool_size, self.strides) * self.coefficient + self.bias


@register
class PartialConv2D(keras.layers.Layer):
    """A valid convolution in which every output map sees only the input maps that a connection table names.

    (batch, height, width, channels) to (batch, height - f + 1, width - f + 1, len(table)), floats. The layer
    owns one f×f kernel for each connection and none for the absent ones, plus one bias for each output map.

    Args:
        table: for each output map the indices of the input maps it sees.
        kernel_size: f, or (height, width) of the kernels.

    Raises:
        Fault: when the table names an input map that does not exist.
    """

    strides = (1, 1)
    padding = "valid"

    def __init__(
        self,
        table: Iterable[Iterable[int]],
        kernel_size: int | Sequence[int],
        *,
        kernel_initializer: str | keras.initializers.Initializer = "lecun_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table = tuple(tuple(inputs) for inputs in table)
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels, maps = input_shape[-1], len(self.table)
        largest = max(index for inputs in self.table for index in inputs)
        if largest >= channels:
            raise Fault(f"table must name input maps 0 to {channels - 1}, got {largest}; give the input more channels")
        outputs, inputs = np.transpose([(output, i) for output, row in enumerate(self.table) for i in row])
        # Where each (input, output) pair finds its kernel in the list; absent pairs find the zero at its end.
        self.place = np.full((channels, maps), len(inputs))
        self.place[inputs, outputs] = np.arange(len(inputs))

        def initial(shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
            full = self.kernel_initializer((*self.kernel_size, channels, maps), dtype=dtype)
            return ops.take(ops.reshape(full, (*self.kernel_size, -1)), inputs * maps + outputs, axis=-1)

        self.kernel = self.add_weight(name="kernel", shape=(*self.kernel_size, len(inputs)), initializer=initial)
        self.bias = self.add_weight(name="bias", shape=(maps,), initializer="zeros")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        kernels = ops.pad(self.kernel, ((0, 0), (0, 0), (0, 1)))
        return ops.conv(x, ops.take(kernels, self.place, axis=-1)) + self.bias

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "table": [list(inputs) for inputs in self.table],
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@register
class LocallyConnected2D(keras.layers.Layer):
    """A valid convolution that shares no weights: every position has filters and biases of its own.

    (batch, height, width, channels) to (batch, rows, columns, filters), floats. It sees and computes what a convolution
    does, with rows · columns times as many parameters: Taigman, Yang, Ranzato and Wolf, "DeepFace", 2014, section 3.2.
    The kernel is (rows, columns, f · f · channels, filters), a window's values row by row.

    Args:
        filters: of each position.
        kernel_size: f, or (height, width) of the window.
        strides: s, or (vertical, horizontal).
        activation: of Keras.
        kernel_initializer: one that goes by the fan-in, such as he_normal.

    Raises:
        Fault: when a side of the input is open, or smaller than the window.
    """

    padding, use_bias = "valid", True

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        *,
        activation: Any = None,
        kernel_initializer: str | keras.initializers.Initializer = "he_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        _, *sides, channels = input_shape
        if any(side is None or side < window for side, window in zip(sides, self.kernel_size, strict=True)):
            raise Fault(f"input must have sides of at least {self.kernel_size}, got {tuple(sides)}; resize the images")
        self.places = tuple((n - f) // s + 1 for n, f, s in zip(sides, self.kernel_size, self.strides, strict=True))

        def initial(shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
            rows, columns, size, filters = shape
            kernels = self.kernel_initializer((size, rows * columns * filters), dtype=dtype)
            return ops.moveaxis(ops.reshape(kernels, (size, rows, columns, filters)), 0, 2)

        shape = (*self.places, math.prod(self.kernel_size) * channels, self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initial)
        self.bias = self.add_weight(name="bias", shape=(*self.places, self.filters), initializer="zeros")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        (rows, columns), (down, across) = self.places, self.strides
        pixels = [
            x[:, top : top + rows * down : down, left : left + columns * across : across]
            for top in range(self.kernel_size[0])
            for left in range(self.kernel_size[1])
        ]
        windows = ops.concatenate(pixels, axis=-1)
        return self.activation(ops.einsum("bhwi,hwio->bhwo", windows, self.kernel) + self.bias)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@register
class FixedRBF(keras.layers.Layer):
    """Minus the squared distance to a fixed code of ±1 for each class: logits of LeNet-5.

    (batch, units) to (batch, classes), floats, at most 0. Their softmax cross-entropy is the paper's maximum
    a posteriori loss without its "rubbish" class. The layer has no weights: the codes are constants, drawn at
    random, as the paper permits, so that any number of classes works; the paper drew digits on 7×12 pixels.

    Args:
        classes: how many codes.
        seed: of the codes; the same seed gives the same codes for ever.
    """

    def __init__(self, classes: int, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes, self.seed = classes, seed

    def build(self, input_shape: tuple[Any, ...]) -> None:
        # RandomState, because NumPy has frozen its stream: a model saved today means the same codes tomorrow.
        self.codes = np.random.RandomState(self.seed).choice([-1.0, 1.0], (self.classes, input_shape[-1]))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return -ops.sum(ops.square(x[:, None, :] - ops.cast(self.codes, x.dtype)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"classes": self.classes, "seed": self.seed}


@register
class LocalResponseNormalization(keras.layers.Layer):
    """Divides x by (bias + alpha · s) ** beta, s the sum of x² over `size` neighbouring channels; same shape.

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", 2012,
    section 3.3, with its constants. (Caffe divides alpha by size; this layer, like the paper, does not.)

    Args:
        size: odd, channels in the sum, the one itself in the middle.
        alpha, beta, bias: the paper's α, β and k.
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 2.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta, self.bias = size, alpha, beta, bias

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        exact = ops.cast(x, "float32")  # the operation has no kernel for bfloat16, and on a GPU none for float16
        exact = tf.nn.local_response_normalization(exact, self.size // 2, self.bias, self.alpha, self.beta)
        return ops.cast(exact, x.dtype)

    def get_config(self) -> dict[str, Any]:
        constants = {name: getattr(self, name) for name in ("size", "alpha", "beta", "bias")}
        return super().get_config() | constants


@register
class PadChannels(keras.layers.Layer):
    """Appends channels of zeros until there are `channels`: any float tensor, channels last.

    Option A of residual networks (He, Zhang, Ren and Sun, 2015, section 3.3): a shortcut without weights.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        # concatenated rather than padded, as oneDNN's fusion on CPUs needs it
        zeros = ops.zeros((*ops.shape(x)[:-1], self.channels - x.shape[-1]), x.dtype)
        return ops.concatenate([x, zeros], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"channels": self.channels}


@register
class Maxout(keras.layers.Layer):
    """The largest of every `pieces` neighbouring channels: an activation that learns its convex shape.

    (…, channels) to (…, channels // pieces), any float tensor, so behind dense layers and convolutions alike, which
    then compute `pieces` times as many units as they hand on. Goodfellow, Warde-Farley, Mirza, Courville and Bengio,
    "Maxout networks", 2013.

    Args:
        pieces: k, linear pieces of each unit, at least 1.

    Raises:
        Fault: when the channels of the input are no multiple of `pieces`.
    """

    def __init__(self, pieces: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pieces = pieces

    def build(self, input_shape: tuple[Any, ...]) -> None:
        if self.pieces < 1 or input_shape[-1] % self.pieces:
            raise Fault(f"pieces must divide the {input_shape[-1]} channels of the input, got {self.pieces}")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        *sizes, channels = x.shape
        # At most one size may be left open, so the open ones are taken from the tensor itself.
        known = [ops.shape(x)[axis] if size is None else size for axis, size in enumerate(sizes)]
        return ops.max(ops.reshape(x, (*known, channels // self.pieces, self.pieces)), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pieces": self.pieces}


@register
class DropConnect(keras.layers.Dense):
    """A dense layer that drops connections in training: for each example others of its weights and biases.

    (batch, features) to (batch, units), floats. In training every example has a mask of its own, so the layer needs
    batch · features · units values of memory. Wan, Zeiler, Zhang, LeCun and Fergus, "Regularization of neural
    networks using DropConnect", 2013.

    Differs from the paper: what is kept is divided by its share in training, instead of multiplied by it at test; and
    at test the activation is that of the mean, where the paper averages it over samples of a Gaussian.

    Args:
        units: length of the output.
        rate: share of the connections dropped, in [0, 1); the paper's 1 - p.
        seed: of the masks; None draws one from Keras's global seed.
        **kwargs: of `keras.layers.Dense`, such as its activation.

    Raises:
        Fault: when the rate is not a share, or the input has more axes than (batch, features).
    """

    def __init__(self, units: int, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if not 0 <= rate < 1:
            raise Fault(f"rate must be at least 0 and below 1, got {rate}")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)  # its state is saved and resumed with the weights

    def build(self, input_shape: tuple[Any, ...]) -> None:
        if len(input_shape) != 2:
            raise Fault(f"input must be (batch, features), got {len(input_shape)} axes; flatten it before")
        super().build(input_shape)

    def call(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        if not training or not self.rate:
            return super().call(x)
        y = ops.squeeze(ops.matmul(x[:, None, :], self._masked(self.kernel, x)), axis=1)
        if self.use_bias:
            y += self._masked(self.bias, x)
        return self.activation(y)

    def _masked(self, weight: keras.Variable, x: keras.KerasTensor) -> keras.KerasTensor:
        """This weight once for each example, with other entries of it zero, and the others scaled for it."""
        copies = ops.broadcast_to(ops.cast(weight, x.dtype), (ops.shape(x)[0], *weight.shape))
        return keras.random.dropout(copies, self.rate, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"rate": self.rate, "seed": self.seed}


@register
class L2Pooling(keras.layers.Layer):
    """The length of what a window sees: the root of the sum of its squares, map by map, at every position.

    (batch, height, width, channels) to the same, floats, at least 0; zeros stand around the maps. Schroff, Kalenichenko
    and Philbin, "FaceNet", 2015, pool like this where GoogLeNet takes the maximum.

    Args:
        size: of the window, an odd number.
    """

    strides = (1, 1)
    padding = "same"

    def __init__(self, size: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pool_size = (size, size)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        size, edge = self.pool_size[0], (self.pool_size[0] // 2,) * 2
        squares = ops.pad(ops.square(x), ((0, 0), edge, edge, (0, 0)))
        return ops.sqrt(ops.average_pool(squares, size, 1) * size**2 + 1e-12)  # at 0 alone a root has no slope

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"size": self.pool_size[0]}


@register
class Whitening(keras.layers.Layer):
    """(x - mean) @ matrix of all values of an image; the weights are fixed: see `data.transforms.whitening`.

    (batch, height, width, channels), any numbers, to floats of the same shape. It computes in float32 whatever the
    policy, because large values nearly cancel out.

    Args:
        mean: (d,), d = height · width · channels; zeros unless given, as where weights are loaded.
        matrix: (d, d).
    """

    def __init__(self, mean: np.ndarray | None = None, matrix: np.ndarray | None = None, **options: Any) -> None:
        super().__init__(**options, autocast=False)
        self.values = (mean, matrix)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        size = math.prod(input_shape[1:])
        shapes = {"mean": (size,), "matrix": (size, size)}
        self.mean, self.matrix = (
            self.add_weight(name=name, shape=shape, trainable=False) for name, shape in shapes.items()
        )
        for weight, values in zip((self.mean, self.matrix), self.values, strict=True):
            if values is not None:
                weight.assign(values)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        rows = ops.reshape(ops.cast(x, "float32"), (-1, self.mean.shape[0]))
        white = ops.matmul(rows - self.mean, self.matrix)
        return ops.cast(ops.reshape(white, (-1, *x.shape[1:])), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config()  # the values are weights; without this method Keras would look for them here


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, whose training step is TensorFlow's fused kernel: the same values in less time.

    Signals (batch, time, channels), pictures (batch, height, width, channels) and volumes, in float16, bfloat16 or
    float32, to the same, with statistics in float32. All else is left to Keras: vectors, float64, another axis, masks,
    renormalisation, synchronised replicas, frozen layers, inference, and XLA, whose own form of the kernel takes a
    variance as the difference of two large numbers.

    Arguments, weights and names are Keras's, and a saved model names `keras.layers.BatchNormalization`, so that files
    are read in both directions and without this package. What is loaded from a `.keras` file is Keras's own layer.
    """

    __module__ = "keras.layers"  # where a saved model says that the class is

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        if not (training and self.trainable and mask is None and self._suits(inputs)):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        maps = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, (1, -1, 1, channels))
        scale = ops.cast(self.gamma, "float32") if self.scale else tf.ones(channels)
        offset = ops.cast(self.beta, "float32") if self.center else tf.zeros(channels)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(maps, scale, offset, epsilon=self.epsilon)
        # The kernel divides the sum of squares by n - 1, Keras by n, and of a single value the variance is 0.
        count = tf.cast(tf.size(inputs, tf.int64) // channels, "float32")
        variance = tf.math.multiply_no_nan(variance, (count - 1) / count)
        for running, latest in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(ops.cast(running, "float32") * self.momentum + latest * (1.0 - self.momentum))
        return outputs if maps is inputs else tf.reshape(outputs, tf.shape(inputs))

    def _suits(self, inputs: keras.KerasTensor) -> bool:
        """Whether the kernel takes this input, and computes what is asked."""
        rank = len(inputs.shape)
        return (
            inputs.dtype in ("float16", "bfloat16", "float32")
            and 3 <= rank <= 5
            and self.axis in (-1, rank - 1)
            and not (self.renorm or self.synchronized)
            and not control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        )
