"""Files of weights, whoever wrote them, layer by layer: without the framework, and without the model they belong to.

A file is recognised by its content, whatever its name:

- `.weights.h5` and `.keras` of Keras 3;
- `.h5` of Keras 1 and 2, weights alone or a whole model: the files of `keras.applications`;
- `.pth` of PyTorch, a mapping of names to tensors, in the zip format or the one before it.

Reading never runs what a file brings along: a pickle that names anything but tensors is refused. A `.keras` file and a
`.pth` file are archives with check sums; HDF5 has none, so our own files of weights carry one as an attribute.
"""

import hashlib
import json
import pickle
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.weights import torch_tensors

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
CHECKSUM = "sha256"  # the attribute with the digest of everything else in an HDF5 file
# What PyTorch calls the parts of a layer, in Keras' order.
TORCH_PARTS = ("weight", "bias", "running_mean", "running_var")
# What damaged files make their readers raise.
MALFORMED = (OSError, ValueError, LookupError, EOFError, TypeError, AttributeError, ImportError, RuntimeError)


class Layer(NamedTuple):
    """One layer's weights as Keras shapes them; each is an array or is read from the file when it is made one."""

    name: str
    weights: list[Any]
    kind: str | None = None  # conv2d, dense …: a file of Keras 3 has an order only among layers of one kind


class Checkpoint(NamedTuple):
    """What a file holds: layers with weights, in the order of the graph unless they have a kind."""

    layers: list[Layer]
    normalization: dict[str, Any] | None = None  # axis, mean and variance, where a `.keras` file has such a layer


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """The weights in the file at `path`, while it is open.

    Raises:
        Fault: no such file, none of the formats, cut off, or one that wants to run something.
    """
    with ExitStack() as stack:
        try:
            checkpoint = _recognised(stack.enter_context(path.open("rb")), stack)
        except (FileNotFoundError, IsADirectoryError):
            raise Fault(f"weights must be imagenet or a file, got {path}, which is none") from None
        except (*MALFORMED, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            reason = str(error).strip("'\"") or type(error).__name__
            raise Fault(
                f"weights must be a whole .weights.h5, .keras, .h5 or .pth file, got {path}: {reason}; if it was "
                f"downloaded, delete it and download it again",
                code=Fault.DATA,
            ) from None
        yield checkpoint


def add_checksum(path: Path) -> None:
    """Write into a `.weights.h5` file the digest of its content, by which damage is found when it is read."""
    with _hdf5(path, "r+") as root:
        root.attrs[CHECKSUM] = _digest(root)


def check(path: Path) -> None:
    """Raise a Fault unless the file can be read and its content is what its check sum says, if it has one."""
    with open_checkpoint(path):
        pass


def _digest(root: Any) -> str:
    sha = hashlib.sha256()

    def visit(name: str, item: Any) -> None:
        sha.update(name.encode())
        if hasattr(item, "shape"):
            sha.update(f"{item.dtype}{item.shape}".encode() + item[()].tobytes())

    root.visititems(visit)
    return sha.hexdigest()


def _recognised(file: IO[bytes], stack: ExitStack) -> Checkpoint:
    """The checkpoint in an open file; what must stay open as long as it is used goes onto the stack."""
    start = file.read(8)
    file.seek(0)
    if start == HDF5:
        return Checkpoint(_keras_layers(stack.enter_context(_hdf5(file))))
    if start.startswith(PICKLE):
        return Checkpoint(_torch_layers(torch_tensors.read_legacy(file.read())))
    if not start.startswith(ZIP):
        raise ValueError("it is none of these")
    archive = stack.enter_context(zipfile.ZipFile(file))
    names = archive.namelist()
    if "model.weights.h5" in names:
        config = json.loads(archive.read("config.json"))
        return Checkpoint(
            _keras_layers(stack.enter_context(_hdf5(_unpacked(archive, "model.weights.h5", stack)))), _fixed(config)
        )
    if any(name.endswith("/data.pkl") for name in names):
        return Checkpoint(_torch_layers(torch_tensors.read_zip(archive)))
    raise ValueError("it is an archive of something else")


# Keras


def _hdf5(file: IO[bytes] | Path, mode: str = "r") -> Any:
    import h5py  # start-up: names of weights are checked without it

    return h5py.File(file, mode)


def _unpacked(archive: zipfile.ZipFile, name: str, stack: ExitStack) -> IO[bytes]:
    """A member on the disk: HDF5 jumps to and fro, which an archive makes slow, and memory is for the model."""
    whole = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    with archive.open(name) as member:
        shutil.copyfileobj(member, whole)
    return whole


def _keras_layers(root: Any) -> list[Layer]:
    """Layers of an HDF5 file: Keras 3 numbers the variables of each, older ones list the names of all."""
    if CHECKSUM in root.attrs and root.attrs[CHECKSUM] != _digest(root):
        raise ValueError("its content is not what its check sum says")
    group = root.get("model_weights", root)
    if "layer_names" in group.attrs or "layer_names0" in group.attrs:
        layers = [(name, group[name], _names(group[name], "weight_names")) for name in _names(group, "layer_names")]
        return [Layer(name, [layer[part] for part in parts]) for name, layer, parts in layers if parts]
    layers_ = []

    def visit(path: str, item: Any) -> None:
        *owners, last = path.split("/")
        if last == "vars" and owners and len(item) and not {"optimizer", "seed_generator"} & set(owners):
            order = [_numbered(owner) for owner in owners]
            weights = [item[str(place)] for place in range(len(item))]
            layers_.append((order, Layer(item.attrs.get("name", owners[-1]), weights, order[-1][0])))

    root.visititems(visit)
    if not layers_:
        raise ValueError("it holds no weights")
    return [layer for _, layer in sorted(layers_, key=lambda entry: entry[0])]


def _numbered(name: str) -> tuple[str, int]:
    """conv2d_12 → (conv2d, 12), conv2d → (conv2d, 0)."""
    [(kind, number)] = re.findall(r"\A(.*?)(?:_(\d+))?\Z", name)
    return kind, int(number or 0)


def _names(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras cuts into numbered attributes where it is too long for one."""
    pieces = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(f"{attribute}{len(pieces)}")
    names = [name for piece in pieces for name in group.attrs[piece]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _fixed(config: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a saved model's first normalisation by fixed figures."""
    for layer in config["config"].get("layers", []):
        settings = layer["config"]
        if layer["class_name"] == "Normalization" and settings["mean"] is not None:
            return {key: settings[key] for key in ("axis", "mean", "variance")}
    return None


# PyTorch


def _torch_layers(tensors: dict[str, np.ndarray]) -> list[Layer]:
    """Tensors of one module as one layer, in Keras' axes: output channels last."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part != "num_batches_tracked":
            modules.setdefault(module, {})[part] = tensor
            if part not in TORCH_PARTS:
                raise ValueError(f"{name} is no weight of a convolution, a normalisation or a dense layer")
    return [
        Layer(module, [_channels_last(parts[part]) for part in TORCH_PARTS if part in parts])
        for module, parts in modules.items()
    ]


def _channels_last(weight: np.ndarray) -> np.ndarray:
    """Convolutions from (out, in, height, width), with an `in` of 1 depthwise ones, and dense layers from (out, in)."""
    if weight.ndim == 4:
        return weight.transpose((2, 3, 0, 1) if weight.shape[1] == 1 else (2, 3, 1, 0))
    return weight.T
