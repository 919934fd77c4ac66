"""A SavedModel version folder as something to call: signatures described, tensors in NumPy, warm."""

import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn_keras.fault import Fault

Tensors = dict[str, NDArray[Any]]

log = logging.getLogger(__name__)
DEFAULT_SIGNATURE = "serving_default"
INTERNAL_PREFIX = "__"  # TensorFlow's own entries, like __saved_model_init_op
WARM_UP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
WARM_UP_SIDE = 32  # pixels, wherever a signature leaves a size open


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
    """One callable of the model with its named inputs and outputs."""

    name: str
    inputs: Mapping[str, Slot]
    outputs: Mapping[str, Slot]

    @property
    def has_rows(self) -> bool:
        """Whether requests may share one call, row by row."""
        return all(slot.has_rows for slot in (*self.inputs.values(), *self.outputs.values()))

    @property
    def takes_image(self) -> bool:
        """Whether an encoded image alone is enough for it."""
        return len(self.inputs) == 1 and all(slot.is_image for slot in self.inputs.values())


class Model:
    """A loaded SavedModel.

    Attributes:
        name, version: from the folder, `<name>/<version>/`.
        signatures: by name.
        signature_def: the same as TensorFlow Serving's metadata answer prints them.
    """

    def __init__(self, folder: Path) -> None:
        """Load the version folder `folder`, or the highest version under `<name>/`. Takes seconds.

        Raises:
            Fault: the folder holds no SavedModel, or TensorFlow cannot load it.
        """
        import tensorflow as tf

        self.folder = version_folder(folder)
        numbered = self.folder.name.isdecimal()
        self.name = self.folder.parent.name if numbered else self.folder.name
        self.version = int(self.folder.name) if numbered else 1
        definitions = _definitions(self.folder)
        self.signature_def = {name: _printed(definition) for name, definition in definitions.items()}
        self.signatures = {
            name: Signature(name, _slots(definition.inputs), _slots(definition.outputs))
            for name, definition in definitions.items()
            if not name.startswith(INTERNAL_PREFIX)
        }
        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as broken:
            raise Fault(
                f"model folder must hold a SavedModel that loads, got {self.folder}: {str(broken)[:300]}; "
                "export the model again"
            ) from broken

    def __call__(self, signature: str, tensors: Tensors) -> Tensors:
        """Call one signature. `tensors` must have the dtypes and shapes that its inputs state."""
        import tensorflow as tf

        outputs = self._loaded.signatures[signature](
            **{name: tf.constant(tensor) for name, tensor in tensors.items()}
        )
        return {name: np.asarray(output.numpy()) for name, output in outputs.items()}

    def warm_up(self, rows: int) -> None:
        """Call every signature with one row and with `rows`, so that the first client does not wait.

        The requests packed with the model are replayed; a signature without one gets zeros, and may refuse.
        """
        packed = dict(_packed_requests(self.folder / WARM_UP_FILE))
        for name, signature in self.signatures.items():
            tensors = packed.get(name) or _zeros(signature)
            for size in (1, rows) if signature.has_rows else (None,):
                try:
                    self(name, tensors if size is None else _resized(tensors, size))
                except Exception as error:  # a guess that a signature refuses is no reason not to serve it
                    log.info("%s was not warmed up: %s", name, error)
                    break


def version_folder(folder: Path) -> Path:
    """`folder` itself when it holds a SavedModel, otherwise its sub-folder with the highest number.

    Raises:
        Fault: neither is there.
    """
    folder = folder.absolute()
    if (folder / "saved_model.pb").is_file():
        return folder
    versions = [child for child in folder.glob("*/") if (child / "saved_model.pb").is_file()]
    numbered = [child for child in versions if child.name.isdecimal()]
    if numbered:
        return max(numbered, key=lambda child: int(child.name))
    content = sorted(child.name for child in folder.iterdir())[:8] if folder.is_dir() else None
    found = "no such folder" if content is None else f"which holds {', '.join(content) or 'nothing'}"
    raise Fault(
        f"model folder must be a SavedModel or hold numbered ones (<name>/1/saved_model.pb), got {folder}, "
        f"{found}; `cnn export RECIPE` writes one"
    )


def _definitions(folder: Path) -> dict[str, Any]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as broken:
        raise Fault(
            f"saved_model.pb must be a SavedModel, got {folder / 'saved_model.pb'}: {broken}"
        ) from broken
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    if not graphs or not graphs[0].signature_def:
        raise Fault(
            f"model must have a graph with signatures tagged `serve`, got none in {folder}; export it again"
        )
    return dict(graphs[0].signature_def)


def _slots(tensors: Mapping[str, Any]) -> dict[str, Slot]:
    import tensorflow as tf

    def slot(name: str, info: Any) -> Slot:
        shape = info.tensor_shape
        sizes = None if shape.unknown_rank else tuple(None if d.size < 0 else int(d.size) for d in shape.dim)
        return Slot(name, np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype), sizes)

    return {name: slot(name, info) for name, info in sorted(tensors.items())}


def _printed(definition: Any) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    printed: dict[str, Any] = MessageToDict(
        definition, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return printed


def _packed_requests(path: Path) -> Iterator[tuple[str, Tensors]]:
    """(signature, tensors) of the warm-up requests beside the model, a TFRecord of PredictionLog."""
    if not path.is_file():
        return
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    for record in tf.data.TFRecordDataset(str(path)):
        entry = PredictionLog.FromString(record.numpy())
        kind = entry.WhichOneof("log_type")
        if kind == "predict_log":
            request = entry.predict_log.request
            tensors = {name: np.asarray(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        elif kind in ("classify_log", "regress_log"):
            request = getattr(entry, kind).request
            examples = request.input.example_list.examples
            tensors = {
                "inputs": np.array([example.SerializeToString() for example in examples], dtype=object)
            }
        else:
            continue
        yield request.model_spec.signature_name or DEFAULT_SIGNATURE, tensors


def _zeros(signature: Signature) -> Tensors:
    from PIL import Image

    black = io.BytesIO()
    Image.new("RGB", (WARM_UP_SIDE, WARM_UP_SIDE)).save(black, "PNG")

    def zeros(slot: Slot) -> NDArray[Any]:
        sizes = [1 if axis == 0 else WARM_UP_SIDE for axis in range(len(slot.shape or ()))]
        shape = [size or guess for size, guess in zip(slot.shape or (), sizes, strict=True)]
        if slot.is_string:
            return np.full(shape, black.getvalue() if slot.is_image else b"", dtype=object)
        return np.zeros(shape, slot.dtype)

    return {name: zeros(slot) for name, slot in signature.inputs.items()}


def _resized(tensors: Tensors, rows: int) -> Tensors:
    """The first row, `rows` times."""
    return {name: np.repeat(tensor[:1], rows, axis=0) for name, tensor in tensors.items()}
