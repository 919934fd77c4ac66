"""Warm-up: every signature is called before the server is ready, so that the first client does not wait."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnn_keras.data.files.image_file import reason
from pipelines.serving.model import Model
from pipelines.serving.signature import DEFAULT_SIGNATURE, Signature, Slot, Tensors

log = logging.getLogger(__name__)

PACKED = Path("assets.extra") / "tf_serving_warmup_requests"  # where TensorFlow Serving looks for them
SIDE = 32  # pixels, wherever a signature leaves a size open


def warm_up(model: Model, rows: int) -> None:
    """Call every signature with one row and with `rows`.

    The requests packed with the model are replayed; a signature without one gets zeros, and may refuse them.
    """
    packed = dict(packed_requests(model.folder / PACKED))
    for name, signature in model.signatures.items():
        tensors = packed.get(name) or zeros(signature)
        for size in (1, rows) if signature.has_rows else (None,):
            try:
                model(name, tensors if size is None else _repeated(tensors, size))
            except Exception as error:  # a guess that a signature refuses is no reason not to serve it
                log.info("%s was not warmed up: %s", name, reason(error))
                break


def packed_requests(path: Path) -> Iterator[tuple[str, Tensors]]:
    """(signature, tensors) of the requests in `path`, a TFRecord of PredictionLog; none when it is not there."""
    if not path.is_file():
        return
    import tensorflow as tf  # start-up: it is loaded with the model
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog  # imports TensorFlow

    for record in tf.data.TFRecordDataset(str(path)):
        entry = PredictionLog.FromString(record.numpy())
        kind = entry.WhichOneof("log_type")
        if kind == "predict_log":
            request = entry.predict_log.request
            tensors = {name: np.asarray(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        elif kind in ("classify_log", "regress_log"):
            request = getattr(entry, kind).request
            examples = request.input.example_list.examples
            tensors = {"inputs": np.array([each.SerializeToString() for each in examples], dtype=object)}
        else:
            continue
        yield request.model_spec.signature_name or DEFAULT_SIGNATURE, tensors


def zeros(signature: Signature) -> Tensors:
    """Inputs of one row that fit `signature`: zeros, empty strings, black pictures."""
    return {name: _zeros(slot) for name, slot in signature.inputs.items()}


def _zeros(slot: Slot) -> NDArray[Any]:
    axes = slot.shape or ()
    shape = [size or (1 if axis == 0 else SIDE) for axis, size in enumerate(axes)]
    if not slot.is_string:
        return np.zeros(shape, slot.dtype)
    return np.full(shape, _black_picture() if slot.is_image else b"", dtype=object)


def _black_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "PNG")
    return file.getvalue()


def _repeated(tensors: Tensors, rows: int) -> Tensors:
    """The first row, `rows` times."""
    return {name: np.repeat(tensor[:1], rows, axis=0) for name, tensor in tensors.items()}
