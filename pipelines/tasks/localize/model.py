"""The network of a localizer: a backbone behind its normalisation, and a head for one thing in a picture."""

from typing import Any

import keras

from cnn_keras import models
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import localize
from cnn_keras.weights import pretrained


def check(recipe: Any) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    composed = augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix images, because each shows one object; leave out mixup, cutmix and mosaic")
    shape = (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": recipe.head.hidden, **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)
    assemble(recipe, {"classes": ["thing"], "landmarks": []})
    keras.utils.clear_session()


def assemble(recipe: Any, data: dict[str, Any]) -> keras.Model:
    """The network of the recipe from pixels: `image`, uint8 (batch, *data.size, 3), 0–255, to y."""
    builder, weights, head = recipe.model.builder, recipe.model.weights, recipe.head
    shape = (*recipe.data.size, recipe.data.channels)
    backbone = models.build(builder, input_shape=shape, classes=head.hidden, **recipe.model.arguments)
    if weights:
        pretrained.load(backbone, builder, weights)
    layers = {"filters": head.filters, "hidden": head.hidden, "dropout": head.dropout}
    network = localize.localizer(backbone, classes=len(data["classes"]), landmarks=len(data["landmarks"]), **layers)
    entry = keras.Input(shape, dtype="uint8", name="image")
    normalization = (weights and pretrained.normalization(builder, weights)) or {"mean": 127.5, "variance": 127.5**2}
    normalized = keras.layers.Normalization(**{"axis": None, **normalization}, name="normalization")(entry)
    return keras.Model(entry, network(normalized), name=recipe.name)
