"""What the units of a trained network have learnt to see, and what a decision was made of.

Works on functional and sequential models for images, channels last, also on one that holds another – a classifier
behind its normalisation; Grad-CAM on those for signals and volumes too, and with several inputs and outputs. Images go
in as the outer model takes them, uint8 0–255 from a run; layers are named inside, `c3`, and where two layers share a
name by their path, `network/c3`. A layer that is called several times shows its last call.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013: exciting patches (their nine), the
occlusion map. Yosinski, Clune, Nguyen, Fuchs and Lipson, "Understanding neural networks through deep visualization",
2015: activation maximisation. Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: visual explanations
from deep networks via gradient-based localization", 2017; where a network ends in global average pooling and one
dense layer it is the class activation map of Zhou, Khosla, Lapedriza, Oliva and Torralba, 2016. Jiang, Zhang, Hou,
Cheng and Wei, "LayerCAM: exploring hierarchical class activation maps for localization", 2021. Vinogradova, Dibrov and
Myers, "Towards interpretable semantic segmentation via gradient-weighted class activation mapping", 2020: Seg-Grad-CAM.
Bojarski et al., "VisualBackProp: efficient visualization of CNNs", 2016, made for PilotNet.
"""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile

RECTIFIERS = (layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)
KERNELS = ("kernel", "depthwise_kernel")
# Activation maximisation. In the first step the pixel that moves most moves by RATE of the span, and DECAY of what
# distinguishes the image from its start is forgotten; every BLUR_EVERY steps it is blurred. All shrink to LAST of that.
RATE, DECAY, LAST, NOISE, BLUR_EVERY = 0.1, 0.01, 0.1, 0.05, 4


class Patches(NamedTuple):
    """The pieces of images that excite one unit most, the strongest first, at most one of each image.

    A box is (left, top, right, bottom) in pixels of the image and, like the piece, reaches over the border where the
    receptive field does.
    """

    unit: int
    pieces: np.ndarray  # uint8 (count, field height, field width, channels)
    activations: np.ndarray  # float32 (count,)
    images: np.ndarray  # int64 (count,), the number of the image each piece is from
    boxes: np.ndarray  # int64 (count, 4)


class Maximised(NamedTuple):
    """Images that were made to excite a unit each, and how much they do."""

    images: np.ndarray  # float32 (units, height, width, channels), in the span of the pixels
    activations: np.ndarray  # float32 (units,)
    boxes: np.ndarray  # int64 (units, 4): left, top, right, bottom of the unit's field, which may cross the border


class _Found(NamedTuple):
    """A piece of an image: its pixels, or those of the whole image as long as it may be crowded out."""

    activation: float
    image: int
    box: tuple[int, int, int, int]
    pixels: np.ndarray
    is_cut: bool = False

    def cut(self, outside: int) -> Self:
        return self if self.is_cut else self._replace(pixels=_piece(self.pixels, self.box, outside), is_cut=True)


