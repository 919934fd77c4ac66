"""Dropout that stays on when a trained network answers: the mean of many thinned networks, and how much they differ.

Gal and Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning", 2016. How
much the thinned networks differ is the mutual information of the answer and the weights (Houlsby, Huszár, Ghahramani
and Lengyel, "Bayesian active learning for classification and preference learning", 2011): the entropy of their mean
less the mean of their entropies.

Differs from the paper, which draws anew for each example: here the thinned networks are the same for all examples
(Kirsch, van Amersfoort and Gal, "BatchBALD", 2019), so that an answer does not depend on what else is asked, nor on
when. What stands before the first dropout is computed once. Batch normalisation and all else is as in inference.
"""

from itertools import count as counting
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.errors import Fault


class Sampled(NamedTuple):
    """The answers to a batch.

    Attributes:
        probabilities: the mean of those of the thinned networks, float32 (batch, classes).
        mutual_information: how much they differ, float32 (batch,), in nats, at least 0.
        deviations: the standard deviations of the probabilities over the thinned networks, float32 (batch, classes).
    """

    probabilities: tf.Tensor
    mutual_information: tf.Tensor
    deviations: tf.Tensor


def require(model: keras.Model) -> None:
    """Raise a Fault unless a layer of the model, nested ones included, is a dropout."""
    if not any(_drops(operation) for operation in model._flatten_layers()):
        raise Fault(
            "model.builder must have layers of dropout for evaluate.dropout_samples, got none; some builders take "
            "model.dropout, a share"
        )


def samples(model: keras.Model, inputs: Any, *, count: int, seed: int = 0) -> Any:
    """What each of `count` thinned networks answers: a nest of tensors (batch, count, …).

    Args:
        model: functional or sequential, with dropout. Dropout is that of Keras's `Dropout` and `SpatialDropout`; other
            noise, such as `GaussianDropout`, is not drawn.
        inputs: a tensor (batch, …) as the model takes it, or a nest of them.
        seed: of what is dropped.
    """
    numbers = counting()
    repeated: set[Any] = set()  # references of tensors that have a row for each sample

    def repeat(value: Any) -> Any:
        return tf.repeat(value, count, axis=0) if tf.is_tensor(value) and value.ref() not in repeated else value

    def thinned(layer: keras.layers.Dropout, values: tf.Tensor) -> tf.Tensor:
        kept = _kept(layer, values.shape, count=count, seed=[seed, next(numbers)])
        rows = tf.reshape(values, [-1, *kept.shape[:1], *values.shape[1:]])
        return tf.reshape(rows * tf.cast(kept / (1 - layer.rate), values.dtype), [-1, *values.shape[1:]])

    def visit(operation: keras.Operation) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            tensors = [value for value in keras.tree.flatten((arguments, options)) if tf.is_tensor(value)]
            if isinstance(operation, keras.Model):
                return run(operation, tensors)
            drops = _drops(operation)
            if not drops and not any(value.ref() in repeated for value in tensors):
                return operation(*arguments, **options)
            arguments, options = keras.tree.map_structure(repeat, (arguments, options))
            outputs = thinned(operation, arguments[0]) if drops else operation(*arguments, **options)
            repeated.update(value.ref() for value in keras.tree.flatten(outputs))
            return outputs

        return call

    def run(network: keras.Model, tensors: list[tf.Tensor]) -> Any:
        graph = keras.Function(network.inputs, network.outputs)
        outputs = keras.tree.flatten(graph._run_through_graph(tensors, operation_fn=visit))
        return outputs[0] if len(outputs) == 1 else keras.tree.pack_sequence_as(network.output, outputs)

    outputs = run(model, [tf.convert_to_tensor(value) for value in keras.tree.flatten(inputs)])
    if not repeated:
        require(model)
    return keras.tree.map_structure(lambda values: tf.reshape(repeat(values), [-1, count, *values.shape[1:]]), outputs)


def sampled(model: keras.Model, inputs: Any, *, count: int, seed: int = 0) -> Sampled:
    """The answers of a model that gives logits (batch, classes); the arguments are those of `samples`."""
    shares = tf.nn.softmax(tf.cast(samples(model, inputs, count=count, seed=seed), tf.float32))
    mean = tf.reduce_mean(shares, axis=1)
    information = tf.maximum(_entropy(mean) - tf.reduce_mean(_entropy(shares), axis=1), 0)
    return Sampled(mean, information, tf.math.reduce_std(shares, axis=1))


def probabilities(model: keras.Model, inputs: Any, *, count: int, seed: int = 0) -> tf.Tensor:
    """`sampled(…).probabilities`."""
    return sampled(model, inputs, count=count, seed=seed).probabilities


def _drops(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Dropout) and operation.rate > 0


def _kept(layer: keras.layers.Dropout, shape: tf.TensorShape, *, count: int, seed: list[int]) -> np.ndarray:
    """What a layer keeps of its inputs (batch, *sizes, channels), bool (count, *sizes, channels) or 1 of a size."""
    sizes = list(shape[1:])
    if isinstance(layer, keras.layers.SpatialDropout1D | keras.layers.SpatialDropout2D | keras.layers.SpatialDropout3D):
        sizes = [1] * (len(sizes) - 1) + sizes[-1:]
    elif layer.noise_shape is not None:
        sizes = [given or own for own, given in zip(sizes, layer.noise_shape[1:], strict=True)]
    if None in sizes:
        raise Fault(f"the inputs of the dropout {layer.name} must be of a fixed size, got {tuple(shape)}")
    return np.random.default_rng(seed).random((count, *sizes)) >= layer.rate


def _entropy(shares: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(tf.math.xlogy(shares, shares), axis=-1)
