"""What a network is made of: sizes, parameters, multiply-adds, memory and receptive fields, layer by layer.

Works on any functional or sequential Keras model, channels last: branches, residual sums, dilated, grouped,
depthwise, separable and transposed convolutions, one to three spatial axes, shared and nested models (which
are descended into: `inner/conv`).

Multiply-adds are those of convolutions and dense layers, as the literature counts them: normalisation,
pooling and activations are left out. For receptive fields see `receptive_field`.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.layers import LocallyConnected2D
from cnn_keras.learn import receptive_field


@dataclass(frozen=True)
class Row:
    """One call of one layer.

    The output shape is without the batch axis (of the first output, if a layer has several). A shared layer's
    parameters are counted in its first row. Activation bytes are those of the outputs at the batch asked for.
    Receptive field, jump, start and middle: pixels of the image along each axis, see `receptive_field.Field`.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    activation_bytes: int
    receptive_field: tuple[float, ...]
    jump: tuple[float, ...]
    start: tuple[float, ...]
    middle: tuple[float, ...]


@dataclass(frozen=True)
class Totals:
    """Sums over rows: parameters (all; trainable), multiply-adds of one example, activation bytes."""

    parameters: int
    trainable: int
    multiply_adds: int
    activation_bytes: int


def output_size(size: int, window: int, *, padding: int = 0, stride: int = 1, dilation: int = 1) -> int:
    """How many positions a window has along an axis: floor((n + 2p - f) / s + 1).

    Dilation d widens f to d(f - 1) + 1.

    Args:
        size: n, positions along the axis.
        window: f, of the filter or pool.
        padding: p, zeros added at each end; (f - 1) / 2 keeps the size ("same") for odd f at stride 1.
        stride: s, at least 1.
        dilation: d, at least 1.

    Raises:
        Fault: when the window does not fit even once.
    """
    room, reach = size + 2 * padding, dilation * (window - 1) + 1
    if reach > room:
        raise Fault(f"window must reach over at most the {room} padded positions, got {reach}; pad more")
    return (room - reach) // stride + 1


def rows(model: keras.Model, *, batch: int = 1, input_shape: Sequence[int] | None = None) -> list[Row]:
    """The model's anatomy: a list of `Row`, one for each input and each layer call, in the graph's order.

    Args:
        model: functional or sequential Keras model.
        batch: how many examples' activations are counted.
        input_shape: sizes without the batch axis, for a model that leaves some of its own open: of the first of its
            inputs with the most axes. Beside an image, boxes whose number is open are counted as one.

    Raises:
        Fault: when the model, or one inside it, is of another kind; when a size stays unknown.
    """
    inputs = _graph(model).inputs
    shapes = [tensor.shape[1:] for tensor in inputs]
    axes = max(map(len, shapes))
    if input_shape is not None:
        shapes[[len(shape) for shape in shapes].index(axes)] = tuple(input_shape)
    shapes = [tuple(size or 1 for size in shape) if len(shape) < axes else shape for shape in shapes]
    for shape in shapes:
        if None in shape:
            raise Fault(f"input_shape must be known, got {shape}; give it, for example input_shape=(224, 224, 3)")
    walk = _Walk(batch)
    walk.descend(model, [walk.enter(own, shape) for own, shape in zip(inputs, shapes, strict=True)], prefix="")
    return walk.rows


