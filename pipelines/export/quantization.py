"""Networks in int8, calibrated on examples, by the quantization of LiteRT, ONNX Runtime and NNCF.

Weights have a scale for each channel, the values between operations one for each tensor.

The last operation with weights, and what comes after it, stay in float32 in all formats: a logit, a coordinate or an
angle in 256 steps would be another answer. (Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", 2018.)
"""

import importlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.tools import flatbuffer_utils

from pipelines.export.runtimes import Array, without_telemetry

WEIGHTED = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"),  # LiteRT
    *("Conv", "ConvTranspose", "Gemm", "MatMul"),  # ONNX, and the last OpenVINO too
    *("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData"),
}


class Operation(NamedTuple):
    """A node of a network's graph, with its tensors, by whatever tells one from another."""

    name: str
    kind: str
    inputs: list[Any]
    outputs: list[Any]


def tail(operations: Iterable[Operation]) -> list[str]:
    """The names of the last operation with weights on every path and of those after it; all are in their order."""
    needed: set[Any] = set()  # by what is quantized, or by the last operation with weights
    names = []
    for operation in reversed(list(operations)):
        is_before = bool(needed.intersection(operation.outputs))
        if not is_before:
            names.append(operation.name)
        if is_before or operation.kind in WEIGHTED:
            needed.update(operation.inputs)
    return names


def litert(converter: Any, rows: Array) -> bytes:
    """A network in int8 by LiteRT's own quantization.

    Args:
        converter: `tf.lite.TFLiteConverter` of the network.
        rows: of its input, by which the ranges of all values are found.

    Returns:
        The file. Its inputs and outputs are those of the network in float32.
    """
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in rows)
    # `convert` in one go quantizes what it can, the answer too; of its two halves the second takes names to leave out.
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    return bytes(mlir_quantize(calibrated, denylisted_nodes=tail(_of_litert(calibrated))))


def _of_litert(model: bytes) -> Iterator[Operation]:
    content = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    graph = content.subgraphs[0]
    for operator in graph.operators:
        code = content.operatorCodes[operator.opcodeIndex]
        kind = flatbuffer_utils.opcode_to_name(content, operator.opcodeIndex) or str(code.builtinCode)
        name = graph.tensors[operator.outputs[0]].name.decode()
        yield Operation(name, kind, list(operator.inputs), list(operator.outputs))


def onnx(proto: Any, rows: Array) -> Any:
    """A network in int8 by ONNX Runtime's static quantization: QuantizeLinear and DequantizeLinear around operations.

    Args:
        proto: `onnx.ModelProto` of the network, which has one input.
        rows: of its input, by which the ranges of all values are found.
    """
    import onnx  # optional
    from onnxruntime import quantization  # optional

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, Array] | None:
            row = next(self._rows, None)
            return None if row is None else {proto.graph.input[0].name: row[None]}

    with tempfile.TemporaryDirectory() as folder:
        whole, quantized = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, whole)
        # Batch normalization is folded into convolutions.
        quantization.quant_pre_process(whole, whole, skip_symbolic_shape=True)
        left_out = tail(_of_onnx(onnx.load(whole)))
        quantization.quantize_static(
            whole,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            nodes_to_exclude=left_out,
        )
        return onnx.load(quantized)


def _of_onnx(proto: Any) -> Iterator[Operation]:
    for node in proto.graph.node:
        yield Operation(node.name, node.op_type, list(node.input), list(node.output))


def openvino(model: Any, rows: Array) -> Any:
    """A network in int8 by NNCF's post-training quantization.

    Args:
        model: `openvino.Model` of the network, which has one input.
        rows: of its input, by which the ranges of all values are found.
    """
    with without_telemetry():
        nncf = importlib.import_module("nncf")  # optional
        ranges = importlib.import_module("nncf.quantization.range_estimator")
    scope = nncf.IgnoredScope(names=tail(_of_openvino(model)), validate=False)
    with _silent(nncf):
        return nncf.quantize(
            model,
            nncf.Dataset([row[None] for row in rows]),
            preset=nncf.QuantizationPreset.MIXED,  # ranges of values that need not be symmetric, as after a ReLU
            subset_size=len(rows),
            ignored_scope=scope,
            # Its own range is the mean of the examples' extremes, which cuts off every second one.
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
            ),
        )


def _of_openvino(model: Any) -> Iterator[Operation]:
    for operation in model.get_ordered_ops():
        inputs = [(port.get_node().get_friendly_name(), port.get_index()) for port in operation.input_values()]
        name = operation.get_friendly_name()
        outputs = [(name, index) for index in range(operation.get_output_size())]
        if operation.get_type_name() not in ("Constant", "Parameter", "Result"):
            yield Operation(name, operation.get_type_name(), inputs, outputs)


@contextmanager
def _silent(nncf: Any) -> Iterator[None]:
    """NNCF tells of its progress by a logger and by bars of its own, whose console is made when a bar is."""
    progress = importlib.import_module("nncf.common.logging.track_progress")
    logger = logging.getLogger("nncf")
    level, bar = logger.level, progress.track.__init__

    def hidden(self: Any, *args: Any, **options: Any) -> None:
        bar(self, *args, **{**options, "disable": True})

    nncf.set_log_level(logging.ERROR)
    progress.track.__init__ = hidden
    try:
        yield
    finally:
        progress.track.__init__ = bar
        nncf.set_log_level(level)
