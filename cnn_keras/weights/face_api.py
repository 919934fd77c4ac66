"""The weights of face-api.js, as the npm package `@vladmandic/face-api` has them, read without TensorFlow.js.

A manifest, JSON, lists tensors by name, shape and type in the order in which they stand in a file of bytes. Quantised
ones are whole numbers of one or two bytes: value = number · scale + min. The networks that they belong to are those of
`cnn_keras.models.faceapi`, and `ssd_mobilenet_v1` of `cnn_keras.models.ssd`.
"""

import json
import math
import re
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.models import faceapi, ssd

DESCRIPTOR, LANDMARKS, DETECTOR = "face_recognition_model", "face_landmark_68_model", "ssd_mobilenetv1_model"
PREDICTED = {"offsets": "BoxEncodingPredictor", "logits": "ClassPredictor"}  # heads of the detector
STORED = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}
BROKEN = (ValueError, KeyError, TypeError, IndexError)  # of a manifest or bytes that are something else


def load(path: Path) -> tuple[keras.Model, keras.Model, str]:
    """The two networks with the weights of the package at `path`, and its licence's text.

    Args:
        path: the package as `npm pack` fetches it (.tgz), or the folder that it unpacks to, or that of its models.

    Returns:
        (descriptor, landmarks, licence): `keras.Model`s from images of 0 to 255 less MEAN, over 255, see
        `cnn_keras.models.faceapi`, and a string, empty where there is no licence.

    Raises:
        Fault: nothing is there, or it is not the package, or damaged (code DATA).
    """
    read = opened(path, "@vladmandic/face-api")
    networks = faceapi.descriptor(), faceapi.landmarks()
    for network, name, weights in zip(networks, (DESCRIPTOR, LANDMARKS), (_residual, _separable), strict=True):
        fill(network, f"{name} in {path}", tensors(read, name), weights)
    return *networks, licence(read)


def load_detector(path: Path) -> keras.Model:
    """`ssd.ssd_mobilenet_v1` with the weights of the package at `path`, as of `load`: a detector of faces.

    Of an anchor's three scores in the file – background, face and one that is never read – it has the second.

    Raises:
        Fault: as of `load`, or its anchors are not those of `ssd.anchors` (code DATA).
    """
    arrays = tensors(opened(path, "@vladmandic/face-api"), DETECTOR)
    network = ssd.ssd_mobilenet_v1()
    fill(network, f"{DETECTOR} in {path}", arrays, _single_shot)
    stored = arrays.get("Output/extra_dim", np.zeros(4)).reshape(-1, 4)[:, [1, 0, 3, 2]]
    if stored.shape != (known := ssd.anchors()).shape or np.abs(stored - known).max() > 1e-5:
        raise Fault(f"{DETECTOR} in {path} must have the anchors of ssd.anchors, got others", code=Fault.DATA)
    return network


def fill(
    network: keras.Model,
    name: str,
    arrays: Mapping[str, np.ndarray],
    weights: Callable[[str, Mapping[str, np.ndarray]], list[np.ndarray]],
) -> None:
    """Set the weights of every layer of a network to what `weights` gives for its name.

    Args:
        name: of the file, for the message.

    Raises:
        Fault: they do not fit.
    """
    for layer in network.layers:
        if layer.weights:
            try:
                layer.set_weights(weights(layer.name, arrays))
            except BROKEN as error:
                raise Fault(f"{name} must fit {network.name}, not {layer.name}: {error}") from None


def tensors(read: Callable[[str], bytes], name: str) -> dict[str, np.ndarray]:
    """The tensors of a model, float32, by their names.

    Args:
        read: gives the bytes of a file by its name, or raises FileNotFoundError.
        name: of the model, such as "face_recognition_model".

    Raises:
        Fault: a file is missing, or not what the manifest says (code DATA).
    """
    manifest = f"{name}-weights_manifest.json"
    try:
        return unpacked(json.loads(read(manifest)), read)
    except FileNotFoundError as error:
        raise Fault(
            f"PATH must be the npm package @vladmandic/face-api, as `npm pack @vladmandic/face-api` fetches it, or its "
            f"folder; it lacks {error}"
        ) from None
    except (*BROKEN, AttributeError) as error:
        raise Fault(f"{manifest} and its weights must be whole: {error}", code=Fault.DATA) from None


