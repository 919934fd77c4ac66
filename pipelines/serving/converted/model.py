"""A network in another format than SavedModel, as something to call: TensorFlow is never imported.

Its signatures are those of the SavedModel. What is in that one's graph is done here by Pillow and NumPy: decoding, the
guard against pixel bombs, resizing, what is made of the network's outputs, and the names of the classes.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.errors import Fault, Unreadable
from pipelines.export import runtimes
from pipelines.export.runtimes import Network
from pipelines.serving.converted import (
    classification,
    detection,
    embedding,
    regression,
    segmentation,
    steering,
    threads,
)
from pipelines.serving.converted.served import Array, Ask, Row, Served, batch
from pipelines.serving.http.errors import Refusal, of_row
from pipelines.serving.model import Model
from pipelines.serving.signature import Signature, Slot, Tensors

TYPES = {"object": "DT_STRING", "float32": "DT_FLOAT"}  # others are called as NumPy calls them
PLATFORMS = {"litert": "litert_tflite", "onnx": "onnxruntime_onnx", "openvino": "openvino_ir"}
SIGNATURES: dict[str, Callable[[dict[str, Any], Ask], dict[str, Served]]] = {  # by task
    "classify": classification.images,
    "signals": classification.arrays,
    "volumes": classification.arrays,
    "detect": detection.detect,
    "localize": detection.localize,
    "segment": segmentation.signatures,
    "verify": embedding.signatures,
    "steer": steering.signatures,
    "regress": regression.signatures,
}


class ConvertedModel(Model):
    """A loaded network of `cnn export --format`, with a plan measured by `pipelines.serving.converted.threads`."""

    def __init__(self, folder: Path) -> None:
        """Load the network in a folder.

        Raises:
            Fault: it does not hold all that its task's answers take, which is said before it is loaded, or it cannot be
                loaded.
        """
        self.folder = folder
        check(runtimes.describe(folder))
        self.plan, self._network, self.parallel = _planned(folder)
        self.is_quick = self.parallel == 1
        self._workers = ThreadPoolExecutor(self.parallel, "network")
        facts = self._network.description
        self.name, self.version = str(facts["name"]), int(facts["version"])
        self.platform = PLATFORMS[facts["format"]]
        try:
            self._served = SIGNATURES[facts["task"]](facts, self._ask)
        except KeyError as missing:
            raise Fault(f"network.json must have {missing}, got {folder}, which is older; export it again") from None
        self.signatures = {name: one.signature for name, one in self._served.items()}
        self.signature_def = {name: _as_json(signature) for name, signature in self.signatures.items()}

    def __call__(self, signature: str, tensors: Tensors) -> Tensors:
        """Call one signature. `tensors` must have the dtypes and shapes that its inputs state.

        Raises:
            Refusal: an image that cannot be read; its row is named.
        """
        called = self._served[signature]
        count = len(next(iter(tensors.values())))

        def answer(row: int) -> Row:
            try:
                return called.answer(**{name: tensor[row] for name, tensor in tensors.items()})
            except Unreadable as reason:
                raise Refusal(400, of_row(row, count, str(reason))) from None

        each: Callable[..., Iterator[Row]] = map if count == 1 or self.parallel == 1 else self._workers.map
        return batch(list(each(answer, range(count))), called.signature.outputs)

    def close(self) -> None:
        """End the threads that share the rows of a request."""
        self._workers.shutdown()

    def _ask(self, row: Array) -> dict[str, Array]:
        return {name: values[0] for name, values in self._network(row[None]).items()}


def _planned(folder: Path) -> tuple[threads.Plan, Network, int]:
    """A network, loaded for the plan by which it answers soonest, and how many requests are then worked on at once."""
    processors = len(os.sched_getaffinity(0))
    plans = threads.plans(processors)
    networks = {plan: Network(folder, threads=plan.threads, callers=plan.calls, rows=1) for plan in plans}
    taken = runtimes.describe(folder)["input"]
    row = np.zeros([1, *taken["shape"][1:]], taken["dtype"])
    for network in networks.values():
        network(row)  # warm before several threads call it
    plan = threads.fastest(plans, lambda plan: threads.answered(partial(networks[plan], row), processors))
    network = networks[plan]
    return plan, network, threads.requests(plan, threads.shortest(partial(network, row)))


def check(description: dict[str, Any]) -> None:
    """Raise a Fault for a network that is only a part of what the SavedModel answers with."""
    task = description["task"]
    reason = f"the others serve {', '.join(SIGNATURES)}" if task not in SIGNATURES else None
    if task == "verify":
        reason = embedding.missing(description)
    if reason:
        raise Fault(f"--engine must be tensorflow for this network of the task {task}: {reason}")


def _as_json(signature: Signature) -> dict[str, Any]:
    """As TensorFlow Serving's metadata answer prints a signature."""

    def slot(of: Slot) -> dict[str, Any]:
        sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in of.shape or ()]
        shape = {"dim": sizes, "unknown_rank": False}
        kind = TYPES.get(str(of.dtype), f"DT_{of.dtype}".upper())
        return {"dtype": kind, "tensor_shape": shape, "name": of.name}

    return {
        "inputs": {name: slot(one) for name, one in signature.inputs.items()},
        "outputs": {name: slot(one) for name, one in signature.outputs.items()},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
