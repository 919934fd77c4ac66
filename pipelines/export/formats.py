"""Networks written as LiteRT, ONNX and OpenVINO files, which run where TensorFlow does not.

What is converted is a function of one tensor: a batch at the network's size to named outputs, with neither strings nor
a loop over rows. That a converter returns proves nothing: what it wrote counts once `pipelines.engine.formats` has
loaded it and compared its answers.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.models.centernet import CornerUpSampling2D
from pipelines.export import quantization
from pipelines.export.runtimes import FORMATS, Array, Ask, Target, import_openvino

IN_SPACE = (keras.layers.Conv3D, keras.layers.Conv3DTranspose)
OPSET = 18  # of ONNX: the newest that tf2onnx 1.17 writes
Outputs = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Convertible:
    """What of a task's model is converted, how it is described to whoever runs it, and how it is measured.

    Attributes:
        model: the Keras model that answers, whose layers are looked at.
        answer: a batch of `tensor` to outputs by name, the batch first, floats or integers.
        tensor: what it takes, its name and dtype too, with any number of rows.
        about: for `network.json`: `preprocessing`, `outputs` – what each of them is – and what names them.
        examples: one pass over a split: batches of the input, and of what is true of its rows.
        changed: decisions that differ between two models' outputs for a batch, and how many were taken.
        score: a batch's outputs and truth, to what `measure` gathers.
        measure: the scores of all batches to the metric with its interval of 95 %.
        metric: its name.
        sign: 1 where more of the metric is better, −1 where less is.
        ask: how a network is asked about an example, where that is more than a batch of its input; it is given what
            asks about such a batch.
        difference: the largest between two models' outputs for a batch, where their rows may come in another order;
            None: value by value.
    """

    model: keras.Model
    answer: Callable[[Any], Outputs]
    tensor: tf.TensorSpec
    about: dict[str, Any]
    examples: Callable[[str], Iterator[tuple[Array, Any]]]
    changed: Callable[[Outputs, Outputs], tuple[int, int]]
    score: Callable[[Outputs, Any], Any]
    measure: Callable[[list[Any]], tuple[float, tuple[float, float]]]
    metric: str
    sign: int = 1
    ask: Callable[[Ask, Array], Outputs] | None = None
    difference: Callable[[Outputs, Outputs], float] | None = None


def image_preprocessing(shape: Shape) -> dict[str, Any]:
    """For `network.json`: how an encoded image becomes a row of the input."""
    return {
        "kind": "image",
        "channels": shape.channels,
        "size": list(shape.size),
        "fit": shape.fit,
        "resize": "bilinear, antialiased, rounded to uint8; pad: black borders; crop: the middle",
        "values": "uint8, 0–255; the network normalises them itself",
    }


def check(model: keras.Model, target: Target) -> None:
    """Raise a Fault for the first layer of a model that a format has no counterpart for in this precision."""
    for layer in _layers(model):
        if target == Target("litert", "int8") and isinstance(layer, IN_SPACE):
            raise Fault(f"{target} cannot hold {layer.name}: LiteRT convolves in three dimensions in float alone")
        if target == Target("litert", "int8") and isinstance(layer, CornerUpSampling2D):
            raise Fault(
                f"{target} cannot hold CenterNet, whose network LiteRT's kernels refuse in int8; take openvino-int8"
            )
        if target.format != "litert" and getattr(layer, "groups", 1) > 1 and hasattr(layer, "kernel_size"):
            raise Fault(
                f"{target.format} cannot hold {layer.name}, a convolution of {layer.groups} groups, which tf2onnx does "
                "not convert; litert can"
            )


def write(convertible: Convertible, folder: Path, target: Target, rows: Any = None) -> None:
    """Write a network's file or files into a folder; int8 takes rows of its input to be calibrated by.

    Raises:
        Fault: the network has an operation that the format does not.
    """
    function = _frozen(convertible)
    path, precision = folder / FORMATS[target.format].file, target.precision
    try:
        with _quiet():
            if target.format == "litert":
                path.write_bytes(_litert(function, precision, rows))
            elif target.format == "onnx":
                import onnx  # optional

                onnx.save(_onnx(function, convertible.tensor, precision, rows), str(path))
            else:
                _write_openvino(_onnx(function, convertible.tensor, "float32"), path, precision, rows)
    except Exception as refused:  # three converters, whose errors have no class in common
        lines = str(refused).strip().splitlines() or [type(refused).__name__]
        raise Fault(
            f"{convertible.model.name} must be convertible to {target.format}, got: {lines[0][:300]}"
        ) from refused


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _frozen(convertible: Convertible) -> Any:
    """The function with all it has captured as constants; its inputs and outputs keep their names.

    Of Keras's Normalization tf2onnx would make inputs: its mean and deviation are tensors, and no variables.
    """
    traced = tf.function(convertible.answer, autograph=False).get_concrete_function(convertible.tensor)
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    names = sorted(traced.structured_outputs)  # the order of a dictionary's tensors

    def again(tensor: Any) -> Any:
        return dict(zip(names, frozen(tensor), strict=True))

    return tf.function(again, input_signature=[convertible.tensor], autograph=False)


def _litert(function: Any, precision: str, rows: Any) -> bytes:
    module = tf.Module()
    module.serve = function  # of what belongs to a module the names are kept
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    if precision == "int8":
        return quantization.litert(converter, rows)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _onnx(function: Any, tensor: tf.TensorSpec, precision: str, rows: Any = None) -> Any:
    import tf2onnx  # optional

    handlers: dict[str, Any] = {"Erfc": (_erfc, [])}
    proto, _ = tf2onnx.convert.from_function(function, [tensor], opset=OPSET, custom_op_handlers=handlers)
    if precision == "int8":
        return quantization.onnx(proto, rows)
    if precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16  # optional

        _leave_out_empty(proto)
        proto = convert_float_to_float16(proto, keep_io_types=True)
    return proto


def _leave_out_empty(proto: Any) -> None:
    """An input of Resize that is an empty constant becomes none: behind a cast nobody would know that it is empty."""
    empty = {tensor.name for tensor in proto.graph.initializer if 0 in tensor.dims}
    for node in proto.graph.node:
        if node.op_type == "Resize":
            node.input[:] = ["" if name in empty else name for name in node.input]


def _erfc(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """1 − erf(x): Keras's exact GELU holds erfc, which ONNX does not have."""
    node.domain, node.type = "", "Erf"
    consumers = graph.find_output_consumers(node.output[0])
    one = graph.make_const(f"{name}_one", np.ones([], np.float32))
    rest = graph.make_node("Sub", [one.output[0], node.output[0]])
    for consumer in consumers:
        graph.replace_input(consumer, node.output[0], rest.output[0])


def _write_openvino(proto: Any, path: Path, precision: str, rows: Any) -> None:
    openvino = import_openvino()
    model = openvino.Core().read_model(proto.SerializeToString())
    if precision == "int8":
        model = quantization.openvino(model, rows)
    openvino.save_model(model, str(path), compress_to_fp16=precision == "float16")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What converters tell of their progress concerns nobody; what they fail by is raised."""
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
