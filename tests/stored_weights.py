"""How much of a SavedModel is weights."""

import math
from pathlib import Path

import keras
import tensorflow as tf


def stored_bytes(saved: Path) -> int:
    """Bytes of all variables that a SavedModel holds."""
    reader = tf.train.load_checkpoint(str(saved / "variables" / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sum(kinds[name].size * math.prod(shape) for name, shape in shapes.items() if kinds[name] != tf.string)


def model_bytes(*models: Path) -> int:
    """Bytes of the weights of saved Keras models."""
    loaded = (keras.saving.load_model(path, compile=False) for path in models)
    return sum(weight.numpy().nbytes for model in loaded for weight in model.weights)
