"""Heat maps of an answer from the maps inside the network: Grad-CAM of any score, and VisualBackProp.

Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: visual explanations from deep networks via
gradient-based localization", 2017; where a network ends in global average pooling and one dense layer it is the class
activation map of Zhou, Khosla, Lapedriza, Oliva and Torralba, 2016. Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM:
exploring hierarchical class activation maps for localization", 2021. Vinogradova, Dibrov and Myers, "Towards
interpretable semantic segmentation via gradient-weighted class activation mapping", 2020: Seg-Grad-CAM. Bojarski et
al., "VisualBackProp: efficient visualization of CNNs", 2016, made for PilotNet.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.learn.visualization.layer_selection import feature_layers, grad_cam_layer, spatial_layers, spatial_row
from cnn_keras.learn.visualization.taps import feature_maps, require_logits, run_layers


def class_logit(outputs: Any, classes: tf.Tensor) -> tf.Tensor:
    """A target of `grad_cam`: the logit, float32 (batch,), of the class of each image, integers (batch,)."""
    logits = outputs["logits"] if isinstance(outputs, dict) else tf.nest.flatten(outputs)[0]
    return tf.gather(logits, tf.cast(classes, tf.int32), axis=1, batch_dims=1)


def mask_logits(outputs: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """A target of `grad_cam`, Seg-Grad-CAM's: the logits of a class, summed over the places where it is the likeliest.

    Args:
        outputs: logits (batch, *sizes, classes).
        classes: integers (batch,).
    """
    classes = tf.cast(classes, tf.int32)
    is_likeliest = tf.argmax(outputs, axis=-1, output_type=tf.int32) == tf.reshape(
        classes, [-1, *[1] * (len(outputs.shape) - 2)]
    )
    own = tf.gather(outputs, classes, axis=-1, batch_dims=1)
    return tf.reduce_sum(tf.where(is_likeliest, own, 0), axis=range(1, len(outputs.shape) - 1))


def grad_cam(
    model: keras.Model,
    inputs: Any,
    target: Callable[..., tf.Tensor],
    *arguments: Any,
    layer: str | None = None,
    pooled: bool = True,
) -> np.ndarray:
    """Where the evidence for a score lies: float32 (examples, *sizes), at least 0, in units of the score.

    The maps of a layer, each weighted by the mean of the score's gradient over it, summed, and cut at 0 (equations 1
    and 2 of the paper). Divided by nothing: whoever draws it scales it.

    Differs from the paper, which stretches the map over the image: here each value lies at the middle of its unit's
    receptive field – of its own windows, where a gate over the whole image is before it –, and between them it is
    interpolated. Networks padded alike at both ends hardly show it.

    Args:
        inputs: (examples, *sizes, channels), of one to three sizes, as the model takes them, or all that it takes by
            name: the map is of the first with the most axes.
        target: the model's outputs, float32, and a batch of each of `arguments` to the score of each example, (batch,),
            by operations that have a gradient: `class_logit` takes the classes.
        arguments: arrays of as many rows as there are examples.
        layer: name of a layer with positions; None takes `grad_cam_layer`.
        pooled: False weights each position by its own gradient where that is positive, which is LayerCAM: the mean of
            Grad-CAM shows all things that look like the one whose score it is.

    Raises:
        Fault: no such layer; the score does not depend on it.
    """
    flat = [np.asarray(values) for values in tf.nest.flatten(inputs)]
    shape = max((values.shape[1:] for values in flat), key=len)
    row = spatial_row(model, layer or grad_cam_layer(model, input_shape=shape), shape)
    if target is class_logit:
        require_logits(model)

    def evidence(examples: Any, *batch_arguments: Any) -> tf.Tensor:
        examples = [tf.cast(each, tf.float32) for each in tf.nest.flatten(examples)]
        with tf.GradientTape() as tape:
            tape.watch(examples)
            outputs_by_path: dict[str, tf.Tensor] = {}
            outputs = keras.tree.flatten(run_layers(model, examples, outputs_by_path, {}))
            outputs = [tf.cast(each, tf.float32) if each.dtype.is_floating else each for each in outputs]
            score = target(keras.tree.pack_sequence_as(model.output, outputs), *batch_arguments)
        maps = outputs_by_path[row.name]
        gradients = tape.gradient(score, maps)
        if gradients is None:
            raise Fault(f"layer must be one that the score depends on, got {layer or row.name}; take one before")
        weights = tf.reduce_mean(gradients, axis=range(1, len(maps.shape) - 1), keepdims=True)
        return tf.nn.relu(tf.reduce_sum((weights if pooled else tf.nn.relu(gradients)) * maps, axis=-1))

    size = inference.batch_limit(model, input_shape=shape)
    heat = inference.predict_in_batches(inference.compiled(evidence), inputs, *map(np.asarray, arguments), size=size)
    for axis, length in enumerate(shape[:-1]):  # each in its turn is the second, and becomes the last
        heat = np.tensordot(heat, _placement(row, axis, length), axes=(1, 1))
    return heat.astype(np.float32)


def visual_backprop(model: keras.Model, images: np.ndarray, *, layers: Sequence[str] | None = None) -> np.ndarray:
    """Where a network of any answer looks: float32 (images, height, width), the largest value of each image 1.

    Maps behind non-linearities, averaged over their channels, are multiplied from the deepest to the first: what is
    bright in all of them is relevant, and as sharp as the first layer. No gradient is taken.

    Differs from the paper, which brings each map to the size of the one before by a transposed convolution of ones:
    here its values lie at the middles of their units' receptive fields and are interpolated. Beyond the outermost they
    go on – the last of PilotNet's maps has one row –, but those of the first map end there.

    Args:
        images: (images, height, width, channels), as the model takes them.
        layers: names of layers with positions; None takes those of `feature_layers` that have several.
    """
    shape = images.shape[1:]
    rows = spatial_layers(model, input_shape=shape)
    names = layers or [
        name for name in feature_layers(model, input_shape=shape) if max(rows[name].output_shape[:2]) > 1
    ]
    relevance = np.ones(images.shape[:3], np.float64)
    for number, name in enumerate(names):
        averaged, row = feature_maps(model, images, name).mean(axis=-1), spatial_row(model, name, shape)
        down, across = (_placement(row, axis, shape[axis], ends=number == 0) for axis in (0, 1))
        heat = np.einsum("yi,nij,xj->nyx", down, np.maximum(averaged, 0), across)
        relevance *= heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)
    return (relevance / np.maximum(relevance.max(axis=(1, 2), keepdims=True), 1e-300)).astype(np.float32)


def _placement(row: model_profile.Row, axis: int, size: int, *, ends: bool = True) -> np.ndarray:
    """Weights (pixels, positions) that interpolate from the middles of the units' fields to the pixels of an axis.

    Half a jump outside the outermost middles they begin to fall to 0, a jump further they are there; or never.
    """
    positions, jump = row.output_shape[axis], row.jump[axis]
    middles = row.middle[axis] + jump * np.arange(positions)
    points = [
        middles[0] - 1.5 * jump,
        middles[0] - jump / 2,
        *middles,
        middles[-1] + jump / 2,
        middles[-1] + 1.5 * jump,
    ]
    values = [[(not ends) * unit[0], unit[0], *unit, unit[-1], (not ends) * unit[-1]] for unit in np.eye(positions)]
    return np.stack([np.interp(np.arange(size), points, value) for value in values], axis=1)