def totals(rows: Sequence[Row]) -> Totals:
    """The `Totals` of the rows of one model."""
    return Totals(**{field.name: sum(getattr(row, field.name) for row in rows) for field in fields(Totals)})


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV text with a header line; sizes along several axes read `14x14`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows([_written(value) for value in asdict(row).values()] for row in rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table that ends in the line of totals."""
    names = [field.name for field in fields(Row)]
    total = asdict(totals(rows))
    lines = [
        [name.replace("_", " ") for name in names],
        ["---:" if name in total else "---" for name in names],
        *([_written(value, thousands=",") for value in asdict(row).values()] for row in rows),
        ["total", *(_written(total.get(name, ""), thousands=",") for name in names[1:])],
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _written(value: Any, thousands: str = "") -> Any:
    match value:
        case tuple():
            return "x".join(f"{entry:g}" for entry in value)
        case int():
            return f"{value:{thousands}}"
    return value


def _graph(model: keras.Model) -> keras.Function:
    if not isinstance(model, keras.Function) and not (isinstance(model, keras.Sequential) and model.built):
        raise Fault(f"model must be functional or sequential, and built, got {type(model).__name__} {model.name!r}")
    return keras.Function(model.inputs, model.outputs)


class _Walk:
    """Symbolic tensors pass through the graph once: each has a field, and each layer call leaves a row."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.rows: list[Row] = []
        self.counted: set[keras.Operation] = set()
        self.fields: dict[int, receptive_field.Field] = {}  # of every tensor by its id
        self.tensors: list[keras.KerasTensor] = []  # kept alive, so that no two share an id

    def enter(self, own: keras.KerasTensor, shape: Sequence[int]) -> keras.KerasTensor:
        """A symbolic image of this shape for the model's own input, and its row."""
        image = keras.KerasTensor((None, *shape), dtype=own.dtype)
        self._note(own.name, "InputLayer", [image], receptive_field.pixel(len(shape) - 1))
        return image

    def descend(self, model: keras.Model, inputs: list[keras.KerasTensor], prefix: str) -> Any:
        """Run the tensors through the model, layer by layer, and return its outputs."""

        def visit(operation: keras.Operation) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                tensors = [t for t in keras.tree.flatten((arguments, options)) if isinstance(t, keras.KerasTensor)]
                if isinstance(operation, keras.Model):
                    return self.descend(operation, tensors, f"{prefix}{operation.name}/")
                outputs = operation.compute_output_spec(*arguments, **options)
                self._examine(operation, tensors, keras.tree.flatten(outputs), prefix)
                return outputs

            return call

        # The one private seam: the order in which Keras itself runs the layers of a functional model.
        return _graph(model)._run_through_graph(inputs, operation_fn=visit)

    def _examine(
        self, operation: keras.Operation, inputs: list[keras.KerasTensor], outputs: list[keras.KerasTensor], prefix: str
    ) -> None:
        field = receptive_field.union([self.fields[id(tensor)] for tensor in inputs])
        maps = [shape for tensor in inputs if len(shape := tensor.shape[1:-1]) == len(field.jump)]
        sizes = max(maps or [tensor.shape[1:-1] for tensor in inputs], key=math.prod)
        sizes_after = outputs[0].shape[1:-1]
        counts = {}
        if isinstance(operation, keras.Layer):
            counts["multiply_adds"] = _multiply_adds(operation, sizes, sizes_after)
            if operation not in self.counted:
                counts["parameters"] = operation.count_params()
                counts["trainable"] = sum(math.prod(weight.shape) for weight in operation.trainable_weights)
        self.counted.add(operation)
        field = receptive_field.after(operation, field, sizes, sizes_after)
        self._note(prefix + operation.name, type(operation).__name__, outputs, field, **counts)

    def _note(
        self,
        name: str,
        kind: str,
        outputs: list[keras.KerasTensor],
        field: receptive_field.Field,
        *,
        parameters: int = 0,
        trainable: int = 0,
        multiply_adds: int = 0,
    ) -> None:
        self.tensors.extend(outputs)
        self.fields |= {id(tensor): field for tensor in outputs}
        size = sum(math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size for tensor in outputs)
        self.rows.append(
            Row(
                name,
                kind,
                outputs[0].shape[1:],
                parameters,
                trainable,
                multiply_adds,
                self.batch * size,
                field.size,
                field.jump,
                field.start,
                field.middle,
            )
        )


def _multiply_adds(layer: keras.Layer, sizes: Sequence[int], sizes_after: Sequence[int]) -> int:
    """A weight of a kernel is used once at each position: of the output or, if transposed, of the input.

    Those of a locally connected layer belong to one position; those of a recurrent one are used at every step.
    """
    if isinstance(layer, keras.layers.RNN):
        own = (layer.cell.kernel, layer.cell.recurrent_kernel)
        return math.prod(sizes) * sum(math.prod(kernel.shape) for kernel in own)
    kernels = (getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel"))
    weights = sum(math.prod(kernel.shape) for kernel in kernels if kernel is not None)
    if isinstance(layer, LocallyConnected2D):
        return weights
    return weights * math.prod(sizes if isinstance(layer, receptive_field.TRANSPOSED) else sizes_after)
