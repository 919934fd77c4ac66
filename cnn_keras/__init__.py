"""Nouns of convolutional networks: builders, layers, losses, data, in Keras and TensorFlow.

`import cnn_keras` is enough for `keras.models.load_model` to read every model that was made with it. Only the
application, whose commands are to answer before TensorFlow could be imported, calls `register` itself.
"""

import importlib
import importlib.metadata
import sys
from typing import Any

# What has layers, functions or schedules that saved models are made of.
REGISTERING: tuple[str, ...] = (
    "layers",
    "losses.embedding",
    "ops.roi",
    "schedules",
    "ops.yolo_head",
    "learn.dense_classifier",
)
REGISTERING += tuple(f"models.{family}" for family in ("centernet", "fcn", "mask_rcnn", "siamese", "stylize", "yolo"))


def __getattr__(name: str) -> Any:
    if name == "__version__":  # looked up when it is asked for: reading the metadata takes longer than the import
        return importlib.metadata.version("cnn-keras")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register() -> None:
    """Make Keras know whatever saved models may be made of; imports TensorFlow."""
    for name in REGISTERING:
        importlib.import_module(f"{__name__}.{name}")


if "pipelines" not in sys.modules:
    register()
