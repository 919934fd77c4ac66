"""Which layers and units of a network are worth looking into, by name or path, and what each of them sees.

A layer is named as inside its model, `c3`, and where two layers share a name by their path, `network/c3`.
"""

import difflib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile

RECTIFIERS = (layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)
KERNELS = ("kernel", "depthwise_kernel")


def spatial_layers(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> dict[str, model_profile.Row]:
    """The layers whose units have a position in the image: their `model_profile.Row`s by name, in the graph's order.

    Args:
        input_shape: (height, width, channels), for a model that leaves some of them open.
    """
    axes = _axes(model)
    return {name: row for name, row in layer_rows(model, input_shape).items() if _has_positions(row, axes)}


def feature_layers(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> list[str]:
    """The names of the layers worth looking into: what comes out of a non-linearity and has positions.

    They are convolutions with an activation of their own and layers that are one; the convolutions, where a network
    has neither.
    """
    rows = spatial_layers(model, input_shape=input_shape)
    known = operations(model)
    candidates = {name: known[row.name] for name, row in rows.items()}
    non_linear = [name for name, layer in candidates.items() if is_non_linear(layer)]
    return non_linear or [name for name, layer in candidates.items() if kernel_of(layer) is not None]


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
    known = operations(model)
    rows = {name: row for name, row in rows.items() if is_non_linear(known[row.name])} or rows
    rows = {name: row for name, row in rows.items() if max(row.output_shape[:-1]) >= positions} or rows
    fewest = min(math.prod(row.output_shape[:-1]) for row in rows.values())
    return [name for name, row in rows.items() if math.prod(row.output_shape[:-1]) == fewest][-1]


def logits_layer(model: keras.Model) -> str:
    """The name of the layer whose units are the classes: the last or, with auxiliary heads, `logits`."""
    names = list(layer_rows(model))
    return "logits" if len(model.outputs) > 1 and "logits" in names else names[-1]


def layer_name(model: keras.Model, layer: str) -> str:
    """The name by which a layer goes here, of its name or its path.

    Raises:
        Fault: when there is none, with the nearest names.
    """
    return _name(layer_rows(model), layer)


def layer_row(model: keras.Model, layer: str) -> model_profile.Row:
    """The `model_profile.Row` of a layer, by its name or its path."""
    rows = layer_rows(model)
    return rows[_name(rows, layer)]


def spatial_row(model: keras.Model, layer: str, input_shape: Sequence[int]) -> model_profile.Row:
    """The row of a layer, by its name or path, whose units have a position; a Fault for another."""
    rows = layer_rows(model, tuple(input_shape))
    row = rows[_name(rows, layer)]
    if not _has_positions(row, _axes(model)):
        raise Fault(f"layer must have units with a position, got {layer} of shape {row.output_shape}; take one before")
    return row


def check_units(units: Sequence[int] | None, row: model_profile.Row) -> list[int]:
    """The numbers of the units, all of the layer's for None; a Fault for one that it does not have."""
    width = row.output_shape[-1]
    units = range(width) if units is None else units
    for unit in units:
        if not 0 <= unit < width:
            raise Fault(f"unit must lie in 0 to {width - 1}, as {row.name} has {width} of them, got {unit}")
    return [int(unit) for unit in units]


def field_box(row: model_profile.Row, place: Sequence[int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the field of the unit at this (y, x), in whole pixels."""
    top, left = (round(start + at * jump) for start, at, jump in zip(row.start, place, row.jump, strict=True))
    height, width = (round(size) for size in row.receptive_field)
    return left, top, left + width, top + height


def operations(model: keras.Model, prefix: str = "") -> dict[str, keras.Operation]:
    """Every layer and operation of the model, and of those nested in it, by its path."""
    by_path: dict[str, keras.Operation] = {}
    for operation in keras.Function(model.inputs, model.outputs).operations:
        path = prefix + operation.name
        by_path |= operations(operation, f"{path}/") if isinstance(operation, keras.Model) else {path: operation}
    return by_path


def is_non_linear(layer: keras.Operation) -> bool:
    """Whether the layer is an activation, or has one of its own other than the identity."""
    activation = getattr(layer, "activation", None)
    return isinstance(layer, RECTIFIERS) or activation not in (None, keras.activations.linear)


def kernel_of(layer: keras.Operation) -> keras.Variable | None:
    """The weights that slide over the image; of a separable convolution those of its first half."""
    if not hasattr(layer, "kernel_size"):
        return None
    return next((getattr(layer, name) for name in KERNELS if hasattr(layer, name)), None)


def layer_rows(model: keras.Model, input_shape: Sequence[int] | None = None) -> dict[str, model_profile.Row]:
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


def _axes(model: keras.Model) -> int:
    """How many sizes an image, signal or volume has: of the input with the most axes."""
    return max(len(tensor.shape) for tensor in model.inputs) - 2


def _has_positions(row: model_profile.Row, axes: int) -> bool:
    return len(row.jump) == axes and len(row.output_shape) == axes + 1


def _unpooled(model: keras.Model, input_shape: Sequence[int] | None) -> dict[str, model_profile.Row]:
    """The rows of the layers with several positions that are no pooling, by name; a Fault if there are none."""
    known, rows = operations(model), spatial_layers(model, input_shape=input_shape)
    unpooled = {
        name: row
        for name, row in rows.items()
        if max(row.output_shape[:-1]) > 1 and not hasattr(known[row.name], "pool_size")
    }
    if not unpooled:
        raise Fault(f"model must have a layer with several positions, got none in {model.name}")
    return unpooled


def _before_all_outputs(model: keras.Model) -> set[str]:
    """The paths of the layers that are behind the image and before every output that depends on the image."""
    image = max(model.inputs, key=lambda tensor: len(tensor.shape))
    behind = {id(tensor): {""} if tensor is image else set() for tensor in model.inputs}
    alive = []  # symbolic tensors, so that no two share an id

    def walk(inner: keras.Model, inputs: list[keras.KerasTensor], prefix: str) -> Any:
        def visit(operation: keras.Operation) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                tensors = [
                    value for value in keras.tree.flatten((arguments, options)) if isinstance(value, keras.KerasTensor)
                ]
                if isinstance(operation, keras.Model):
                    return walk(operation, tensors, f"{prefix}{operation.name}/")
                outputs = operation.compute_output_spec(*arguments, **options)
                alive.extend(keras.tree.flatten(outputs))
                layers_before = set().union(*(behind[id(tensor)] for tensor in tensors))
                layers_before |= {prefix + operation.name} if layers_before else set()
                behind.update({id(tensor): layers_before for tensor in keras.tree.flatten(outputs)})
                return outputs

            return call

        return keras.Function(inner.inputs, inner.outputs)._run_through_graph(inputs, operation_fn=visit)

    outputs = keras.tree.flatten(walk(model, list(model.inputs), ""))
    return set.intersection(*(behind[id(tensor)] for tensor in outputs if behind[id(tensor)]))