def unpacked(groups: Sequence[Mapping[str, Any]], read: Callable[[str], bytes]) -> dict[str, np.ndarray]:
    """The tensors that a manifest of TensorFlow.js lists, float32, by their names.

    Raises:
        One of BROKEN: the bytes are not what the manifest says; or FileNotFoundError.
    """
    arrays = {}
    for group in groups:
        data, start = b"".join(read(part) for part in group["paths"]), 0
        for entry in group["weights"]:
            arrays[entry["name"]], start = _tensor(entry, data, start)
        if start != len(data):
            raise ValueError(f"{len(data):,} bytes, of which the manifest knows {start:,}")
    return arrays


def _tensor(entry: Mapping[str, Any], data: bytes, start: int) -> tuple[np.ndarray, int]:
    """One tensor of the bytes from `start`, and where the next one begins."""
    quantised = entry.get("quantization", {})
    kind = np.dtype(STORED[quantised.get("dtype", entry["dtype"])])
    count = math.prod(entry["shape"])
    values = np.frombuffer(data, kind, count, start).astype(np.float32).reshape(entry["shape"])
    if "scale" in quantised:
        values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
    return values, start + count * kind.itemsize


def _residual(layer: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Weights of a layer of `descriptor`. Behind a convolution with bias b, γ · (x + b) + β is γ · (x - (-b)) + β."""
    if layer == "logits":
        return [arrays["fc"]]
    name = re.sub(r"_(conv\d)", r"/\1", layer)
    if not name.endswith("_norm"):
        return [arrays[f"{name}/conv/filters"]]
    name = name.removesuffix("_norm")
    bias, scale, shift = (arrays[f"{name}/{part}"] for part in ("conv/bias", "scale/weights", "scale/biases"))
    return [scale, shift, -bias, np.full_like(bias, 1 - 1e-5)]  # to which the layer adds its epsilon


def _separable(layer: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Weights of a layer of `landmarks`."""
    if layer == "logits":
        return [arrays["fc/weights"], arrays["fc/bias"]]
    name = layer.replace("_", "/")
    plain = ("filters", "bias")
    parts = plain if f"{name}/filters" in arrays else ("depthwise_filter", "pointwise_filter", "bias")
    return [arrays[f"{name}/{part}"] for part in parts]


def _single_shot(layer: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Weights of a layer of `ssd.ssd_mobilenet_v1`. Boxes are stored as y, x, height and width; ours begin with x."""
    kind, number, rest = re.fullmatch(r"([a-z]+)(\d+)(.*)", layer).groups()  # type: ignore[union-attr]
    if kind in PREDICTED:
        name = f"Prediction/BoxPredictor_{number}/{PREDICTED[kind]}"
        return [_columns(arrays[f"{name}/{part}"], kind) for part in ("weights", "biases")]
    name = f"{'Prediction' if kind == 'extra' else 'MobilenetV1'}/Conv2d_{number}"
    if rest == "_norm":
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        return [arrays[f"{name}_depthwise/BatchNorm/{part}"] for part in parts]
    if rest == "_depthwise":
        return [arrays[f"{name}_depthwise/depthwise_weights"]]
    return [arrays[f"{name}_pointwise/{part}"] for part in ("weights", "convolution_bn_offset")]


def _columns(values: np.ndarray, kind: str) -> np.ndarray:
    """What a head computes of each anchor, in our order."""
    order, count = ([1, 0, 3, 2], 4) if kind == "offsets" else ([1], 3)
    rows: np.ndarray = values.reshape(*values.shape[:-1], -1, count)[..., order]
    return rows.reshape(*values.shape[:-1], -1)


def licence(read: Callable[[str], bytes]) -> str:
    """The text of a package's licence; empty where there is none."""
    try:
        return read("LICENSE").decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def opened(path: Path, package: str) -> Callable[[str], bytes]:
    """What reads the files of an npm package by their names, whatever folder they stand in.

    Raises:
        Fault: nothing is there, or a damaged archive (code DATA).
    """
    if path.is_dir():
        inside = ("", "model", "models", "package", "package/model", "package/models", "..")
        folders = [path / folder for folder in inside]

        def read(name: str) -> bytes:
            file = next((folder / name for folder in folders if (folder / name).is_file()), None)
            if file is None:
                raise FileNotFoundError(name)
            return file.read_bytes()

        return read
    if not path.is_file():
        raise Fault(f"PATH must be the npm package {package}, a .tgz or a folder, got {path}, which is none")
    try:
        with tarfile.open(path) as archive:
            files = {
                Path(member.name).name: file.read()
                for member in archive
                if member.isfile() and member.name.count("/") <= 2 and member.size < 2**25
                if (file := archive.extractfile(member)) is not None
            }
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise Fault(f"PATH must be a whole .tgz, got {path}: {error}", code=Fault.DATA) from None

    def member(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    return member
