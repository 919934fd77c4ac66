"""The one door to tensorflow-addons 0.23 on Keras 3: `addons.losses` and `addons.image`, loaded at first use.

The package was built for Keras 2 and `import tensorflow_addons` fails here. Its losses and image operations
need only one thing that Keras 3 lacks, a module that names the symbolic tensor class. So the door supplies
that module and enters the sub-packages without running the package's `__init__`, which would import the parts
that fail and would warn that the package has reached its end of life. Nothing inside the package is patched.

Works, also inside `compile`/`fit` and tf.data, the losses under `jit_compile=True`:
    losses: ContrastiveLoss, SigmoidFocalCrossEntropy, TripletHardLoss, TripletSemiHardLoss
    image: dense_image_warp, random_cutout, rotate, shear_x and shear_y (one uint8 image), sparse_image_warp,
        transform, translate
Does not work:
    losses.GIoULoss and losses.PinballLoss, which name a reduction that Keras 3 has dropped
    image.resampler, connected_components, euclidean_dist_transform: kernels compiled for TensorFlow 2.15
    the sub-packages layers, metrics, optimizers, rnn and seq2seq, which this module does not offer
"""

import importlib
import importlib.util
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import keras

OFFERED = ("image", "losses")


def __getattr__(name: str) -> ModuleType:
    if name not in OFFERED:
        raise AttributeError(f"cnn_keras.addons offers {' and '.join(OFFERED)}, not {name!r}")
    if "tensorflow_addons" not in sys.modules:
        _open()
    return importlib.import_module(f"tensorflow_addons.{name}")


def _open() -> None:
    """Put the missing Keras module and an empty package in place, so that sub-packages can be imported."""
    os.environ["TF_ADDONS_PY_OPS"] = "1"  # the compiled kernels do not fit this TensorFlow
    engine: Any = ModuleType("keras.src.engine")
    engine.keras_tensor = SimpleNamespace(KerasTensor=keras.KerasTensor)
    sys.modules[engine.__name__] = engine

    spec: Any = importlib.util.find_spec("tensorflow_addons")
    package: Any = ModuleType("tensorflow_addons")
    package.__path__ = spec.submodule_search_locations
    sys.modules[package.__name__] = package
