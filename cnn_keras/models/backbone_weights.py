"""Weights for the part of a network that is its backbone."""

from pathlib import Path

import keras

from cnn_keras import models
from cnn_keras.weights import pretrained

SIDE = 128  # pixels of the pictures of a network whose last layers are not wanted: as few as any can do with


def load_backbone(network: keras.Model, name: str, weights: str | Path = "imagenet") -> tuple[str, ...]:
    """Copy weights into the layers that a network has of another, its backbone's.

    Args:
        network: has layers of the backbone under their own names, in a model inside or else among its own layers.
        name: of the backbone's builder.
        weights: see `cnn_keras.weights.pretrained.load`.

    Returns:
        The names of the network's other layers with weights, which stay fresh.

    Raises:
        Fault: see `cnn_keras.weights.pretrained.load`.
    """
    backbone = models.build(name, input_shape=(SIDE, SIDE, 3), classes=1)
    pretrained.load(backbone, name, weights)
    shared, others = _shared(network, backbone)
    for layer in shared:
        layer.set_weights(backbone.get_layer(layer.name).get_weights())
    return others


def besides_backbone(network: keras.Model, name: str) -> tuple[str, ...]:
    """The names of a network's layers with weights that are not those of its backbone, made by this builder."""
    return _shared(network, models.build(name, input_shape=(SIDE, SIDE, 3), classes=1))[1]


def _shared(network: keras.Model, backbone: keras.Model) -> tuple[list[keras.Layer], tuple[str, ...]]:
    """The layers with weights that a network has of its backbone, and the names of its others."""
    names = {layer.name for layer in backbone.layers}
    inside = [layer for layer in network.layers if hasattr(layer, "layers")]
    shared = [layer for part in inside or [network] for layer in pretrained.weighted(part) if layer.name in names]
    return shared, tuple(layer.name for layer in pretrained.weighted(network) if layer not in [*inside, *shared])
