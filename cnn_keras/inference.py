"""Asking a trained model: in a graph, and about no more examples at once than memory bears.

A Keras model that is called outside of a graph keeps what each of its layers answers until the last one has: for 64
images of 224×224 EfficientNet-Lite0 takes 5 GB. A graph lets go of what nobody needs any more, and holds a twentieth to
a third of that at one time – a third where a gradient is taken.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.learn import model_profile

MEMORY = 2**31  # bytes of activations, of all layers together, up to which examples are asked about at once
MOST = 128  # examples at once, however small they are


def batch_limit(model: keras.Model, *, looks: int = 1, input_shape: Sequence[int] | None = None) -> int:
    """About how many examples a model may be asked at once.

    Args:
        model: functional or sequential.
        looks: how often it is asked about each example, such as about many crops of it.
        input_shape: sizes without the batch axis, for a model that leaves some of its own open.
    """
    activations = model_profile.totals(model_profile.rows(model, input_shape=input_shape)).activation_bytes
    return max(1, min(MOST, MEMORY // (looks * activations)))


def predictor(model: keras.Model, answer: Callable[..., Any] | None = None, *, looks: int = 1) -> Callable[..., Any]:
    """What asks a model about any number of examples, and gives NumPy arrays.

    Args:
        model: functional or sequential, of an input of known size.
        answer: what is to be said of a batch of examples by asking the model, a nest of tensors with as many rows; None
            takes the model's own outputs. It may take several nests of tensors, all with a row for each example.
        looks: how often `answer` asks the model about each example.
    """
    ask, size = compiled(answer or partial(model, training=False)), batch_limit(model, looks=looks)
    return lambda *examples: predict_in_batches(ask, *examples, size=size)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of batches as a graph that is traced once, whatever the number of rows."""
    graph = tf.function(function, autograph=False)

    def ask(*examples: Any) -> Any:
        tensors = tf.nest.map_structure(tf.convert_to_tensor, examples)
        kinds = tf.nest.map_structure(lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype), tensors)
        return graph.get_concrete_function(*kinds)(*tensors)

    return ask


def predict_in_batches(function: Callable[..., Any], *examples: Any, size: int) -> Any:
    """What a function says of examples, asked about `size` rows at a time: a nest of NumPy arrays.

    Args:
        function: nests of tensors to a nest of tensors, all of as many rows.
        examples: its arguments: nests of arrays or tensors with a row for each example.
    """
    count = len(tf.nest.flatten(examples)[0])
    parts = []
    for start in range(0, max(count, 1), size):
        batch = tf.nest.map_structure(lambda rows, start=start: rows[start : start + size], examples)
        parts.append(tf.nest.map_structure(np.asarray, function(*batch)))
    return tf.nest.map_structure(lambda *rows: np.concatenate(rows), *parts)
