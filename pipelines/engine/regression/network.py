"""The network behind its normalisation, and what can be said against a recipe of it before data is read."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from cnn_keras import models
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.weights import pretrained

Crop = tuple[int, int]  # rows at the top and at the bottom that a network does not see


def check(
    recipe: Any,
    outputs: int,
    assembled: Callable[[Any], keras.Model],
    *,
    noun: str,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Raise a Fault for anything wrong that only the library can tell.

    Args:
        noun: what an image has one of.
        more: arguments of the builder beside those of the recipe.
    """
    composed = augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    if composed is not None and composed.mixes:
        raise Fault(f"augment must not mix images, because each has one {noun}; leave out mixup, cutmix and mosaic")
    shape = (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": outputs, **(more or {}), **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)
    assembled(recipe)
    keras.utils.clear_session()


def assemble(
    recipe: Any, outputs: int, *, crop: Crop | None = None, more: Mapping[str, Any] | None = None
) -> keras.Model:
    """The network of the recipe from pixels: `image`, uint8 (batch, *data.size, channels), 0–255, to its numbers.

    Other inputs of the builder's network than its first are those of this one too, as they are. `more` are arguments of
    the builder beside those of the recipe.

    Raises:
        Fault: the crop leaves nothing, or what the builder refuses.
    """
    builder, weights, (top, bottom) = recipe.model.builder, recipe.model.weights, crop or (0, 0)
    height, width = recipe.data.size
    if top + bottom >= height:
        raise Fault(f"model.crop must keep some of the {height} rows of data.size, got {top} and {bottom}")
    visible_shape = (height - top - bottom, width, recipe.data.channels)
    arguments = {**(more or {}), **recipe.model.arguments}
    network = models.build(builder, input_shape=visible_shape, classes=outputs, **arguments)
    if weights:
        pretrained.load(network, builder, weights)
    normalization = (weights and pretrained.normalization(builder, weights)) or {"mean": 127.5, "variance": 127.5**2}
    entry = keras.Input((height, width, recipe.data.channels), dtype="uint8", name="image")
    x = entry if crop is None else keras.layers.Cropping2D((crop, (0, 0)), name="crop")(entry)
    x = keras.layers.Normalization(**{"axis": None, **normalization}, name="normalization")(x)
    others = [keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs[1:]]
    if not others:
        return keras.Model(entry, network(x), name=recipe.name)
    return keras.Model([entry, *others], network([x, *others]), name=recipe.name)