def spatial_layers(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> dict[str, model_profile.Row]:
    """The layers whose units have a position in the image: their `model_profile.Row`s by name, in the graph's order.

    Args:
        input_shape: (height, width, channels), for a model that leaves some of them open.
    """
    axes = _axes(model)
    return {name: row for name, row in _rows(model, input_shape).items() if _has_positions(row, axes)}


def feature_layers(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> list[str]:
    """The names of the layers worth looking into: what comes out of a non-linearity and has positions.

    They are convolutions with an activation of their own and layers that are one; the convolutions, where a network
    has neither.
    """
    rows = spatial_layers(model, input_shape=input_shape)
    known = _operations(model)
    found = {name: known[row.name] for name, row in rows.items()}
    bent = [name for name, layer in found.items() if _is_non_linear(layer)]
    return bent or [name for name, layer in found.items() if _kernel(layer) is not None]


def grad_cam_layer(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> str:
    """The name of the layer that Grad-CAM looks at: the last with several positions that is not a pooling.

    Raises:
        Fault: when no layer has several positions.
    """
    return list(_unpooled(model, input_shape))[-1]


def bottleneck_layer(model: keras.Model, *, input_shape: Sequence[int] | None = None, positions: int = 1) -> str:
    """The name of the layer that everything the model says of an image passes through, and that is the coarsest.

    It is the last non-linearity of the coarsest map with several positions on which all outputs depend, as far as they
    depend on the image: the bottom of a U-Net, which Seg-Grad-CAM looks at, or the map that a detector's heads read.

    Args:
        positions: along the longer side, that the map has at least, where any has so many.

    Raises:
        Fault: when no layer has several positions and is before all outputs.
    """
    before = _before_all_outputs(model)
    rows = {name: row for name, row in _unpooled(model, input_shape).items() if row.name in before}
    if not rows:
        raise Fault(f"model must have a map that all its outputs depend on, got none in {model.name}")
    known = _operations(model)
    bent = {name: row for name, row in rows.items() if _is_non_linear(known[row.name])} or rows
    bent = {name: row for name, row in bent.items() if max(row.output_shape[:-1]) >= positions} or bent
    least = min(math.prod(row.output_shape[:-1]) for row in bent.values())
    return [name for name, row in bent.items() if math.prod(row.output_shape[:-1]) == least][-1]


def logits_layer(model: keras.Model) -> str:
    """The name of the layer whose units are the classes: the last or, with auxiliary heads, `logits`."""
    names = list(_rows(model))
    return "logits" if len(model.outputs) > 1 and "logits" in names else names[-1]


def layer_name(model: keras.Model, layer: str) -> str:
    """The name by which a layer goes here, of its name or its path.

    Raises:
        Fault: when there is none, with the nearest names.
    """
    return _name(_rows(model), layer)


def layer_row(model: keras.Model, layer: str) -> model_profile.Row:
    """The `model_profile.Row` of a layer, by its name or its path."""
    rows = _rows(model)
    return rows[_name(rows, layer)]


def first_layer_filters(model: keras.Model) -> np.ndarray:
    """The kernels of the first convolution as pictures: uint8 (filters, height, width, 1 or 3), 0–255.

    Mid-grey, 128, is a weight of zero; each filter is scaled by its own largest weight, so that black or white
    is reached. Of 3 input channels they are RGB. Of another number the channels of a filter stand side by side, in
    grey; those of a depthwise convolution are filters of their own.

    Raises:
        Fault: when the first convolution has not two spatial axes, or there is none.
    """
    known = _operations(model)
    kernels = ((row, _kernel(known[row.name])) for row in _rows(model).values())
    row, kernel = next(((row, kernel) for row, kernel in kernels if kernel is not None), (None, None))
    if row is None or len(row.receptive_field) != 2:
        raise Fault(f"model must begin with convolutions over two axes, got {row.type if row else 'none'}")
    weights = np.moveaxis(np.asarray(keras.ops.convert_to_numpy(kernel), np.float32), -1, 0)
    if weights.ndim == 3:  # of a table of connections: one kernel each
        weights = weights[..., np.newaxis]
    elif row.type == "DepthwiseConv2D" or row.type == "SeparableConv2D":
        weights = np.moveaxis(weights, -1, 0).reshape(-1, *weights.shape[1:3], 1)
    if weights.shape[-1] not in (1, 3):
        filters, height, width, channels = weights.shape
        weights = np.swapaxes(weights, 2, 3).reshape(filters, height, channels * width, 1)
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    return np.round(127.5 + 127.5 * weights / np.maximum(largest, 1e-12)).astype(np.uint8)


def feature_maps(model: keras.Model, images: np.ndarray, layer: str) -> np.ndarray:
    """What the layer's units answer at each position: float32 (images, height, width, units).

    Args:
        images: (images, height, width, channels), as the model takes them.
        layer: name of a layer with positions.
    """
    row = _spatial(model, layer, images.shape[1:])
    tapped = _graph(_tapped(model, row.name), images.shape[1:])
    return inference.predict_in_batches(
        tapped, images, size=inference.batch_limit(model, input_shape=images.shape[1:])
    )[0]


def exciting_patches(
    model: keras.Model,
    layer: str,
    images: np.ndarray | Iterable[np.ndarray],
    *,
    units: Sequence[int] | None = None,
    count: int = 9,
    outside: int = 128,
) -> list[Patches]:
    """The pieces of the images that excite units most, each exactly as large as the unit's receptive field.

    One pass over the images; in memory are one batch and `count` pieces for each unit.

    Args:
        layer: name of a layer with positions.
        images: uint8 (images, height, width, channels), 0–255, or an iterable of such batches, all of one size.
        units: numbers of the units; None takes all, which for a wide layer with large fields is much memory.
        count: pieces for each unit; fewer where there are fewer images.
        outside: 0–255, what a piece holds where the field lies beyond the border.

    Returns:
        A list of `Patches`, one for each unit.

    Raises:
        Fault: there is no image, or no such unit, or no such layer with positions.
    """
    kept: list[list[_Found]] = []
    numbers: list[int] = []
    row, seen = None, 0
    if isinstance(images, np.ndarray):
        images = _batches(images, inference.batch_limit(model, input_shape=images.shape[1:]))
    for batch in map(np.asarray, images):
        if row is None:
            row = _spatial(model, layer, batch.shape[1:])
            numbers = _checked_units(units, row)
            strongest = _graph(_strongest(_tapped(model, row.name), numbers), batch.shape[1:])
            kept = [[] for _ in numbers]
        for found, activations, places in zip(kept, *(array.numpy() for array in strongest(batch)), strict=True):
            leading = np.argsort(-activations, kind="stable")[:count]
            found += [_Found(float(activations[k]), seen + int(k), _box(row, places[k]), batch[k]) for k in leading]
            found.sort(key=lambda one: -one.activation)  # stable: of equals, the earlier image
            found[count:] = []
            found[:] = [one.cut(outside) for one in found]
        seen += len(batch)
    if not seen:
        raise Fault("images must hold at least one image, got none")
    return [
        Patches(
            unit,
            np.stack([one.pixels for one in found]),
            np.array([one.activation for one in found], np.float32),
            np.array([one.image for one in found]),
            np.array([one.box for one in found]),
        )
        for unit, found in zip(numbers, kept, strict=True)
    ]


def maximise_activation(
    model: keras.Model,
    layer: str,
    *,
    units: Sequence[int],
    start: float | Sequence[float] = 127.5,
    span: tuple[float, float] = (0, 255),
    steps: int = 160,
    seed: int = 0,
) -> Maximised:
    """Images that excite units of a layer as much as they can be made to: gradient ascent on the pixels.

    Of a layer with positions it is the unit in the middle. In each step the image, shifted a little, follows the
    gradient, scaled so that the pixel that moves most moves by a fixed amount; then it forgets a little of what
    distinguishes it from `start`; every few steps it is blurred. The same seed gives the same images.

    The gradient is that before the unit's own non-linearity, else a ReLU that is silent at the start would stay so.

    Differs from the paper: the shift (of Mordvintsev, Olah and Tyka, 2015) and steps that grow smaller instead of the
    clipping of small norms and contributions; one set of constants instead of a search for them.

    Args:
        layer: name of any layer; of the last, the units are the classes.
        units: numbers of the units.
        start: what the images begin as, under some noise, and are pulled back to: a number, or one for each channel.
        span: least and largest value of a pixel.
    """
    row = layer_row(model, layer)
    units = _checked_units(units, row)
    shape = (len(units), *model.inputs[0].shape[1:])
    start = tf.broadcast_to(tf.constant(start, tf.float32), shape)
    reach = float(span[1] - span[0])
    noise = NOISE * reach * tf.random.stateless_normal(shape, (seed, 0))
    found = []
    for few in _batches(np.arange(len(units)), inference.batch_limit(model)):
        asked, begun = [units[number] for number in few], tf.gather(start, few)
        straight, bent = (_middle(_tapped(model, row.name, straight=own), asked) for own in (True, False))
        images = begun + tf.gather(noise, few)
        climb = _climb(straight, begun, span, _jitter(row, shape))
        for step in range(steps):
            shrunk = 1 - (1 - LAST) * step / steps
            images = climb(images, tf.constant((seed, step + 1)), tf.constant(shrunk, tf.float32))
            if step % BLUR_EVERY == 0:
                images += shrunk * (_blurred(images) - images)
        found.append((images.numpy(), _graph(bent, shape[1:])(images).numpy()))
    images, activations = (np.concatenate(column) for column in zip(*found, strict=True))
    place = [size // 2 for size in row.output_shape[:-1]]
    box = _box(row, place) if row.jump else (0, 0, shape[2], shape[1])
    return Maximised(images, activations, np.tile(np.array(box), (len(units), 1)))


def occlusion_map(
    model: keras.Model,
    images: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    *,
    patch: int | None = None,
    stride: int | None = None,
    fill: float | Sequence[float] | np.ndarray | None = None,
    odds: bool = False,
) -> np.ndarray:
    """How much the probability of a class falls when a square hides a pixel: float32 (images, height, width).

    Positive where the class loses, negative where it gains, within -1 to 1; the mean over the squares that cover the
    pixel. Differs from the paper, which draws the probability that is left at the middle of each square.

    Args:
        images: (images, height, width, channels), as the model takes them, which answers with logits.
        classes: the class of each image, integers (images,).
        patch: side of the square in pixels; None takes a quarter of the shorter side.
        stride: pixels from one square to the next; None takes a quarter of `patch`.
        fill: colour of the square, a number or one for each channel; None takes the image's mean.
        odds: whether the natural logarithm of the odds is asked for instead of the probability, which hardly moves
            where an answer is certain.

    Raises:
        Fault: `patch` does not fit into the images, or the model answers with probabilities.
    """
    _require_logits(model)
    logits, scale = _graph(_tapped(model), images.shape[1:]), _log_odds if odds else _probability
    size = inference.batch_limit(model, input_shape=images.shape[1:])
    height, width = images.shape[1:3]
    patch = patch or max(1, round(min(height, width) / 4))
    if not 1 <= patch <= min(height, width):
        raise Fault(f"patch must be 1 to {min(height, width)} pixels, got {patch}")
    stride = stride or max(1, patch // 4)
    corners = [(top, left) for top in _steps(height, patch, stride) for left in _steps(width, patch, stride)]
    falls = np.zeros(images.shape[:3], np.float32)
    covers = np.zeros((height, width), np.float32)
    for top, left in corners:
        covers[top : top + patch, left : left + patch] += 1
    for image, label, fall in zip(images, classes, falls, strict=True):
        whole = scale(logits(image[np.newaxis]), label)[0]
        colour = image.mean(axis=(0, 1)) if fill is None else fill
        for chunk in _batches(np.array(corners), size):
            hidden = np.repeat(image[np.newaxis].astype(np.float32), len(chunk), axis=0)
            for row, (top, left) in enumerate(chunk):
                hidden[row, top : top + patch, left : left + patch] = colour
            for (top, left), left_over in zip(chunk, scale(logits(hidden), label), strict=True):
                fall[top : top + patch, left : left + patch] += whole - left_over
    return falls / covers


def class_logit(outputs: Any, classes: tf.Tensor) -> tf.Tensor:
    """A target of `grad_cam`: the logit, float32 (batch,), of the class of each image, integers (batch,)."""
    logits = outputs["logits"] if isinstance(outputs, dict) else tf.nest.flatten(outputs)[0]
    return tf.gather(logits, tf.cast(classes, tf.int32), axis=1, batch_dims=1)


def mask_logits(outputs: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """A target of `grad_cam`, Seg-Grad-CAM's: the logits of a class, summed over the places where it is the likeliest.

    Args:
        outputs: logits (batch, *sizes, classes).
        classes: integers (batch,).
    """
    classes = tf.cast(classes, tf.int32)
    there = tf.argmax(outputs, axis=-1, output_type=tf.int32) == tf.reshape(
        classes, [-1, *[1] * (len(outputs.shape) - 2)]
    )
    own = tf.gather(outputs, classes, axis=-1, batch_dims=1)
    return tf.reduce_sum(tf.where(there, own, 0), axis=range(1, len(outputs.shape) - 1))


def grad_cam(
    model: keras.Model,
    inputs: Any,
    target: Callable[..., tf.Tensor],
    *arguments: Any,
    layer: str | None = None,
    pooled: bool = True,
) -> np.ndarray:
    """Where the evidence for a score lies: float32 (examples, *sizes), at least 0, in units of the score.

    The maps of a layer, each weighted by the mean of the score's gradient over it, summed, and cut at 0 (equations 1
    and 2 of the paper). Divided by nothing: whoever draws it scales it.

    Differs from the paper, which stretches the map over the image: here each value lies at the middle of its unit's
    receptive field, and between them it is interpolated. Networks padded alike at both ends hardly show it.

    Args:
        inputs: (examples, *sizes, channels), of one to three sizes, as the model takes them, or all that it takes by
            name: the map is of the first with the most axes.
        target: the model's outputs, float32, and a batch of each of `arguments` to the score of each example, (batch,),
            by operations that have a gradient: `class_logit` takes the classes.
        arguments: arrays of as many rows as there are examples.
        layer: name of a layer with positions; None takes `grad_cam_layer`.
        pooled: False weights each position by its own gradient where that is positive, which is LayerCAM: the mean of
            Grad-CAM shows all things that look like the one whose score it is.

    Raises:
        Fault: no such layer; the score does not depend on it.
    """
    flat = [np.asarray(values) for values in tf.nest.flatten(inputs)]
    shape = max((values.shape[1:] for values in flat), key=len)
    row = _spatial(model, layer or grad_cam_layer(model, input_shape=shape), shape)
    if target is class_logit:
        _require_logits(model)

    def evidence(examples: Any, *few: Any) -> tf.Tensor:
        examples = [tf.cast(each, tf.float32) for each in tf.nest.flatten(examples)]
        with tf.GradientTape() as tape:
            tape.watch(examples)
            seen: dict[str, tf.Tensor] = {}
            outputs = keras.tree.flatten(_through(model, examples, seen, {}))
            outputs = [tf.cast(each, tf.float32) if each.dtype.is_floating else each for each in outputs]
            score = target(keras.tree.pack_sequence_as(model.output, outputs), *few)
        maps = seen[row.name]
        slopes = tape.gradient(score, maps)
        if slopes is None:
            raise Fault(f"layer must be one that the score depends on, got {layer or row.name}; take one before")
        weights = tf.reduce_mean(slopes, axis=range(1, len(maps.shape) - 1), keepdims=True)
        return tf.nn.relu(tf.reduce_sum((weights if pooled else tf.nn.relu(slopes)) * maps, axis=-1))

    size = inference.batch_limit(model, input_shape=shape)
    found = inference.predict_in_batches(inference.compiled(evidence), inputs, *map(np.asarray, arguments), size=size)
    for axis, length in enumerate(shape[:-1]):  # each in its turn is the second, and becomes the last
        found = np.tensordot(found, _placement(row, axis, length), axes=(1, 1))
    return found.astype(np.float32)


def visual_backprop(model: keras.Model, images: np.ndarray, *, layers: Sequence[str] | None = None) -> np.ndarray:
    """Where a network of any answer looks: float32 (images, height, width), the largest value of each image 1.

    Maps behind non-linearities, averaged over their channels, are multiplied from the deepest to the first: what is
    bright in all of them is relevant, and as sharp as the first layer. No gradient is taken.

    Differs from the paper, which brings each map to the size of the one before by a transposed convolution of ones:
    here its values lie at the middles of their units' receptive fields and are interpolated. Beyond the outermost they
    go on – the last of PilotNet's maps has one row –, but those of the first map end there.

    Args:
        images: (images, height, width, channels), as the model takes them.
        layers: names of layers with positions; None takes those of `feature_layers` that have several.
    """
    shape = images.shape[1:]
    rows = spatial_layers(model, input_shape=shape)
    chosen = layers or [
        name for name in feature_layers(model, input_shape=shape) if max(rows[name].output_shape[:2]) > 1
    ]
    found = np.ones(images.shape[:3], np.float64)
    for number, name in enumerate(chosen):
        averaged, row = feature_maps(model, images, name).mean(axis=-1), _spatial(model, name, shape)
        down, across = (_placement(row, axis, shape[axis], ends=number == 0) for axis in (0, 1))
        placed = np.einsum("yi,nij,xj->nyx", down, np.maximum(averaged, 0), across)
        found *= placed / np.maximum(placed.max(axis=(1, 2), keepdims=True), 1e-12)
    return (found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-300)).astype(np.float32)


def _rows(model: keras.Model, input_shape: Sequence[int] | None = None) -> dict[str, model_profile.Row]:
    """Every layer's row by the last part of its path, where that is its own, else by the path."""
    rows = {row.name: row for row in model_profile.rows(model, input_shape=input_shape) if row.type != "InputLayer"}
    namesakes = Counter(path.rpartition("/")[2] for path in rows)
    return {last if namesakes[last := path.rpartition("/")[2]] == 1 else path: row for path, row in rows.items()}


def _name(rows: dict[str, model_profile.Row], layer: str) -> str:
    if layer in rows:
        return layer
    paths = [name for name, row in rows.items() if row.name == layer]
    if paths:
        return paths[0]
    near = difflib.get_close_matches(layer, list(rows), n=3, cutoff=0.4)
    raise Fault(f"layer must be one of the model's, got {layer}; {_listed(near or list(rows))}")


def _listed(names: Sequence[str]) -> str:
    return f"{'did you mean' if len(names) <= 3 else 'it has'} {', '.join(names[:20])}{' …' if len(names) > 20 else ''}"


def _spatial(model: keras.Model, layer: str, input_shape: Sequence[int]) -> model_profile.Row:
    rows = _rows(model, tuple(input_shape))
    row = rows[_name(rows, layer)]
    if not _has_positions(row, _axes(model)):
        raise Fault(f"layer must have units with a position, got {layer} of shape {row.output_shape}; take one before")
    return row


def _axes(model: keras.Model) -> int:
    """How many sizes an image, signal or volume has: of the input with the most axes."""
    return max(len(tensor.shape) for tensor in model.inputs) - 2


def _has_positions(row: model_profile.Row, axes: int) -> bool:
    return len(row.jump) == axes and len(row.output_shape) == axes + 1


def _unpooled(model: keras.Model, input_shape: Sequence[int] | None) -> dict[str, model_profile.Row]:
    """The rows of the layers with several positions that are no pooling, by name; a Fault if there are none."""
    known, rows = _operations(model), spatial_layers(model, input_shape=input_shape)
    found = {
        name: row
        for name, row in rows.items()
        if max(row.output_shape[:-1]) > 1 and not hasattr(known[row.name], "pool_size")
    }
    if not found:
        raise Fault(f"model must have a layer with several positions, got none in {model.name}")
    return found


def _before_all_outputs(model: keras.Model) -> set[str]:
    """The paths of the layers that are behind the image and before every output that depends on the image."""
    image = max(model.inputs, key=lambda tensor: len(tensor.shape))
    behind = {id(tensor): {""} if tensor is image else set() for tensor in model.inputs}
    kept = []  # symbolic tensors, so that no two share an id

    def walk(inner: keras.Model, inputs: list[keras.KerasTensor], prefix: str) -> Any:
        def visit(operation: keras.Operation) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                given = [one for one in keras.tree.flatten((arguments, options)) if isinstance(one, keras.KerasTensor)]
                if isinstance(operation, keras.Model):
                    return walk(operation, given, f"{prefix}{operation.name}/")
                outputs = operation.compute_output_spec(*arguments, **options)
                kept.extend(keras.tree.flatten(outputs))
                layers_before = set().union(*(behind[id(one)] for one in given))
                layers_before |= {prefix + operation.name} if layers_before else set()
                behind.update({id(one): layers_before for one in keras.tree.flatten(outputs)})
                return outputs

            return call

        return keras.Function(inner.inputs, inner.outputs)._run_through_graph(inputs, operation_fn=visit)

    outputs = keras.tree.flatten(walk(model, list(model.inputs), ""))
    return set.intersection(*(behind[id(one)] for one in outputs if behind[id(one)]))


def _operations(model: keras.Model, prefix: str = "") -> dict[str, keras.Operation]:
    """Every layer and operation of the model, and of those nested in it, by its path."""
    found: dict[str, keras.Operation] = {}
    for operation in keras.Function(model.inputs, model.outputs).operations:
        path = prefix + operation.name
        found |= _operations(operation, f"{path}/") if isinstance(operation, keras.Model) else {path: operation}
    return found


def _is_non_linear(layer: keras.Operation) -> bool:
    activation = getattr(layer, "activation", None)
    return isinstance(layer, RECTIFIERS) or activation not in (None, keras.activations.linear)


def _kernel(layer: keras.Operation) -> keras.Variable | None:
    """The weights that slide over the image; of a separable convolution those of its first half."""
    if not hasattr(layer, "kernel_size"):
        return None
    return next((getattr(layer, name) for name in KERNELS if hasattr(layer, name)), None)


def _require_logits(model: keras.Model) -> None:
    last = keras.Function(model.inputs, model.outputs).operations[-1]
    if isinstance(last, layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise Fault(f"model must answer with logits, got a softmax in {last.name}; take the layer before it")


def _checked_units(units: Sequence[int] | None, row: model_profile.Row) -> list[int]:
    width = row.output_shape[-1]
    units = range(width) if units is None else units
    for unit in units:
        if not 0 <= unit < width:
            raise Fault(f"unit must lie in 0 to {width - 1}, as {row.name} has {width} of them, got {unit}")
    return [int(unit) for unit in units]


def _tapped(model: keras.Model, path: str | None = None, *, straight: bool = False) -> Callable[[tf.Tensor], Any]:
    """A function from float32 images to (the outputs of the layer at `path`, the model's), or to the model's alone.

    Straight outputs are those before the layer's own non-linearity.
    """

    main = layer_row(model, logits_layer(model)).name if len(model.outputs) > 1 else None
    twin = {path: _unbent(_operations(model)[path])} if straight and path is not None else {}

    def tapped(images: tf.Tensor) -> Any:
        seen: dict[str, tf.Tensor] = {}
        outputs = _through(model, [images], seen, twin)
        answer = seen[main] if main else tf.cast(keras.tree.flatten(outputs)[0], tf.float32)
        return answer if path is None else (seen[path], answer)

    return tapped


def _graph(function: Callable[..., Any], shape: Sequence[int], *further: Any) -> Callable[..., Any]:
    """The function of images of this shape, and of what else it takes, as a graph that is traced once."""
    traced = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *shape), tf.float32), *further
    )
    return lambda images, *others: traced(tf.cast(images, tf.float32), *map(tf.constant, others))


def _through(
    model: keras.Model,
    inputs: list[tf.Tensor],
    seen: dict[str, tf.Tensor],
    twins: dict[str, keras.Operation],
    prefix: str = "",
) -> Any:
    """The model's outputs; those of every layer, nested ones as well, go into `seen` by their path.

    What is left is in single precision, and what goes on is made of it, so that a gradient reaches it whatever the
    layers compute in. A layer that has a twin leaves what that answers instead. The layers are called one by one, so
    that images of floats pass where the model takes integers, and with them a gradient. `_run_through_graph` is the
    seam that `anatomy` explains.
    """

    def visit(operation: keras.Operation) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = prefix + operation.name
            if isinstance(operation, keras.Model):
                given = [value for value in keras.tree.flatten((arguments, options)) if tf.is_tensor(value)]
                return _through(operation, given, seen, twins, f"{path}/")
            outputs = operation(*arguments, **options)
            first, *others = keras.tree.flatten(outputs)
            single = tf.cast(first, tf.float32)
            seen[path] = tf.cast(twins[path](*arguments), tf.float32) if path in twins else single
            return keras.tree.pack_sequence_as(outputs, [tf.cast(single, first.dtype), *others])

        return call

    return keras.Function(model.inputs, model.outputs)._run_through_graph(inputs, operation_fn=visit)


def _unbent(layer: keras.Operation) -> keras.Operation:
    """A twin of the layer that answers what it would without its non-linearity."""
    if isinstance(layer, (*RECTIFIERS, layers.Activation)):
        return layers.Identity()
    if not _is_non_linear(layer):
        return layer
    twin = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    twin.build(layer.input.shape)
    twin.set_weights(layer.get_weights())
    return twin


def _batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _strongest(
    tapped: Callable[[tf.Tensor], Any], units: Sequence[int]
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function from a batch to the largest activation of each unit on each image, and where: y and x."""

    def strongest(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = tf.gather(tapped(batch)[0], units, axis=-1)
        batches, height, width, count = tf.unstack(tf.shape(maps))
        flat = tf.transpose(tf.reshape(maps, (batches, height * width, count)), (2, 0, 1))
        place = tf.argmax(flat, axis=-1, output_type=tf.int32)
        return tf.reduce_max(flat, axis=-1), tf.cast(tf.stack([place // width, place % width], axis=-1), tf.int64)

    return strongest


def _box(row: model_profile.Row, place: Sequence[int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the field of the unit at this (y, x), in whole pixels."""
    top, left = (round(start + at * jump) for start, at, jump in zip(row.start, place, row.jump, strict=True))
    height, width = (round(size) for size in row.receptive_field)
    return left, top, left + width, top + height


def _piece(image: np.ndarray, box: Sequence[int], outside: int) -> np.ndarray:
    """The image within the box; `outside` beyond its border."""
    left, top, right, bottom = box
    piece = np.full((bottom - top, right - left, image.shape[-1]), outside, np.uint8)
    upper, lower = max(top, 0), min(bottom, image.shape[0])
    first, last = max(left, 0), min(right, image.shape[1])
    if upper < lower and first < last:
        piece[upper - top : lower - top, first - left : last - left] = image[upper:lower, first:last]
    return piece


def _middle(tapped: Callable[[tf.Tensor], Any], units: Sequence[int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from images, one for each unit, to the activation of that unit, in the middle of its map."""

    def middle(images: tf.Tensor) -> tf.Tensor:
        maps = tapped(images)[0]
        for _ in maps.shape[1:-1]:
            maps = maps[:, tf.shape(maps)[1] // 2]
        return tf.gather(maps, tf.constant(units), axis=1, batch_dims=1)

    return middle


def _jitter(row: model_profile.Row, shape: Sequence[int]) -> int:
    """Pixels by which an image may be shifted: few in small images and fields, which a shift would smear."""
    return int(min(4, min(*row.receptive_field, *shape[1:3]) // 12))


def _climb(
    activation: Callable[[tf.Tensor], tf.Tensor], start: tf.Tensor, span: tuple[float, float], jitter: int
) -> Callable[..., tf.Tensor]:
    """A function that makes one step of gradient ascent, `shrunk` to a share of the first."""
    rate = RATE * (span[1] - span[0])

    def climb(images: tf.Tensor, key: tf.Tensor, shrunk: tf.Tensor) -> tf.Tensor:
        shift = tf.random.stateless_uniform((2,), key, -jitter, jitter + 1, tf.int32)
        with tf.GradientTape() as tape:
            tape.watch(images)
            excited = activation(tf.roll(images, shift, axis=(1, 2)))
        gradient = tape.gradient(excited, images)
        largest = tf.reduce_max(tf.abs(gradient), axis=(1, 2, 3), keepdims=True)
        moved = images + shrunk * rate * gradient / tf.maximum(largest, 1e-12)
        return tf.clip_by_value(start + (1 - shrunk * DECAY) * (moved - start), *span)

    key, share = tf.TensorSpec((2,), tf.int32), tf.TensorSpec((), tf.float32)
    return _graph(climb, start.shape[1:], key, share)


def _blurred(images: tf.Tensor) -> tf.Tensor:
    """Each pixel mixed with its neighbours, 1-2-1 along both axes; beyond the border the image goes on."""
    for axis in (1, 2):
        before, after = (tf.gather(images, [at], axis=axis) for at in (0, images.shape[axis] - 1))
        framed = tf.concat([before, images, after], axis=axis)
        shifted = [tf.gather(framed, tf.range(k, k + images.shape[axis]), axis=axis) for k in range(3)]
        images = (shifted[0] + 2 * shifted[1] + shifted[2]) / 4
    return images


def _steps(size: int, patch: int, stride: int) -> list[int]:
    """Where squares begin along an axis: every `stride` pixels, and at the far end."""
    return sorted({*range(0, size - patch + 1, stride), size - patch})


def _probability(logits: tf.Tensor, label: int) -> np.ndarray:
    return tf.nn.softmax(logits)[:, int(label)].numpy()


def _log_odds(logits: tf.Tensor, label: int) -> np.ndarray:
    others = tf.concat([logits[:, :label], logits[:, label + 1 :]], axis=1)
    return (logits[:, label] - tf.reduce_logsumexp(others, axis=1)).numpy()


def _placement(row: model_profile.Row, axis: int, size: int, *, ends: bool = True) -> np.ndarray:
    """Weights (pixels, positions) that interpolate from the middles of the units' fields to the pixels of an axis.

    Half a jump outside the outermost middles they begin to fall to 0, a jump further they are there; or never.
    """
    positions, jump = row.output_shape[axis], row.jump[axis]
    middles = row.start[axis] + jump * np.arange(positions) + (row.receptive_field[axis] - 1) / 2
    points = [
        middles[0] - 1.5 * jump,
        middles[0] - jump / 2,
        *middles,
        middles[-1] + jump / 2,
        middles[-1] + 1.5 * jump,
    ]
    values = [[(not ends) * unit[0], unit[0], *unit, unit[-1], (not ends) * unit[-1]] for unit in np.eye(positions)]
    return np.stack([np.interp(np.arange(size), points, value) for value in values], axis=1)
