"""The Open Inference Protocol of KServe, Triton and MLServer (https://github.com/kserve/open-inference-protocol).

Tensors come and go as JSON, or behind it as Triton's binary extension has it: outputs with the parameter `binary_data`,
or all with `binary_data_output` of the request. The protocol knows no signatures: a request is for the first one that
takes inputs of its names, `serving_default` before the others, unless its parameters have a `signature_name`. Of
strings JSON holds text, `{"b64": …}` as in `/v1`, or base64 where the parameters of the tensor say `"content_type":
"base64"`, as MLServer has it.

Differs from the protocol: `datatype` must be the one of the model's metadata, and numbers must be finite.
"""

import math
import re
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.model import Model
from pipelines.serving.rest import protocol, tensors
from pipelines.serving.rest.responses import Answer, Packed
from pipelines.serving.signature import DEFAULT_SIGNATURE, Signature, Slot, Tensors

PLACE = re.compile(r"/v2/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+))?(?:/(?P<verb>infer|ready))?")
HEADER = "inference-header-content-length"  # bytes of the JSON before the binary tensors
BINARY = "binary_data_size"  # parameter of an input or output: bytes behind the JSON
WORDS = {"b": "BOOL", "f": "FP", "u": "UINT", "i": "INT"}  # by NumPy kind
LONGEST_TENSOR = 2**31  # values; more do not fit into a body


def server() -> Answer:
    """The answer to GET /v2."""
    return {"name": "cnn-keras", "version": version("cnn-keras"), "extensions": ["binary_tensor_data"]}


def metadata(model: Model, versions: Sequence[int]) -> Answer:
    """The answer to GET /v2/models/NAME, of the signature `serving_default`, or of the first there is.

    `versions` are all that are served.
    """
    signature = _ordered(model)[0]
    return {
        "name": model.name,
        "versions": [str(number) for number in versions],
        "platform": model.platform,
        "inputs": [_described(slot) for slot in signature.inputs.values()],
        "outputs": [_described(slot) for slot in signature.outputs.values()],
    }


def infer(model: Model, body: bytes, limits: Limits, json_bytes: str | None = None) -> protocol.Call:
    """A request for an answer.

    Args:
        json_bytes: the header that says where the JSON ends and binary tensors begin; None: all is JSON.

    Raises:
        Refusal: 400 with what is wrong.
    """
    end = len(body) if json_bytes is None else _number(json_bytes, len(body))
    document = protocol.parsed(body[:end], limits)
    given = _named(document.get("inputs"), "inputs")
    signature = _signature(model, document, set(given))
    rest, inputs = body[end:], {}
    for name, tensor in given.items():
        size = _parameters(tensor).get(BINARY)
        if size is None:
            inputs[name] = _from_json(tensor, signature.inputs[name])
        else:
            size = _number(size, len(rest))
            inputs[name] = _from_bytes(tensor, signature.inputs[name], rest[:size])
            rest = rest[size:]
    if rest:
        raise Refusal(400, f"the inputs must account for every byte of the body, got {len(rest)} more")
    asked = (
        _named(document["outputs"], "outputs") if "outputs" in document else {name: {} for name in signature.outputs}
    )
    if unknown := set(asked) - set(signature.outputs):
        raise Refusal(400, f"outputs must be of {', '.join(signature.outputs)}, got {min(unknown)!r:.60}")
    head: Answer = {"model_name": model.name, "model_version": str(model.version)}
    if isinstance(document.get("id"), str):
        head["id"] = document["id"]
    default = _flag(document, "binary_data_output")
    binary = {name: _flag(output, "binary_data", default) for name, output in asked.items()}
    return protocol.Call(protocol.job(signature, inputs, limits), partial(_answer, head, binary))


def _ordered(model: Model) -> list[Signature]:
    """The signatures that take something, `serving_default` first."""
    taking = [signature for signature in model.signatures.values() if signature.inputs]
    return sorted(taking, key=lambda signature: signature.name != DEFAULT_SIGNATURE)


def _signature(model: Model, document: dict[str, Any], names: set[str]) -> Signature:
    wanted = _parameters(document).get("signature_name")
    for signature in _ordered(model):
        if (wanted is None or signature.name == wanted) and set(signature.inputs) == names:
            return signature
    known = "; ".join(f"{each.name}: {', '.join(each.inputs)}" for each in _ordered(model))
    raise Refusal(400, f"inputs must be those of a signature, got {', '.join(sorted(names))!r:.60}; {known}")


def _named(listed: Any, key: str) -> dict[str, dict[str, Any]]:
    """A request's list of tensors, by name."""
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise Refusal(400, f"'{key}' must be a list of at least one object")
    names = [each.get("name") for each in listed]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise Refusal(400, f"'{key}' must each have a name of its own")
    return dict(zip(names, listed, strict=True))


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refusal(400, "'parameters' must be an object")
    return parameters


