"""Published weights, and any file of weights, for the networks of `cnn_keras.models`.

`weights="imagenet"`, `"edges"` and `"coco"` are files of `cnn_keras.weights.catalog`, and anything else the path of a
file that `checkpoints` can read – or, by its name, one of Darknet's, `.weights` or `.conv.74`, for
`cnn_keras.weights.darknet_numbers`. Images go in as RGB, whatever a file was trained on: where that was BGR, the
channels of the first convolution are turned round. What they must be normalised by goes with the weights and is
`normalization`.
"""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.weights import catalog, checkpoints
from cnn_keras.weights.checkpoints import Checkpoint, Layer

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

DARKNET = re.compile(r"\.(weights|conv\.\d+)$")  # nothing but numbers is in such files, so that their names must tell
HEATMAP = "heatmap"  # the convolution that says CenterNet's classes
FIRST = {"conv1_1", "stem"}  # the first convolutions of our networks, and of no published file


def normalization(name: str, weights: str | Path = "imagenet") -> dict[str, Any] | None:
    """What images must be normalised by before a network with these weights.

    Args:
        name: of the builder.
        weights: "imagenet", "edges", "coco" or the path of a file.

    Returns:
        Arguments of keras.layers.Normalization – axis, mean, variance – for RGB images from 0 to 255; None for a file
        that does not say: our own `.weights.h5`, behind whatever it was trained.

    Raises:
        Fault: see `load`.
    """
    check(name, weights)
    if (path := _file(weights)) is None:
        return dict(catalog.published(name, str(weights)).normalization)
    if DARKNET.search(path.name):
        return {"axis": None, "mean": 0.0, "variance": 255.0**2}
    with checkpoints.open_checkpoint(path) as checkpoint:
        if checkpoint.normalization is not None or _is_ours(name, checkpoint):
            return checkpoint.normalization
    return dict(catalog.published(name).normalization)


def check(name: str, weights: str | Path) -> None:
    """Refuse weights that cannot be meant, without reading or downloading any.

    Raises:
        Fault: when none are published for this builder, or there is no such file.
    """
    if not isinstance(weights, str | os.PathLike):
        raise Fault(f"weights must be imagenet, edges, coco or the path of a file, got {weights!r}")
    if (path := _file(weights)) is None:
        catalog.published(name, str(weights))
    elif not path.is_file():
        raise Fault(f"weights must be imagenet or a file, got {weights}, which is none")


def load(network: "keras.Model", name: str, weights: str | Path = "imagenet", *, say: bool = True) -> tuple[str, ...]:
    """Copy weights into a network, layer by layer; what its own dense layers at the end cannot take stays fresh.

    Nothing is copied before every layer's shape has been compared. With another number of classes than the file's,
    `logits` stays as it is; where VGG's images have another size, so do all its dense layers. CenterNet's `heatmap`
    starts from the mean of the file's classes, which answers to an object of any class: without normalisation before
    it, small filters would take hundreds of steps to grow. A file of ours is matched by the names of the layers, any
    other by their order.

    Args:
        network: what the builder made.
        name: of the builder.
        weights: "imagenet", "edges" or "coco", see `cnn_keras.weights.catalog`, or the path of a file, see
        `cnn_keras.weights.checkpoints`.

        say: whether layers that stay fresh are logged; not where they are cut off anyway.

    Returns:
        The names of the layers that the file could not fill.

    Raises:
        Fault: nothing is published for this network, the file is damaged, missing or cannot be downloaded, or a layer
            of it does not fit.
    """
    check(name, weights)
    path = _file(weights) or catalog.locate(name, kind=str(weights), head=_head_fits(network))
    if DARKNET.search(path.name):
        from cnn_keras.weights import darknet_numbers  # start-up: it needs Keras

        fresh = darknet_numbers.read(network, path)
    else:
        with checkpoints.open_checkpoint(path) as checkpoint:
            if _file(weights) is None and (only := catalog.published(name, str(weights)).only):
                checkpoint = checkpoint._replace(layers=[layer for layer in checkpoint.layers if layer.kind == only])
            matched, fresh = _matched(network, name, checkpoint, path)
            _copy(matched, bgr=not _is_ours(name, checkpoint) and catalog.published(name).bgr)
            if fresh == (HEATMAP,) and (source := _named(checkpoint, HEATMAP)):
                _start_from_mean(network.get_layer(HEATMAP), source)
                log.info("%s: weights of %s, those of %s the mean of its classes", name, path.name, HEATMAP)
                return fresh
    if fresh and say:
        log.info("%s: weights of %s, but %s stay as initialised", name, path.name, ", ".join(fresh))
    return fresh


