"""What TensorFlow Serving's REST contract answers: results row by row or in columns, status, metadata."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipelines.serving.http.errors import Refusal
from pipelines.serving.model import Model
from pipelines.serving.rest import tensors
from pipelines.serving.signature import Tensors

Answer = dict[str, Any]


class Packed(NamedTuple):
    """JSON with bytes behind it."""

    answer: Answer
    data: bytes


def predictions(results: Tensors) -> Answer:
    """Row format: one entry per row; the bare value of an only output, otherwise an object.

    Raises:
        Refusal: the outputs have no common first axis.
    """
    for name, tensor in results.items():
        if tensor.ndim == 0:
            raise Refusal(400, f"Tensor name: {name} has no shape information; ask with 'inputs'")
    sizes = {len(tensor) for tensor in results.values()}
    if len(sizes) != 1:
        raise Refusal(400, f"outputs have inconsistent batch size {sorted(sizes)}; ask with 'inputs'")
    columns = _columns(results)
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def outputs(results: Tensors) -> Answer:
    """Column format: the bare tensor of an only output, otherwise an object of tensors."""
    columns = _columns(results)
    return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}


def classifications(results: Tensors) -> Answer:
    """[[label, score], ...] of every example, in the model's order of classes."""
    shape = next(iter(results.values())).shape
    if len(shape) != 2 or any(tensor.shape != shape for tensor in results.values()):
        raise Refusal(400, f"classes and scores must both be [examples, classes], got {sorted(results)} of {shape}")
    labels = results.get("classes", np.full(shape, b"", dtype=object))
    scores = results.get("scores", np.zeros(shape, np.float32))
    rows = zip(tensors.values(labels, "classes"), tensors.values(scores, "scores"), strict=True)
    return {"results": [[list(pair) for pair in zip(*row, strict=True)] for row in rows]}


def regressions(results: Tensors) -> Answer:
    """One number per example."""
    return {"results": tensors.values(results["outputs"].reshape(-1), "outputs")}


def status(versions: Sequence[int]) -> Answer:
    """The answer to GET /v1/models/NAME, where these are served; the newest comes first, as in TensorFlow Serving."""
    good = {"error_code": "OK", "error_message": ""}
    rows = [{"version": str(number), "state": "AVAILABLE", "status": good} for number in sorted(versions, reverse=True)]
    return {"model_version_status": rows}


def metadata(model: Model) -> Answer:
    """The answer to GET /v1/models/NAME/metadata; the double nesting is TensorFlow Serving's."""
    spec = {"name": model.name, "signature_name": "", "version": str(model.version)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": model.signature_def}}}


def _columns(results: Tensors) -> dict[str, Any]:
    return {name: tensors.values(tensor, name) for name, tensor in sorted(results.items())}