def _flag(of: dict[str, Any], name: str, default: bool = False) -> bool:
    value = _parameters(of).get(name, default)
    if not isinstance(value, bool):
        raise Refusal(400, f"'{name}' must be true or false, got {value!r:.40}")
    return value


def _number(value: Any, most: int) -> int:
    """A number of bytes, from a header or from JSON."""
    text = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise Refusal(400, f"sizes of the binary extension must be 0 to {most}, the bytes there are, got {text!r:.40}")
    return int(text)


def _shape(tensor: dict[str, Any], slot: Slot) -> tuple[int, ...]:
    """The shape that a tensor states, which fits the model."""
    if tensor.get("datatype") != _datatype(slot):
        raise Refusal(400, f"datatype of {slot.name} must be {_datatype(slot)}, got {tensor.get('datatype')!r:.40}")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < LONGEST_TENSOR for size in shape):
        raise Refusal(400, f"shape of {slot.name} must be a list of sizes")
    tensors.check_shape(tuple(shape), slot)
    return tuple(shape)


def _from_json(tensor: dict[str, Any], slot: Slot) -> NDArray[Any]:
    shape, data = _shape(tensor, slot), tensor.get("data")
    if not isinstance(data, list):
        raise Refusal(400, f"data of {slot.name} must be a list")
    if _parameters(tensor).get("content_type") == "base64":
        data = [{"b64": value} for value in data]
    array = tensors.tensor(data, Slot(slot.name, slot.dtype, None))
    if array.size != math.prod(shape) or array.shape not in (shape, (array.size,)):
        raise Refusal(400, f"data of {slot.name} must have {math.prod(shape)} values, got {array.size}")
    return array.reshape(shape)


def _from_bytes(tensor: dict[str, Any], slot: Slot, data: bytes) -> NDArray[Any]:
    """Row by row, little-endian; each string behind its length in 4 bytes."""
    shape = _shape(tensor, slot)
    if slot.is_string:
        strings = list(_strings(data, slot))
        if len(strings) != math.prod(shape):
            raise Refusal(400, f"data of {slot.name} must have {math.prod(shape)} values, got {len(strings)}")
        return protocol.strings(strings).reshape(shape)
    if len(data) != math.prod(shape) * slot.dtype.itemsize:
        raise Refusal(400, f"data of {slot.name} must have {math.prod(shape) * slot.dtype.itemsize} bytes")
    if slot.dtype.kind == "b" and data.strip(b"\0\1"):
        raise Refusal(400, f"data of {slot.name} must be bytes of 0 and 1")
    array = np.frombuffer(data, slot.dtype.newbyteorder("<")).astype(slot.dtype).reshape(shape)
    if slot.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refusal(400, f"{slot.name} must hold finite numbers")
    return array


def _strings(data: bytes, slot: Slot) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (len(data),)
        at += 4 + length
        if at > len(data):
            raise Refusal(400, f"data of {slot.name} must be strings, each behind its length in 4 bytes")
        yield data[at - length : at]


def _answer(head: Answer, binary: dict[str, bool], results: Tensors) -> Answer | Packed:
    """The outputs of the names in `binary`, which tells whether each stands behind the JSON."""
    packed = {name: _packed(results[name]) for name, is_binary in binary.items() if is_binary}
    outputs = [_output(name, results[name], packed.get(name)) for name in binary]
    answer = {**head, "outputs": outputs}
    return Packed(answer, b"".join(packed.values())) if packed else answer


def _packed(result: NDArray[Any]) -> bytes:
    """As `_from_bytes` takes it."""
    if result.dtype.kind != "O":
        return result.astype(result.dtype.newbyteorder("<")).tobytes()
    return b"".join(struct.pack("<I", len(string)) + string for string in result.ravel())


def _output(name: str, result: NDArray[Any], packed: bytes | None) -> Answer:
    slot = Slot(name, result.dtype, result.shape)
    described: Answer = {"name": name, "datatype": _datatype(slot), "shape": list(result.shape)}
    if packed is not None:
        return {**described, "parameters": {BINARY: len(packed)}}
    data = tensors.values(result.reshape(-1), name)
    if slot.is_string and name.endswith(tensors.BYTES_SUFFIX):
        described["parameters"], data = {"content_type": "base64"}, [value["b64"] for value in data]
    return {**described, "data": data}


def _described(slot: Slot) -> Answer:
    shape = [-1] if slot.shape is None else [-1 if size is None else size for size in slot.shape]
    return {"name": slot.name, "datatype": _datatype(slot), "shape": shape}


def _datatype(slot: Slot) -> str:
    """As the protocol calls a type: BOOL, UINT8 … FP64, BYTES."""
    if slot.is_string:
        return "BYTES"
    word = WORDS.get(slot.dtype.kind, str(slot.dtype))
    return word if slot.dtype.kind not in "fui" else f"{word}{8 * slot.dtype.itemsize}"
