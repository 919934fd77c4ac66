"""The outputs of the layers of a network, also of those in nested models: the model is run layer by layer."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.learn.visualization.layer_selection import (
    RECTIFIERS,
    is_non_linear,
    layer_row,
    logits_layer,
    operations,
    spatial_row,
)


def feature_maps(model: keras.Model, images: np.ndarray, layer: str) -> np.ndarray:
    """What the layer's units answer at each position: float32 (images, height, width, units).

    Args:
        images: (images, height, width, channels), as the model takes them.
        layer: name of a layer with positions.
    """
    row = spatial_row(model, layer, images.shape[1:])
    tapped = compile_for(tap(model, row.name), images.shape[1:])
    return inference.predict_in_batches(
        tapped, images, size=inference.batch_limit(model, input_shape=images.shape[1:])
    )[0]


def tap(model: keras.Model, path: str | None = None, *, linear: bool = False) -> Callable[[tf.Tensor], Any]:
    """A function from float32 images to (the outputs of the layer at `path`, the model's), or to the model's alone.

    With `linear`, outputs are those before the layer's own non-linearity.
    """

    main = layer_row(model, logits_layer(model)).name if len(model.outputs) > 1 else None
    twin = {path: _linear_twin(operations(model)[path])} if linear and path is not None else {}

    def tapped(images: tf.Tensor) -> Any:
        outputs_by_path: dict[str, tf.Tensor] = {}
        outputs = run_layers(model, [images], outputs_by_path, twin)
        answer = outputs_by_path[main] if main else tf.cast(keras.tree.flatten(outputs)[0], tf.float32)
        return answer if path is None else (outputs_by_path[path], answer)

    return tapped


def compile_for(function: Callable[..., Any], shape: Sequence[int], *further: Any) -> Callable[..., Any]:
    """The function of images of this shape, and of what else it takes, as a graph that is traced once."""
    traced = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec((None, *shape), tf.float32), *further
    )
    return lambda images, *others: traced(tf.cast(images, tf.float32), *map(tf.constant, others))


def run_layers(
    model: keras.Model,
    inputs: list[tf.Tensor],
    outputs_by_path: dict[str, tf.Tensor],
    twins: dict[str, keras.Operation],
    prefix: str = "",
) -> Any:
    """The model's outputs; those of every layer, nested ones as well, go into `outputs_by_path`.

    What is left is in single precision, and what goes on is made of it, so that a gradient reaches it whatever the
    layers compute in. A layer that has a twin leaves what that answers instead. The layers are called one by one, so
    that images of floats pass where the model takes integers, and with them a gradient. `_run_through_graph` is the
    seam that `cnn_keras.learn.model_profile` explains.
    """

    def visit(operation: keras.Operation) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            path = prefix + operation.name
            if isinstance(operation, keras.Model):
                tensors = [value for value in keras.tree.flatten((arguments, options)) if tf.is_tensor(value)]
                return run_layers(operation, tensors, outputs_by_path, twins, f"{path}/")
            outputs = operation(*arguments, **options)
            first, *others = keras.tree.flatten(outputs)
            single = tf.cast(first, tf.float32)
            outputs_by_path[path] = tf.cast(twins[path](*arguments), tf.float32) if path in twins else single
            return keras.tree.pack_sequence_as(outputs, [tf.cast(single, first.dtype), *others])

        return call

    return keras.Function(model.inputs, model.outputs)._run_through_graph(inputs, operation_fn=visit)


def require_logits(model: keras.Model) -> None:
    """Raise a Fault where the model ends in a softmax."""
    last = keras.Function(model.inputs, model.outputs).operations[-1]
    if isinstance(last, layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax:
        raise Fault(f"model must answer with logits, got a softmax in {last.name}; take the layer before it")


def batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The rows of an array (rows, …) in parts (size, …), the last of what is left."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _linear_twin(layer: keras.Operation) -> keras.Operation:
    """A twin of the layer that answers what it would without its non-linearity."""
    if isinstance(layer, (*RECTIFIERS, layers.Activation)):
        return layers.Identity()
    if not is_non_linear(layer):
        return layer
    twin = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    twin.build(layer.input.shape)
    twin.set_weights(layer.get_weights())
    return twin
