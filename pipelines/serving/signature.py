"""What a SavedModel offers, read from its `saved_model.pb` as TensorFlow Serving reads it: signatures and tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from cnn_keras.errors import Fault

Tensors = dict[str, NDArray[Any]]

DEFAULT_SIGNATURE = "serving_default"
PICTURE = "painting_bytes"  # the output of a model that answers with a PNG file for each row


@dataclass(frozen=True)
class Slot:
    """One named tensor of a signature. Shape: None where any size fits; None instead of a shape: any rank."""

    name: str
    dtype: np.dtype[Any]  # object for strings
    shape: tuple[int | None, ...] | None

    @property
    def is_string(self) -> bool:
        return self.dtype.kind == "O"

    @property
    def is_image(self) -> bool:
        """Whether it takes encoded image files: strings named `image_bytes`, `left_image_bytes` and so on."""
        return self.is_string and self.name.endswith("image_bytes")

    @property
    def has_rows(self) -> bool:
        """Whether its first axis is a batch of any size."""
        return bool(self.shape) and self.shape[0] is None  # type: ignore[index]


@dataclass(frozen=True)
class Signature:
    """One callable of the model with its named inputs and outputs.

    Attributes:
        has_rows: whether requests may share one call, row by row.
        takes_image: whether encoded images alone are enough for it.
        paints: whether it answers them with images.
    """

    name: str
    inputs: Mapping[str, Slot]
    outputs: Mapping[str, Slot]

    @property
    def has_rows(self) -> bool:
        return all(slot.has_rows for slot in (*self.inputs.values(), *self.outputs.values()))

    @property
    def takes_image(self) -> bool:
        return len(self.inputs) == 1 and all(slot.is_image and slot.has_rows for slot in self.inputs.values())

    @property
    def paints(self) -> bool:
        """Whether it takes encoded images and answers each with one."""
        return self.takes_image and set(self.outputs) == {PICTURE}

    def fits(self, inputs: set[str], outputs: set[str]) -> bool:
        """Whether it has exactly these inputs and no other outputs than these."""
        return set(self.inputs) == inputs and set(self.outputs) <= outputs


def definitions(folder: Path) -> dict[str, Any]:
    """The SignatureDef messages of a version folder, by name.

    Raises:
        Fault: `saved_model.pb` is something else, or has no signatures for serving.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel  # start-up: it is loaded with the model

    saved = SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as broken:
        raise Fault(f"saved_model.pb must be a SavedModel, got something else in {folder}; export it again") from broken
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs or not graphs[0].signature_def:
        raise Fault(f"model must have signatures tagged `serve`, got none in {folder}; export it again")
    return dict(graphs[0].signature_def)


def signature(name: str, definition: Any) -> Signature:
    """One SignatureDef as a Signature."""
    return Signature(name, _slots(definition.inputs), _slots(definition.outputs))


def signature_json(definition: Any) -> dict[str, Any]:
    """One SignatureDef as JSON, the way TensorFlow Serving's metadata answer prints it."""
    content: dict[str, Any] = MessageToDict(
        definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return content


def _slots(tensors: Mapping[str, Any]) -> dict[str, Slot]:
    import tensorflow as tf  # start-up: it is loaded with the model

    def slot(name: str, info: Any) -> Slot:
        shape = info.tensor_shape
        sizes = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
        return Slot(name, np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype), sizes)

    return {name: slot(name, info) for name, info in sorted(tensors.items())}
