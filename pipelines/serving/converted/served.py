"""What a converted network is served by: signatures whose answers are given row by row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.data.files.image_pixels import decode
from pipelines.serving.http.errors import Refusal
from pipelines.serving.signature import DEFAULT_SIGNATURE, Signature, Slot, Tensors

Array = np.ndarray[Any, np.dtype[Any]]
Row = Mapping[str, Any]  # values by name, without the axis of the batch
Ask = Callable[[Array], dict[str, Array]]  # one row of the network's input to one row of each of its outputs

STRING = np.dtype(object)
FLOAT, INTEGER = np.dtype(np.float32), np.dtype(np.int64)


class Served(NamedTuple):
    """A signature, and what answers one row of it: the inputs by name to the outputs by name."""

    signature: Signature
    answer: Callable[..., Row]


def slot(name: str, dtype: Any, *shape: int | None) -> Slot:
    """A tensor with a batch of any size before `shape`."""
    return Slot(name, np.dtype(dtype), (None, *shape))


def served(name: str, inputs: Sequence[Slot], outputs: Sequence[Slot], answer: Callable[..., Row]) -> Served:
    """A signature of this name."""
    return Served(Signature(name, {one.name: one for one in inputs}, {one.name: one for one in outputs}), answer)


def of_images(
    channels: int, size: Sequence[int | None], outputs: Sequence[Slot], answer: Callable[[Array], Row]
) -> dict[str, Served]:
    """The two signatures of a model of images: `serving_default` and `serving_tensor`.

    Args:
        size: (height, width) of the images that `serving_tensor` takes; None for any.
        answer: to an image, uint8 (height, width, channels).
    """

    def from_bytes(image_bytes: bytes) -> Row:
        return answer(decode(image_bytes, channels=channels))

    def from_tensor(image: Array) -> Row:
        check_any(image, "image")
        return answer(image)

    names: dict[str, tuple[Slot, Callable[..., Row]]] = {
        DEFAULT_SIGNATURE: (slot("image_bytes", STRING), from_bytes),
        "serving_tensor": (slot("image", np.uint8, *size, channels), from_tensor),
    }
    return {name: served(name, [taken], outputs, call) for name, (taken, call) in names.items()}


def check_any(values: Array, name: str) -> None:
    """Raise a Refusal for an array without values."""
    if not values.size:
        raise Refusal(400, f"{name} must have no axis of length 0, got {values.shape}")


def batch(rows: Sequence[Row], outputs: Mapping[str, Slot]) -> Tensors:
    """Rows of answers as tensors."""
    return {name: np.stack([np.asarray(row[name], one.dtype) for row in rows]) for name, one in outputs.items()}
