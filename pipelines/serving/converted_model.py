"""A classifier of images in another format than SavedModel, as something to call: TensorFlow is never imported.

Its signatures are those of the SavedModel. What is in that one's graph is done here by Pillow and NumPy: decoding, the
guard against pixel bombs, resizing and the names of the classes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from cnn_keras.data.files.image_pixels import decode, resize_image
from cnn_keras.errors import Fault, Unreadable
from pipelines.export.runtimes import Network
from pipelines.serving.example_message import Example
from pipelines.serving.http.errors import Refusal, of_row
from pipelines.serving.model import Model
from pipelines.serving.signature import DEFAULT_SIGNATURE, Signature, Slot, Tensors

TYPES = {"O": "DT_STRING", "u": "DT_UINT8", "f": "DT_FLOAT", "i": "DT_INT64"}
PLATFORMS = {"litert": "litert_tflite", "onnx": "onnxruntime_onnx", "openvino": "openvino_ir"}


class ConvertedModel(Model):
    """A loaded network of `cnn export --format`."""

    def __init__(self, folder: Path) -> None:
        """Load the network in a folder.

        Raises:
            Fault: it is of another task than classify, or cannot be loaded.
        """
        self.folder = folder
        # Threads that share one picture wait for each other; each processor answers one of its own instead.
        self.parallel = len(os.sched_getaffinity(0))
        self._network = Network(folder, threads=1, callers=self.parallel, rows=1)
        self._workers = ThreadPoolExecutor(self.parallel, "network")
        facts = self._network.description
        if facts["task"] != "classify":
            raise Fault(f"--engine must be tensorflow for the task {facts['task']}; the others serve classify alone")
        if "thresholds" in facts:
            raise Fault("--engine must be tensorflow for a model with any number of labels; the others serve one class")
        self.name, self.version = str(facts["name"]), int(facts["version"])
        self.platform = PLATFORMS[facts["format"]]
        self._framing = facts["preprocessing"]
        self._labels = np.array([name.encode() for name in facts["classes"]], object)
        self.signatures = _signatures(tuple(facts["input"]["shape"]), len(self._labels))
        self.signature_def = {name: _as_json(signature) for name, signature in self.signatures.items()}

    def __call__(self, signature: str, tensors: Tensors) -> Tensors:
        """Call one signature. `tensors` must have the dtypes and shapes that its inputs state.

        Raises:
            Refusal: an image that cannot be read; its row is named.
        """
        if signature == "serving_tensor":
            return self._named(self._asked(tensors["image"], np.asarray))
        if signature == DEFAULT_SIGNATURE:
            return self._named(self._asked(tensors["image_bytes"], self._framed))
        probabilities = self._asked(tensors["inputs"], lambda example: self._framed(_image_of(example)))
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        return {"classes": self._labels[order], "scores": np.take_along_axis(probabilities, order, axis=-1)}

    def _named(self, probabilities: Any) -> Tensors:
        best = probabilities.argmax(axis=-1)
        return {"probabilities": probabilities, "class_id": best, "label": self._labels[best]}

    def _asked(self, rows: Any, read: Callable[[Any], Any]) -> Any:
        """The probabilities of rows that `read` makes images of, shared among the processors: float32 (N, classes)."""

        def ask(number: int) -> Any:
            return self._network(_of_row(read, rows, number)[None])["probabilities"]

        each: Callable[..., Iterator[Any]] = map if len(rows) == 1 else self._workers.map
        return np.concatenate(list(each(ask, range(len(rows)))))

    def _framed(self, file: bytes) -> Any:
        channels, (height, width), fit = (self._framing[key] for key in ("channels", "size", "fit"))
        return resize_image(decode(file, channels=channels), (height, width), fit=fit)


def _of_row(read: Callable[[Any], Any], rows: Any, number: int) -> Any:
    """An image of a row, which is named where it cannot be read."""
    try:
        return read(rows[number])
    except Unreadable as reason:
        raise Refusal(400, of_row(number, len(rows), str(reason))) from None


def _signatures(image: tuple[int | None, ...], classes: int) -> dict[str, Signature]:
    string, number, count = np.dtype(object), np.dtype(np.float32), (None, classes)
    slots = {
        "image_bytes": Slot("image_bytes", string, (None,)),
        "image": Slot("image", np.dtype(np.uint8), image),
        "inputs": Slot("inputs", string, (None,)),
        "probabilities": Slot("probabilities", number, count),
        "class_id": Slot("class_id", np.dtype(np.int64), (None,)),
        "label": Slot("label", string, (None,)),
        "classes": Slot("classes", string, count),
        "scores": Slot("scores", number, count),
    }
    likeliest, ranked = ("class_id", "label", "probabilities"), ("classes", "scores")
    tensors = {
        DEFAULT_SIGNATURE: ("image_bytes", likeliest),
        "serving_tensor": ("image", likeliest),
        "serving_classify": ("inputs", ranked),
    }
    return {
        name: Signature(name, {taken: slots[taken]}, {output: slots[output] for output in given})
        for name, (taken, given) in tensors.items()
    }


def _as_json(signature: Signature) -> dict[str, Any]:
    """As TensorFlow Serving's metadata answer prints a signature."""

    def slot(of: Slot) -> dict[str, Any]:
        sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in of.shape or ()]
        shape = {"dim": sizes, "unknown_rank": False}
        return {"dtype": TYPES[of.dtype.kind], "tensor_shape": shape, "name": of.name}

    return {
        "inputs": {name: slot(one) for name, one in signature.inputs.items()},
        "outputs": {name: slot(one) for name, one in signature.outputs.items()},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }


def _image_of(serialized: bytes) -> bytes:
    """The feature `image_bytes` of a serialized tf.Example."""
    try:
        values = Example.FromString(serialized).features.feature["image_bytes"].bytes_list.value
    except DecodeError:
        raise Refusal(400, "inputs must be serialized tf.Examples") from None
    if len(values) != 1:
        raise Refusal(400, f"each example must have one value of the feature image_bytes, got {len(values)}")
    return bytes(values[0])
