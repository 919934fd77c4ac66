"""JSON values to NumPy tensors and back, under the rules of TensorFlow Serving (its json_tensor.cc).

Differs from TensorFlow Serving: numbers must be finite, and an integer too large for its type is refused.
"""

import base64
import binascii
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.serving.http.errors import Refusal
from pipelines.serving.signature import Slot

BYTES_SUFFIX = "_bytes"  # string outputs of such a name are binary
RANK_LIMIT = 32
FEW = 32  # numbers that are sooner rounded one by one
EXACT_POWERS = 22  # of ten, which a float64 holds exactly
TYPES: dict[str, set[type]] = {
    "f": {int, float},
    "i": {int},
    "u": {int},
    "b": {bool},
    "O": {str, dict},
}  # by NumPy kind
WORDS = {"f": "numbers", "i": "integers", "u": "integers", "b": "true or false", "O": "strings"}


def tensor(value: Any, slot: Slot) -> NDArray[Any]:
    """A JSON value, nested lists or one scalar, as a tensor with the dtype and shape that `slot` states.

    Raises:
        Refusal: ragged lists, a wrong type, a number out of range or not finite, another shape.
    """
    shape, leaves = _flattened(value, slot.name)
    check_shape(shape, slot)
    kind = slot.dtype.kind
    if kind not in TYPES:
        raise Refusal(400, f"{slot.name} must be sent another way: JSON has no {slot.dtype} values")
    if not set(map(type, leaves)) <= TYPES[kind]:
        wrong = next(leaf for leaf in leaves if type(leaf) not in TYPES[kind])
        raise Refusal(400, f"{slot.name} must hold {WORDS[kind]} ({slot.dtype}), got {_shown(wrong)}")
    if kind == "O":
        filled = np.empty(len(leaves), dtype=object)
        filled[:] = [encode_string(leaf, slot.name) for leaf in leaves]
        return filled.reshape(shape)
    return _numbers(leaves, slot).reshape(shape)


def check_shape(shape: tuple[int, ...], slot: Slot) -> None:
    """Raise a Refusal unless `slot` takes tensors of this shape."""
    if not _fits(shape, slot.shape):
        raise Refusal(400, f"{slot.name} must have shape {_written(slot.shape)}, got {_written(shape)}")


def encode_string(value: Any, name: str) -> bytes:
    """A JSON string as UTF-8, or what `{"b64": "..."}` encodes."""
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refusal(400, f"{name} must hold valid Unicode, got half of a surrogate pair") from None
    if not is_base64(value):
        raise Refusal(400, f'{name} must be a string or {{"b64": "..."}}, got {_shown(value)}')
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, f"{name} must be valid base64, got {_shown(value['b64'])}") from None


def is_base64(value: Any) -> bool:
    """Whether a JSON value is `{"b64": text}`."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def values(tensor: NDArray[Any], name: str) -> Any:
    """A tensor as nested lists for JSON; strings plain, or `{"b64": ...}` when `name` ends in `_bytes`."""
    kind = tensor.dtype.kind
    if kind not in TYPES:
        raise Refusal(400, f"{name} cannot be answered in JSON: its type is {tensor.dtype}")
    if tensor.dtype == np.float32:
        return _nine_digits(tensor).tolist()
    if kind != "O":
        return tensor.tolist()
    write: Callable[[Any], Any] = _base64 if name.endswith(BYTES_SUFFIX) else _text
    array = np.empty(tensor.size, dtype=object)
    array[:] = [write(item) for item in tensor.ravel().tolist()]
    return array.reshape(tensor.shape).tolist()


def _flattened(value: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of nested lists and all their leaves."""
    shape: list[int] = []
    level = [value]
    while level and any(type(item) is list for item in level):
        sizes = {len(item) if type(item) is list else None for item in level}
        size = sizes.pop()
        if sizes or size is None:
            raise Refusal(400, f"{name} must be a regular array, got lists of different lengths or depths")
        if len(shape) == RANK_LIMIT:
            raise Refusal(400, f"{name} must be nested less than {RANK_LIMIT} lists deep")
        shape.append(size)
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _numbers(leaves: list[Any], slot: Slot) -> NDArray[Any]:
    try:
        with np.errstate(over="ignore"):
            array = np.array(leaves, dtype=slot.dtype)
    except OverflowError:
        limits = np.iinfo(slot.dtype) if slot.dtype.kind in "iu" else np.finfo(slot.dtype)
        raise Refusal(400, f"{slot.name} must lie between {limits.min} and {limits.max} ({slot.dtype})") from None
    if slot.dtype.kind == "f" and not np.isfinite(array).all():
        raise Refusal(400, f"{slot.name} must hold finite numbers that {slot.dtype} can represent")
    return array


def _fits(shape: tuple[int, ...], declared_shape: tuple[int | None, ...] | None) -> bool:
    if declared_shape is None:
        return True
    return len(shape) == len(declared_shape) and all(
        want in (None, size) for size, want in zip(shape, declared_shape, strict=True)
    )


def _written(shape: tuple[int | None, ...] | None) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape or ()) + "]"


def _shown(value: Any) -> str:
    """The beginning of a value, for an error text."""
    if isinstance(value, dict):
        return f"an object with the keys {sorted(value)[:4]}"
    text = repr(value) if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = "null" if value is None else text
    return text if len(text) <= 40 else text[:39] + "…"


def _base64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode("ascii")}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _nine_digits(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """As many digits as a float32 has: 0.9 is not answered as 0.8999999761581421.

    Many numbers are rounded together where the power of ten that makes nine digits of one before the point is exact.
    """
    with np.errstate(invalid="ignore"):  # what is not a number
        exact = numbers.astype(np.float64)
    is_written = np.isfinite(exact) & (exact != 0)
    if exact.size > FEW:
        with np.errstate(divide="ignore"):
            places = 8 - np.floor(np.log10(np.abs(exact)))
        is_rounded = is_written & (places >= 0) & (places <= EXACT_POWERS)
        powers = 10.0 ** places[is_rounded]
        exact[is_rounded] = np.rint(exact[is_rounded] * powers) / powers
        is_written &= ~is_rounded
    exact[is_written] = [float(f"{number:.9g}") for number in exact[is_written].tolist()]
    return exact
