"""Signals: float32 (length, channels), such as a movement's acceleration or a machine's sound.

`source: NAME` in a recipe is a function of this file: a folder of CSV files, a `.ts` file of the UCR and UEA
archives (Bagnall et al., "The UEA multivariate time series classification archive", 2018), or one of those that
come with the package sktime. A signal that cannot be used raises `Unreadable` when it is read, and says why.
"""

import difflib
import importlib.util
from functools import partial
from pathlib import Path

import numpy as np

from cnn_keras.data.encoded import Unreadable
from cnn_keras.data.grids import LARGEST
from cnn_keras.data.read import Item, called, class_folders, refuse, whereabouts
from cnn_keras.fault import Fault

SUFFIXES = (".csv", ".tsv", ".txt")
BYTES_LIMIT = 2**27  # of one file
HALVES = {"_TRAIN": "train", "_TEST": "test"}  # how the archives call the files of a set


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """One signal of a text file: a line for each moment, a column for each channel, a line of names above if wanted.

    Columns are separated by commas, semicolons (then `1,5` is a number too), tabs or spaces; `#` begins a comment. A
    file of one line is a signal of one channel.

    Returns:
        float32 (length, channels), and notes on what it was.

    Raises:
        Unreadable: empty, too large, no text, a cell that is no finite number, lines of different lengths.
    """
    if path.stat().st_size > BYTES_LIMIT:
        raise Unreadable("huge", f"a signal may have {BYTES_LIMIT:,} bytes, this file has {path.stat().st_size:,}")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Unreadable("undecodable", "it must be text in UTF-8") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.split("#")[0].strip()]
    if not numbered:
        raise Unreadable("empty", "it holds no line")
    mark = next((mark for mark in ";\t," if mark in numbered[0][1]), None)
    rows = [(number, _cells(line, mark)) for number, line in numbered]
    if not any(_is_number(cell) for cell in rows[0][1]):
        rows = rows[1:]
    if not rows:
        raise Unreadable("empty", "it holds nothing but a line of names")
    width = len(rows[0][1])
    for number, cells in rows:
        if len(cells) != width:
            raise Unreadable("undecodable", f"line {number} must have {width} columns like the first, got {len(cells)}")
    values = np.array([[_number(cell, f"line {number}") for cell in cells] for number, cells in rows], np.float32)
    return (values.T, ["one line, read as one channel"]) if len(values) == 1 and width > 1 else (values, [])


def folder(path: Path, group: str | None = None) -> list[Item]:
    """One sub-folder of CSV files per class; see `class_folders`."""
    return class_folders(path, group, suffixes=SUFFIXES, load=read, noun="signal")


def ts(path: Path) -> list[Item]:
    """A `.ts` file, with its other half where it is called NAME_TRAIN.ts or NAME_TEST.ts, or the folder of both.

    The halves prescribe the split; a file with another name is split like a folder.
    """
    if path.is_dir():
        files = sorted(inner for inner in path.glob("*.ts") if _half(inner))
    elif _half(path):
        stem = path.stem.removesuffix(_half(path))
        files = [file for half in HALVES if (file := path.with_name(f"{stem}{half}.ts")).is_file()]
    else:
        files = [path]
    if not files or not all(file.is_file() for file in files):
        raise Fault(
            f"data.path must be a .ts file or a folder with NAME_TRAIN.ts and NAME_TEST.ts, got {whereabouts(path)}"
        )
    return [item for file in files for item in _ts_items(file)]


def sktime(name: str) -> list[Item]:
    """A set of the UCR and UEA archives that comes with the package sktime, with its official training and test half.

    The package is not imported: only its files are read.
    """
    package = importlib.util.find_spec("sktime")
    if package is None:
        raise Fault("data.source sktime:NAME needs the package sktime; `make samples` installs it")
    root = Path(package.submodule_search_locations[0], "datasets", "data")
    known = sorted(file.parent.name for file in root.glob("*/*_TRAIN.ts"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise Fault(f"data.source sktime:NAME must be one of {', '.join(known)}, got {name!r}{meant}")
    return ts(root / name)


def items(source: str, **arguments) -> list[Item]:
    """The items of `source`: folder, ts or sktime:NAME; an item's `read` gives (signal, notes).

    Raises:
        Fault: an unknown source, or an argument it needs or does not take.
    """
    arguments.pop("size", None)  # no source cuts its signals itself
    kind, _, name = source.partition(":")
    if kind == "sktime" and name:
        return called(partial(sktime, name), source, arguments)
    functions = {"folder": folder, "ts": ts}
    if source not in functions:
        raise Fault(f"data.source must be folder, ts or sktime:NAME, got {source!r}")
    return called(functions[source], source, arguments)


def _half(path: Path) -> str:
    return next((half for half in HALVES if path.stem.endswith(half)), "")


def _ts_items(path: Path) -> list[Item]:
    """A line `values:…:label` each; the values of a channel are between commas, the channels between colons."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise Fault(f"{path} must be text in UTF-8: {error}", code=Fault.DATA) from None
    tags: dict[str, list[str]] = {}
    start = None
    for number, line in enumerate(lines):
        tag, *words = line.split() or [""]
        if tag.lower() == "@data":
            start = number + 1
            break
        if tag.startswith("@"):
            tags[tag.lower()] = words
    if start is None or tags.get("@classlabel", ["false"])[0].lower() != "true":
        raise Fault(
            f"{path} must have the lines @classLabel true CLASSES and @data, as .ts files have", code=Fault.DATA
        )
    if tags.get("@timestamps", ["false"])[0].lower() == "true":
        raise Fault(f"{path} must have values without time stamps (@timeStamps false)", code=Fault.DATA)
    split = HALVES.get(_half(path))
    return [
        _ts_item(f"{path.stem}/{number:05d}", line, tags["@classlabel"][1:], split)
        for number, line in enumerate(line for line in lines[start:] if line.strip())
    ]


def _ts_item(name: str, line: str, classes: list[str], split: str | None) -> Item:
    values, _, label = line.strip().rpartition(":")
    if classes and label not in classes:
        reason = f"its label must be one of {', '.join(classes)}, got {label[:40]!r}"
        return Item(name, "", partial(refuse, "without a class", reason), split)
    return Item(name, label, partial(_ts_signal, values), split)


def _ts_signal(text: str) -> tuple[np.ndarray, list[str]]:
    channels = [
        np.array([_number(cell, f"channel {number}") for cell in channel.split(",")], np.float32)
        for number, channel in enumerate(text.split(":"), 1)
    ]
    if len({len(channel) for channel in channels}) > 1:
        raise Unreadable("unsupported", f"its channels must be equally long, got {[len(each) for each in channels]}")
    return np.stack(channels, axis=-1), []


def _cells(line: str, mark: str | None) -> list[str]:
    cells = [cell.strip().strip('"') for cell in line.split("#")[0].strip().split(mark)]
    return [cell.replace(",", ".") for cell in cells] if mark == ";" else cells


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, place: str) -> float:
    if not _is_number(cell) or not abs(float(cell)) <= LARGEST:  # nan is not
        raise Unreadable("undecodable", f"{place} must hold finite numbers, at most {LARGEST:g}, got {cell[:40]!r}")
    return float(cell)
