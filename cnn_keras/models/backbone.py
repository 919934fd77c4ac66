"""Networks of the catalogue as backbones: what detectors and segmenters stand on.

Their maps are tapped by stride, the pixels of the picture from one position of a map to the next; what comes behind the
last tap is left out.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras

from cnn_keras import models
from cnn_keras.errors import Fault


def feature_extractor(backbone: str, input_shape: Sequence[int | None], strides: Sequence[int]) -> keras.Model:
    """A network of the catalogue without its head: from `image` to its last map of each stride.

    Named stages are preferred – of VGG these are the pooled maps –; where a stride has none, it is the last layer of
    that size, which at stride 1 may be the picture itself. Two or three spatial axes.

    Args:
        backbone: name of a builder, for example resnet.resnet18.
        input_shape: sizes, which may be None, and channels.
        strides: of the maps, in the order of the outputs.

    Raises:
        Fault: when the network has no map of one of the strides.
    """
    known, network = _known(backbone, input_shape, 4 * max(strides))
    names = []
    for stride in strides:
        fitting = _maps(network, known, stride)
        if not fitting:
            raise Fault(f"backbone must have a map of stride {stride}, got {backbone}, which has none; take another")
        names.append(([name for name in fitting if re.fullmatch(r"stage\d+", name)] or fitting)[-1])
    if known != list(input_shape[:-1]):
        network = _built(backbone, input_shape)
    return keras.Model(network.input, [network.get_layer(name).output for name in names])


def strides(backbone: str, input_shape: Sequence[int | None], *, most: int = 32) -> list[int]:
    """The strides 1, 2, 4 and so on of which the backbone has maps, up to the first that it lacks."""
    known, network = _known(backbone, input_shape, 4 * most)
    strides_ = [1]
    while strides_[-1] < most and _maps(network, known, 2 * strides_[-1]):
        strides_.append(2 * strides_[-1])
    return strides_


def _known(backbone: str, input_shape: Sequence[int | None], side: int) -> tuple[list[int], keras.Model]:
    """Sizes, `side` where none is given, and the network for these."""
    *sizes, channels = input_shape
    known = [side if size is None else size for size in sizes]
    return known, _built(backbone, (*known, channels))


def _maps(network: keras.Model, sizes: Sequence[int], stride: int) -> list[str]:
    """The names of the layers whose maps are of this stride."""
    map_sizes = tuple(size // stride for size in sizes)
    return [layer.name for layer in network.layers if _map_size(layer, len(sizes)) == map_sizes]


def _built(backbone: str, input_shape: Sequence[int | None]) -> keras.Model:
    """The network with the smallest head that it can have: dense layers over a large map would fill the memory."""
    least: dict[str, Any] = {"hidden": 1} if "hidden" in models.signature(backbone).parameters else {}
    return models.build(backbone, input_shape=input_shape, classes=1, **least)


def _map_size(layer: keras.Layer, axes: int) -> tuple[int, ...] | None:
    shape = getattr(layer.output, "shape", ())
    return tuple(shape[1:-1]) if len(shape) == axes + 2 else None
