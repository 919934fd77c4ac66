"""A SavedModel version folder as something to call, with NumPy tensors."""

import sys
from pathlib import Path

import numpy as np

from cnn_keras.errors import Fault
from pipelines.engine.startup import silent_libraries
from pipelines.inference import exported_model
from pipelines.serving.signature import Tensors, definitions, signature, signature_json

INTERNAL_PREFIX = "__"  # TensorFlow's own entries, like __saved_model_init_op
KERAS_HOOK = "keras.src.optimizers"  # what tensorflow/__init__.py imports at its end, if it can


class Model:
    """A loaded SavedModel.

    Attributes:
        folder: the version folder.
        name, version: from the folder, `<name>/<version>/`.
        signatures: by name.
        signature_def: the same as TensorFlow Serving's metadata answer prints them.
        platform: as the Open Inference Protocol calls the engine and the format.
        parallel: calls that are answered at once; where it is 1, requests share calls.
        is_quick: a call of one row takes no longer than to have another thread make it.
        plan: how many threads each of them has, in words, where that was measured.
    """

    platform = "tensorflow_savedmodel"
    parallel = 1
    is_quick = False
    plan: object = ""

    def __init__(self, folder: Path) -> None:
        """Load the version folder `folder`, or the highest version under `<name>/`. Takes seconds.

        Raises:
            Fault: the folder holds no SavedModel, or TensorFlow cannot load it.
        """
        self.folder = exported_model.newest(folder)
        import_without_keras()
        import tensorflow as tf  # a native library; without Keras, which takes seconds

        self._constant = tf.constant
        numbered = self.folder.name.isdecimal()
        self.name = self.folder.parent.name if numbered else self.folder.name
        self.version = int(self.folder.name) if numbered else 1
        signature_defs = definitions(self.folder)
        self.signature_def = {name: signature_json(definition) for name, definition in signature_defs.items()}
        self.signatures = {
            name: signature(name, definition)
            for name, definition in signature_defs.items()
            if not name.startswith(INTERNAL_PREFIX)
        }
        try:
            self._loaded = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as broken:
            reason = str(broken)[:300]
            raise Fault(f"model must load, got {reason} from {self.folder}; export it again") from broken

    def __call__(self, signature: str, tensors: Tensors) -> Tensors:
        """Call one signature. `tensors` must have the dtypes and shapes that its inputs state."""
        constants = {name: self._constant(tensor) for name, tensor in tensors.items()}
        outputs = self._loaded.signatures[signature](**constants)
        return {name: np.asarray(output.numpy()) for name, output in outputs.items()}

    def close(self) -> None:
        """End what answers calls beside their own threads: nothing."""


def import_without_keras() -> None:
    """Import TensorFlow, but not Keras behind it: 4 s and 165 MB that a SavedModel does not need.

    TensorFlow imports Keras's optimizers "if possible", for loading models that train. Whoever wants Keras later
    in the same process still gets it. Does nothing where either is there already.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return
    sys.modules[KERAS_HOOK] = None  # type: ignore[assignment] # makes its import fail
    try:
        with silent_libraries():
            import tensorflow  # noqa: F401  # a native library
    finally:
        del sys.modules[KERAS_HOOK]
