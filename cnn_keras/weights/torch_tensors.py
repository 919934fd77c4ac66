"""Tensors out of PyTorch's files without PyTorch, and without running what the file names.

A file of `torch.save(model.state_dict(), path)` is a pickle, which may call anything while it is read. Here it may
call two things: an ordered dictionary, and our own description of a tensor.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # what files from before the zip format begin with
TYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}


class Tensor(NamedTuple):
    """Where a tensor's numbers are: in which storage, of which type, from where on, and how far apart on each axis."""

    type: str
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


class Reader(pickle.Unpickler):
    """Unpickles descriptions of tensors; every other name is refused before anything is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _described
        if module == "torch" and name in TYPES:
            return TYPES[name]
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}, which no file of weights needs")

    def persistent_load(self, saved: Any) -> tuple[str, str]:
        _, kind, key, *_ = saved
        return kind, key


def _described(storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    kind, key = storage
    return Tensor(kind, key, offset, tuple(shape), tuple(strides))


def read_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The tensors of a file in the zip format by their names: a pickle, and a member for each storage.

    Raises:
        pickle.UnpicklingError: when it names anything but tensors.
        ValueError: when it is no mapping of names to tensors, or one of them lies outside its storage.
    """
    names = archive.namelist()
    folder = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
    if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    tensors = _checked(Reader(io.BytesIO(archive.read(f"{folder}data.pkl"))).load())
    keys = {tensor.storage for tensor in tensors.values()}
    return _arrays(tensors, {key: archive.read(f"{folder}data/{key}") for key in keys})


def read_legacy(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a file from before the zip format: some pickles, then the storages one after the other.

    Raises:
        pickle.UnpicklingError, ValueError: see `read_zip`.
    """
    file = io.BytesIO(data)
    magic = Reader(file).load()
    if magic != MAGIC:
        raise ValueError("it is a pickle, but none of PyTorch's")
    _, _, tensors = (Reader(file).load() for _ in range(3))  # before them the version and the sizes of its types
    width = {tensor.storage: np.dtype(tensor.type).itemsize for tensor in _checked(tensors).values()}
    storages = {}
    for key in Reader(file).load():
        storages[key] = file.read(int.from_bytes(file.read(8), "little") * width[key])
    return _arrays(tensors, storages)


def _checked(tensors: Any) -> dict[str, Tensor]:
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise ValueError("it holds something else than a mapping of names to tensors; save the model's state_dict()")
    return tensors


def _arrays(tensors: dict[str, Tensor], storages: dict[str, bytes]) -> dict[str, np.ndarray]:
    """The tensors as views of their storages, none of which they leave."""
    arrays = {}
    for name, tensor in tensors.items():
        numbers = np.frombuffer(storages[tensor.storage], tensor.type)
        steps = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
        inside = tensor.offset >= 0 and all(step >= 0 for step in steps)
        if not inside or tensor.offset + sum(steps) >= len(numbers) or math.prod(tensor.shape) > len(numbers):
            raise ValueError(f"{name} is larger than what the file holds of it")
        strides = [stride * numbers.itemsize for stride in tensor.strides]
        arrays[name] = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return arrays