def _file(weights: str | Path) -> Path | None:
    return None if str(weights) in catalog.KINDS else Path(weights).expanduser()


def _is_ours(name: str, checkpoint: Checkpoint) -> bool:
    return name not in catalog.PUBLISHED or not FIRST.isdisjoint(layer.name for layer in checkpoint.layers)


def weighted(network: "keras.Model") -> list[Any]:
    """The layers of a network that have weights, in their order."""
    return [layer for layer in network.layers if layer.weights]


def _dense(targets: list[Any]) -> int:
    """Where the dense layers begin that the network ends with, or the convolution that says CenterNet's classes."""
    import keras  # start-up: names of weights are checked without it

    start = len(targets)
    if targets and targets[-1].name == HEATMAP:
        return start - 1
    while start and isinstance(targets[start - 1], keras.layers.Dense):
        start -= 1
    return start


def _head_fits(network: "keras.Model") -> bool:
    """Whether the first dense layer at the end is one of a thousand classes, or VGG's for images of 224×224."""
    targets = weighted(network)
    shapes = [tuple(layer.kernel.shape) for layer in targets[_dense(targets) :]]
    return bool(shapes) and (shapes[0][1] == 1000 if len(shapes) == 1 else shapes[0] == (25088, 4096))


def _matched(
    network: "keras.Model", name: str, checkpoint: Checkpoint, path: Path
) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    """Pairs of a layer and its weights in the file, and the names of the layers that stay fresh."""
    targets = weighted(network)
    ours = _is_ours(name, checkpoint)
    sources, surplus = (_by_name if ours else _by_order)(checkpoint.layers, targets)
    norms = {layer.name for layer in targets}
    for place, (source, target) in enumerate(zip(sources, targets, strict=True)):
        target_shapes = [tuple(weight.shape) for weight in target.weights]
        source_shapes = [tuple(weight.shape) for weight in source.weights] if source else []
        if source_shapes == target_shapes or (
            source_shapes[:-1] == target_shapes and not ours and f"{target.name}_norm" in norms
        ):
            continue
        if place >= _dense(targets) and not surplus:
            targets_ = targets[place:]
            return list(zip(targets[:place], sources[:place], strict=True)), tuple(layer.name for layer in targets_)
        raise Fault(
            f"weights must hold {target_shapes} for layer {target.name} of {name}, got "
            f"{f'{source_shapes} of {source.name}' if source else 'nothing'} in {path}; give the builder the arguments "
            f"that the weights were trained with, or name the weights of this network"
        )
    if surplus:
        raise Fault(f"weights must be those of {name}, got {path} with a layer {surplus[0]} that it lacks")
    return list(zip(targets, sources, strict=True)), ()


def _by_name(layers: list[Layer], targets: list[Any]) -> tuple[list[Layer | None], list[str]]:
    known = {layer.name: layer for layer in layers}
    names = [target.name for target in targets]
    return [known.get(name) for name in names], sorted(known.keys() - set(names))


def _by_order(layers: list[Layer], targets: list[Any]) -> tuple[list[Layer | None], list[str]]:
    """The next layer of the file for each target – of its kind, where the file knows an order among those alone."""
    left = list(layers)
    sources = []
    for target in targets:
        kind = type(target).__name__.lower()
        fitting = (layer for layer in left if layer.kind is None or layer.kind.replace("_", "") == kind)
        sources.append(next(fitting, None))
        if sources[-1]:
            left.remove(sources[-1])
    return sources, [layer.name for layer in left]


def _named(checkpoint: Checkpoint, name: str) -> Layer | None:
    return next((layer for layer in checkpoint.layers if layer.name == name), None)


def _start_from_mean(target: Any, source: Layer) -> None:
    """Each filter, and each bias, is the mean of those in the file."""
    for weight, values in zip(target.weights, source.weights, strict=True):
        weight.assign(np.broadcast_to(np.mean(values, axis=-1, keepdims=True), weight.shape))


def _copy(matched: list[tuple[Any, Layer]], *, bgr: bool) -> None:
    """One layer at a time in memory. A bias that ours lacks moves into the mean of the normalisation behind."""
    copies = {}
    for place, (target, source) in enumerate(matched):
        weights = [np.asarray(weight) for weight in source.weights]
        if len(weights) > len(target.weights):
            copies[f"{target.name}_norm"] = weights.pop()
        if target.name in copies:
            gamma, beta, mean, variance = weights
            weights = [gamma, beta, mean - copies.pop(target.name), variance]
        if bgr and place == 0:
            weights[0] = weights[0][:, :, ::-1]
        target.set_weights(weights)
