"""Sliding windows, twice: a classifier asked about every window of a larger picture, one by one or all in one pass.

Sermanet et al., "OverFeat: integrated recognition, localization and detection using convolutional networks", 2013,
section 3.5. A dense layer behind maps of h×w positions is a convolution of h×w, one behind it a convolution of 1×1, and
an average over all positions is a pooling of their size with stride 1. What neighbouring windows share is then computed
once. The windows stand `stride` pixels apart, the product of the strides before the first vector.

What can be promised of the scores:
- Where no layer pads, they are those of the windows one by one, but for rounding.
- A layer that pads puts zeros around a window that is cut out, and real neighbours around one that is not. Then the
  two agree on a picture of one window, and elsewhere as far as those zeros do not matter; `Convolved.padded` names
  the layers.
- A picture is cut at its right and bottom to whole strides, which no window reaches beyond.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.layers import LocalResponseNormalization, Maxout, PadChannels, PartialConv2D, SubSampling, register
from cnn_keras.learn import model_profile, receptive_field
from cnn_keras.ops import boxes

BATCH = 64  # windows that the naive detector cuts out at once

TRAINING_ONLY = (layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout)
AVERAGES = {layers.GlobalAveragePooling2D: layers.AveragePooling2D, layers.GlobalMaxPooling2D: layers.MaxPooling2D}
# What works value by value, so that it may stand before or behind flattening.
VALUEWISE = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity, layers.Rescaling)
# What a map's neighbours do not change, or only those within a window of fixed size.
MAPWISE = (
    *(layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.ZeroPadding2D, layers.Cropping2D, PartialConv2D, SubSampling),
    *(LocalResponseNormalization, PadChannels, Maxout),
)
MERGES = (layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum)
LAST_AXIS = (layers.BatchNormalization, layers.Normalization, layers.Concatenate, layers.Softmax)


class FullyConvolutional(NamedTuple):
    """A classifier as a fully convolutional network.

    network: from pictures (batch, height, width, channels) of the classifier's dtype, at least as large as a window,
        to `logits` (batch, rows, columns, classes), float32. Its weights are copies.
    window: height and width, in pixels, of what the classifier takes.
    stride: pixels from one window to the next, down and across.
    padded: the layers that put zeros around a window; none means that the scores are exactly those of the windows.
    """

    network: keras.Model
    window: tuple[int, int]
    stride: tuple[int, int]
    padded: tuple[str, ...]


class Windows(NamedTuple):
    """What a classifier says of the windows of one picture.

    logits: float32 (rows, columns, classes); boxes: float32 (rows, columns, 4), in [0, 1] of the picture.
    """

    logits: np.ndarray
    boxes: np.ndarray


@register
class EachWindow(layers.Wrapper):
    """Applies a layer of vectors to every position of a map: (batch, rows, columns, features) to (…, units)."""

    def build(self, input_shape: tuple[Any, ...]) -> None:
        if not self.layer.built:
            self.layer.build((None, input_shape[-1]))
        self.built = True

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        answers = self.layer(tf.reshape(x, (-1, x.shape[-1])))
        return tf.reshape(answers, tf.concat([tf.shape(x)[:-1], tf.shape(answers)[1:]], axis=0))

    def compute_output_spec(self, x: keras.KerasTensor) -> keras.KerasTensor:
        answers = self.layer.compute_output_spec(keras.KerasTensor((None, x.shape[-1]), dtype=x.dtype))
        return keras.KerasTensor((*x.shape[:-1], *answers.shape[1:]), dtype=answers.dtype)


def to_fully_convolutional(model: keras.Model) -> FullyConvolutional:
    """The fully convolutional network of a classifier's weights.

    Args:
        model: functional, from pictures (batch, height, width, channels) of a fixed size to one vector each, or to a
            dictionary with `logits`; models inside it, normalisation and activations included. Dropout is left out.

    Returns:
        `FullyConvolutional`.

    Raises:
        Fault: when the model is of another kind, or a layer can be no part of a fully convolutional network: it
            looks at all positions at once, or orders them anew.
    """
    if not isinstance(model, keras.Model) or len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise Fault(f"model must be a classifier of single pictures, got {getattr(model, 'name', model)!r}")
    model_input = model.inputs[0]
    if None in model_input.shape[1:]:
        raise Fault(
            f"model must take pictures of a fixed size, its window, got {model_input.shape[1:]}; build it for one"
        )
    output = model.output["logits"] if isinstance(model.output, dict) else model.output
    conversion = _Conversion()
    image = keras.Input((None, None, model_input.shape[-1]), dtype=model_input.dtype, name="image")
    conversion.enter(image, model_input)
    (logits,) = conversion.descend(keras.Function(model.inputs, [output]), [image])
    if conversion.extents.get(id(logits)) != (1, 1):
        raise Fault(f"model must give one vector for a picture, got {output.shape[1:]} behind {output.name}")
    network = keras.Model(image, logits, name=f"{model.name}_convolved")
    conversion.copy_weights()
    return FullyConvolutional(network, model_input.shape[1:3], conversion.stride, tuple(conversion.padded))


def naive(model: keras.Model, image: np.ndarray, *, stride: int | tuple[int, int] = 1, batch: int = BATCH) -> Windows:
    """Cut out every window and ask the classifier about each.

    Args:
        model: as for `to_fully_convolutional`; any Keras model that takes single pictures will do.
        image: array (height, width, channels), of the dtype and range of the model's input.
        stride: pixels from one window to the next, or (down, across).
        batch: how many windows are asked about at once.

    Returns:
        `Windows`: of all that lie wholly inside the picture, whose first starts at its top left corner.

    Raises:
        Fault: when the picture is smaller than a window, or the stride is none.
    """
    image, window = np.asarray(image), model.inputs[0].shape[1:3]
    down, across = (stride, stride) if isinstance(stride, int) else stride
    if min(down, across) < 1:
        raise Fault(f"stride must be at least 1 pixel, got {stride}")
    _require_window(image, window)
    windows = np.lib.stride_tricks.sliding_window_view(image, window, axis=(0, 1))[::down, ::across]
    rows, columns = windows.shape[:2]
    windows = np.moveaxis(windows, 2, -1).reshape(
        -1, *window, image.shape[-1]
    )  # copies: every window is made for itself
    answers = [
        _logits(model.predict_on_batch(windows[start : start + batch])) for start in range(0, len(windows), batch)
    ]
    logits = np.concatenate(answers).reshape(rows, columns, -1)
    return Windows(logits, _window_boxes(logits, image, window, (down, across)))


def convolutional(network: FullyConvolutional, image: np.ndarray) -> Windows:
    """Ask about every window in one pass.

    Args:
        network: what `to_fully_convolutional` has made of a classifier.
        image: array (height, width, channels), of the dtype and range of the classifier's input.

    Returns:
        `Windows`: those of `naive` with the network's stride.

    Raises:
        Fault: when the picture is smaller than a window.
    """
    image = np.asarray(image)
    _require_window(image, network.window)
    height, width = _trimmed(image.shape[:2], network)
    logits = network.network.predict_on_batch(image[None, :height, :width])[0]
    return Windows(logits, _window_boxes(logits, image, network.window, network.stride))


def detect(
    look: Callable[[np.ndarray], Windows],
    image: np.ndarray,
    *,
    scales: Sequence[float] = (1.0,),
    background: int | None = None,
    threshold: float = 0.5,
    overlap: float = 0.3,
    limit: int = 100,
) -> boxes.Detections:
    """Find things with windows: at several scales of the picture, then one window for each thing.

    Args:
        look: either detector, as a function of a picture: `partial(convolutional, network)`.
        image: array (height, width, channels).
        scales: factors by which the picture is resized; a smaller one finds larger things. At those at which it is
            smaller than a window it is not looked at.
        background: number of the class that stands for nothing; None when every class is something.
        threshold, overlap, limit: of `cnn_keras.ops.boxes.non_max_suppression`; probabilities are the scores.

    Returns:
        `cnn_keras.ops.boxes.Detections` of a batch of one, boxes in [0, 1] of the picture.

    Raises:
        Fault: when the picture is smaller than a window at every scale.
    """
    faces, missing_error = [], None
    for scale in scales:
        try:
            faces.append(look(_resized(np.asarray(image), scale)))
        except Fault as fault:
            missing_error = fault
    if not faces:
        raise missing_error or Fault("scales must hold at least one factor, got none")
    places = np.concatenate([windows.boxes.reshape(1, -1, 4) for windows in faces], axis=1)
    logits = np.concatenate([windows.logits.reshape(1, -1, windows.logits.shape[-1]) for windows in faces], axis=1)
    scores = tf.nn.softmax(logits).numpy()
    if background is not None:
        scores[..., background] = 0
    return boxes.non_max_suppression(places, scores, threshold=threshold, overlap=overlap, limit=limit)


def multiply_adds(model: keras.Model, network: FullyConvolutional, size: Sequence[int]) -> tuple[int, int]:
    """What both ways of looking at a picture of this (height, width) cost: (naive, convolutional) multiply-adds."""
    height, width = _trimmed(size, network)
    rows, columns = (
        (side - window) // step + 1
        for side, window, step in zip((height, width), network.window, network.stride, strict=True)
    )
    channels = model.inputs[0].shape[-1]
    once = model_profile.totals(model_profile.rows(network.network, input_shape=(height, width, channels)))
    return rows * columns * model_profile.totals(model_profile.rows(model)).multiply_adds, once.multiply_adds


def _logits(answer: Any) -> np.ndarray:
    return answer["logits"] if isinstance(answer, dict) else answer


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[:2]]
    resized = tf.image.resize(image, size, antialias=True)
    whole = np.issubdtype(image.dtype, np.integer)
    return (tf.saturate_cast(tf.round(resized), image.dtype) if whole else tf.cast(resized, image.dtype)).numpy()


def _require_window(image: np.ndarray, window: Sequence[int]) -> None:
    if image.ndim != 3 or any(side < least for side, least in zip(image.shape, window, strict=False)):
        expected, actual = ("×".join(map(str, sizes)) for sizes in (window, image.shape))
        raise Fault(f"image must be a picture of at least {expected} pixels, the window, got {actual}; enlarge it")


def _trimmed(size: Sequence[int], network: FullyConvolutional) -> tuple[int, ...]:
    """The picture's size, less what is beyond the last window."""
    steps = zip(size, network.window, network.stride, strict=True)
    return tuple(window + (side - window) // stride * stride for side, window, stride in steps)


def _window_boxes(logits: np.ndarray, image: np.ndarray, window: Sequence[int], stride: tuple[int, int]) -> np.ndarray:
    """The boxes, float32 (rows, columns, 4), of windows that start at multiples of the stride."""
    tops, lefts = (np.arange(count) * step for count, step in zip(logits.shape[:2], stride, strict=True))
    left, top = np.meshgrid(lefts, tops)
    height, width = image.shape[:2]
    edges = [left / width, top / height, (left + window[1]) / width, (top + window[0]) / height]
    return np.stack(edges, axis=-1).astype(np.float32)


class _Conversion:
    """One way through the classifier's graph, with every tensor in two sizes: open, and as the classifier has it.

    A tensor that the classifier has as a vector is a map here, with `extents`: how many of the map's positions, down
    and across, make one vector. (1, 1) is a vector at each position; more is what flattening leaves to the next layer.
    """

    def __init__(self) -> None:
        self.tensors: list[keras.KerasTensor] = []  # kept alive, so that no two share an id
        # Of every tensor by its id:
        self.twins: dict[int, keras.KerasTensor] = {}
        self.fields: dict[int, receptive_field.Field] = {}
        self.extents: dict[int, tuple[int, int]] = {}
        self.copies: dict[layers.Layer, layers.Layer] = {}
        self.kernels: list[tuple[layers.Dense, layers.Conv2D]] = []
        self.names = {"image"}
        self.padded: list[str] = []
        self.stride = (1, 1)

    def enter(
        self,
        tensor: keras.KerasTensor,
        twin: keras.KerasTensor,
        field: receptive_field.Field | None = None,
        extent: tuple[int, int] | None = None,
    ) -> keras.KerasTensor:
        self.tensors.append(tensor)
        self.twins[id(tensor)] = keras.KerasTensor(twin.shape, dtype=twin.dtype)
        self.fields[id(tensor)] = field or receptive_field.pixel(2)
        if extent:
            self.extents[id(tensor)] = extent
        return tensor

    def descend(self, graph: keras.Function, inputs: list[keras.KerasTensor]) -> Any:
        def visit(operation: keras.Operation) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                tensors = [t for t in keras.tree.flatten((arguments, options)) if isinstance(t, keras.KerasTensor)]
                if isinstance(operation, keras.Model):
                    inner = self.descend(keras.Function(operation.inputs, operation.outputs), tensors)
                    return keras.tree.pack_sequence_as(operation.output, inner)
                return self._converted(operation, tensors, arguments)

            return call

        return graph._run_through_graph(inputs, operation_fn=visit)  # private: see `anatomy`

    def copy_weights(self) -> None:
        """Fill the copies, which are built by now."""
        for layer, copy in self.copies.items():
            inner = copy.layer if isinstance(copy, EachWindow) else copy
            inner.set_weights(layer.get_weights())
        for layer, convolution in self.kernels:
            kernel, *bias = layer.get_weights()
            convolution.set_weights([kernel.reshape(convolution.kernel.shape), *bias])

    def _converted(self, layer: layers.Layer, tensors: list[keras.KerasTensor], arguments: Any) -> keras.KerasTensor:
        """This layer's output for open sizes, noted with its twin."""
        if isinstance(layer, TRAINING_ONLY):
            return tensors[0]
        twins = [self.twins[id(tensor)] for tensor in tensors]
        twin = layer.compute_output_spec(twins if isinstance(arguments[0], list | tuple) else twins[0])
        field = receptive_field.union([self.fields[id(tensor)] for tensor in tensors])
        if any(id(tensor) in self.extents for tensor in tensors):
            output, extent = self._on_vectors(layer, tensors, twins)
        elif isinstance(layer, layers.Flatten) or type(layer) in AVERAGES:
            output, extent = self._to_vectors(layer, tensors[0], twins[0], field)
        else:
            sizes, after = twins[0].shape[1:-1], twin.shape[1:-1]
            output, extent = self._on_maps(layer, tensors, sizes), None
            field = receptive_field.after(layer, field, sizes, after)
        return self.enter(output, twin, field, extent)

    def _on_maps(
        self, layer: layers.Layer, tensors: list[keras.KerasTensor], sizes: Sequence[int]
    ) -> keras.KerasTensor:
        pointwise = isinstance(layer, (*VALUEWISE, *MERGES, layers.Dense)) or _on_last_axis(layer, 3)
        if not pointwise and not isinstance(layer, MAPWISE):
            raise Fault(
                f"model must look at every position alike, got {type(layer).__name__} {layer.name!r} before its first "
                "vector; take a network of convolutions, poolings and layers of single positions"
            )
        if _pads(layer, sizes):
            self.padded.append(layer.name)
        return self._copy(layer)(tensors if len(tensors) > 1 else tensors[0])

    def _to_vectors(
        self, layer: layers.Layer, x: keras.KerasTensor, twin: keras.KerasTensor, field: receptive_field.Field
    ) -> tuple[keras.KerasTensor, tuple[int, int]]:
        """Flattening waits for the dense layer behind it; an average becomes a pooling at every position."""
        extent = twin.shape[1:3]
        down, across = field.jump
        self.stride = int(down), int(across)
        if isinstance(layer, layers.Flatten):
            return layers.Identity(name=self._name(layer))(x), extent
        if layer.keepdims:
            raise Fault(f"model must not keep averaged dimensions, got {layer.name!r}; set keepdims=False")
        pool = AVERAGES[type(layer)](extent, strides=1, dtype=layer.dtype_policy, name=self._name(layer))
        return pool(x), (1, 1)

    def _on_vectors(
        self, layer: layers.Layer, tensors: list[keras.KerasTensor], twins: list[keras.KerasTensor]
    ) -> tuple[keras.KerasTensor, tuple[int, int] | None]:
        extents = {self.extents.get(id(tensor)) for tensor in tensors}
        (extent,) = extents if len(extents) == 1 else (None,)
        single = tensors[0] if len(tensors) == 1 else None
        if single is not None and extent and isinstance(layer, layers.Dense):
            return self._dense(layer, single, extent), (1, 1)
        if isinstance(layer, layers.Flatten) and len(twins[0].shape) == 2:
            return single, extent
        softmax = getattr(layer, "activation", None) is keras.activations.softmax
        if single is not None and isinstance(layer, VALUEWISE) and not (softmax and extent != (1, 1)):
            return self._copy(layer)(single), extent
        if extent == (1, 1) and isinstance(layer, MERGES):
            return self._copy(layer)(tensors), extent
        if extent == (1, 1) and _on_last_axis(layer, 1):
            return self._copy(layer, axis=-1)(single if single is not None else tensors), extent
        if extent == (1, 1) and single is not None and len(twins[0].shape) == 2:
            self.copies[layer] = EachWindow(_like(layer), name=self._name(layer))
            return self.copies[layer](single), extent
        raise Fault(
            f"model must have a dense layer behind its flattening, got {type(layer).__name__} {layer.name!r}; what is "
            "neither dense nor works value by value cannot be a convolution"
        )

    def _dense(self, layer: layers.Layer, x: keras.KerasTensor, extent: tuple[int, int]) -> keras.KerasTensor:
        convolution = layers.Conv2D(
            layer.units,
            extent,
            activation=layer.activation,
            use_bias=layer.use_bias,
            dtype=layer.dtype_policy,
            name=self._name(layer),
        )
        self.kernels.append((layer, convolution))
        return convolution(x)

    def _copy(self, layer: layers.Layer, **changes: Any) -> layers.Layer:
        if layer not in self.copies:
            self.copies[layer] = _like(layer, **changes, name=self._name(layer))
        return self.copies[layer]

    def _name(self, layer: layers.Layer) -> str:
        """The layer's own, or with a number where a model inside the other has the same."""
        candidates = itertools.chain([layer.name], (f"{layer.name}_{number}" for number in itertools.count(2)))
        name = next(name for name in candidates if name not in self.names)
        self.names.add(name)
        return name


def _like(layer: layers.Layer, **changes: Any) -> layers.Layer:
    return type(layer).from_config({**layer.get_config(), **changes})


def _on_last_axis(layer: layers.Layer, last: int) -> bool:
    """Whether the layer works along the axis of channels alone."""
    if not isinstance(layer, LAST_AXIS):
        return False
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    return all(axis in (-1, last) for axis in axes)


def _pads(layer: layers.Layer, sizes: Sequence[int]) -> bool:
    """Whether the layer puts anything around maps of these sizes."""
    if isinstance(layer, layers.ZeroPadding2D):
        return bool(np.any(layer.padding))
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if not window or layer.padding != "same":
        return False
    dilations = getattr(layer, "dilation_rate", (1, 1))
    dilations = (dilations, dilations) if isinstance(dilations, int) else dilations
    reaches = [dilation * (size - 1) + 1 for size, dilation in zip(window, dilations, strict=True)]
    return any(
        (math.ceil(size / stride) - 1) * stride + reach > size
        for size, stride, reach in zip(sizes, layer.strides, reaches, strict=True)
    )
