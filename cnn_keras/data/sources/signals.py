"""Signals: float32 (length, channels), such as a movement's acceleration or a machine's sound.

`source: NAME` in a recipe is a function of this file: a folder of CSV, WAV or WFDB files, a `.ts` or `.tsv` file of the
UCR and UEA archives (Bagnall et al., "The UEA multivariate time series classification archive", 2018), one of those
that come with the package sktime, or the heartbeats of annotated WFDB records. A signal that cannot be used raises
`Unreadable` when it is read, and says why.
"""

import difflib
import importlib.util
import io
import re
import struct
import warnings
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from cnn_keras.data.files import input_file, wfdb_record
from cnn_keras.data.files.file_tree import describe_path, refuse
from cnn_keras.data.files.input_file import VALUE_LIMIT
from cnn_keras.data.sources.classification import Item, call_source, class_folders
from cnn_keras.errors import Fault, Unreadable

SUFFIXES = (".csv", ".tsv", ".txt", ".wav", wfdb_record.SUFFIX)
BYTES_LIMIT = 2**27  # of one file
RECORDS = 2  # whose samples are kept while their beats are read
ARCHIVES = (".ts", ".tsv", ".txt")  # of the UCR and UEA archives
HALVES = {"_TRAIN": "train", "_TEST": "test"}  # how the archives call the files of a set
MISSING = ("", "?", "nan", "na", "n/a", "null", "none")  # a value that is not there, in lower case
TIMES = re.compile(  # names of a column that says when, its unit in brackets or behind a line
    r"(?:(?:unix|utc|local|relative|elapsed)[ _]?)?(?:time|timestamp|datetime|date|epoch?|elapsed)(?:[ _]elapsed)?"
    r"(?:[ _](?:s|ms|us|µs|ns|sec|secs|seconds|utc))?\s*(?:[(\[].*[)\]])?|(?:milli)?seconds[ _]elapsed",
    re.IGNORECASE,
)
INDEX = ("", "Unnamed: 0")  # names of a first column in which pandas counts the moments
WHEN = re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?:\d\d(:\d\d.*)?|\d\d?[./]\d\d?[./]\d{4}.*")
STAMPED = re.compile(r"\(([^(),]*),([^()]*)\)")  # a time and values, in a .ts file with time stamps


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """One signal: of a text file a line for each moment, a column for each channel; a WAV file, from −1 to 1; or, given
    its header, `.hea`, a WFDB record in physical units.

    Columns are separated by commas, semicolons (then `1,5` is a number too), tabs or spaces; a line of names may stand
    above them, and `#` begins a comment. A file of one line is a signal of one channel. A column of times is left out:
    it says nothing of the signal, and may tell when a class was recorded. Values that are missing are filled in.

    Returns:
        float32 (length, channels), and notes on what it was.

    Raises:
        OSError: it cannot be read, or is no regular file.
        Unreadable: empty, too large, no text, a cell that is no finite number, lines of different lengths; no WAV file
            or record.
    """
    values, notes = read_with_note(path)
    return values, [note for note in notes if isinstance(note, str)]


def read_with_note(path: Path) -> tuple[np.ndarray, list[Any]]:
    """The signal that `read` gives, float32 (length, channels), and a note of the sample rate, where a file states one.

    Raises:
        Unreadable: the file is too large, or no signal.
    """
    input_file.check_regular(path)
    if path.stat().st_size > BYTES_LIMIT:
        raise Unreadable("huge", f"a signal may have {BYTES_LIMIT:,} bytes, this file has {path.stat().st_size:,}")
    suffix = path.suffix.lower()
    if suffix == wfdb_record.SUFFIX:
        values, rate = wfdb_record.read(path, limit=BYTES_LIMIT // 4)
        return _filled(values, [("sample rate", f"{rate:,g} Hz")])
    return _wave(path) if suffix == ".wav" else _columns(_text(path))


def folder(path: Path, group: str | None = None) -> list[Item]:
    """One sub-folder of CSV, WAV or WFDB files per class; see `class_folders`.

    Of a WFDB record the header is the signal; further files of its name belong to it.
    """
    found = class_folders(path, group, suffixes=SUFFIXES, load=read_with_note, noun="signal")
    names = [Path(item.id) for item in found]
    records = {name.with_suffix("") for name in names if name.suffix.lower() == wfdb_record.SUFFIX}
    return [
        item
        for name, item in zip(names, found, strict=True)
        if name.suffix.lower() in SUFFIXES or name.with_suffix("") not in records
    ]


def wfdb(path: Path, window: float = 1.0) -> list[Item]:
    """The heartbeats that annotations of WFDB records mark: NAME.atr beside NAME.hea; the class is the symbol.

    A beat is the stretch of all channels around it. All of a record are in one split, because they are of one person.
    Beats too near the ends of their record are left out; a record without annotations that can be read is an item that
    says why when it is read.

    Args:
        window: seconds of the stretch; the annotation is in its middle.

    Raises:
        Fault: there is no such folder, or no record in it.
    """
    if not input_file.is_folder(path):
        raise Fault(f"data.path must be a folder of WFDB records, got {describe_path(path)}")
    found: list[Item] = []
    for header in sorted(path.rglob(f"*{wfdb_record.SUFFIX}")):
        name = header.relative_to(path).with_suffix("").as_posix()
        try:
            beats = wfdb_record.beats(header, limit=BYTES_LIMIT)
        except (OSError, Unreadable) as error:
            found.append(Item(name, "", partial(refuse, "annotations", str(error)), group=name))
            continue
        found += [
            Item(f"{name}@{place}", symbol, partial(_beat, header, place, window), group=name)
            for place, symbol in beats
        ]
    if not found:
        raise Fault(f"data.path must hold WFDB records, NAME.hea beside NAME.atr, found none in {describe_path(path)}")
    return found


def ts(path: Path) -> list[Item]:
    """A `.ts` file, with its other half where it is called NAME_TRAIN.ts or NAME_TEST.ts, or the folder of both.

    The halves prescribe the split; a file with another name is split like a folder. UCR's `.tsv` and `.txt` are read
    too: a line for each signal, its class first.

    Raises:
        Fault: there is no such file, or it is none of these.
    """
    if input_file.is_folder(path):
        halves = (sorted(inner for inner in path.glob(f"*{suffix}") if _half(inner)) for suffix in ARCHIVES)
        files = next((files_ for files_ in halves if files_), [])
    elif _half(path):
        stem = path.stem.removesuffix(_half(path))
        others = (path.with_name(f"{stem}{half}{path.suffix}") for half in HALVES)
        files = [file for file in others if input_file.is_regular(file)]
    else:
        files = [path]
    if not files or not all(input_file.is_regular(file) for file in files):
        raise Fault(
            "data.path must be a .ts or .tsv file, or a folder with NAME_TRAIN.ts and NAME_TEST.ts, got "
            f"{describe_path(path)}"
        )
    return [item for file in files for item in (_ts_items(file) if file.suffix == ".ts" else _tsv_items(file))]


def sktime(name: str) -> list[Item]:
    """A set of the UCR and UEA archives that comes with the package sktime, with its official training and test half.

    The package is not imported: only its files are read.

    Raises:
        Fault: the package is not installed, or has no such set.
    """
    package: Any = importlib.util.find_spec("sktime")
    if package is None:
        raise Fault("data.source sktime:NAME needs the package sktime; `make samples` installs it")
    root = Path(package.submodule_search_locations[0], "datasets", "data")
    known = sorted(file.parent.name for file in root.glob("*/*_TRAIN.ts"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        suggestion = f"; did you mean {near[0]}?" if near else ""
        raise Fault(f"data.source sktime:NAME must be one of {', '.join(known)}, got {name!r}{suggestion}")
    return ts(root / name)


def items(source: str, **arguments: Any) -> list[Item]:
    """The items of `source`: folder, ts, wfdb or sktime:NAME; an item's `read` gives (signal, notes).

    Raises:
        Fault: an unknown source, or an argument it needs or does not take.
    """
    arguments.pop("size", None)  # no source cuts its signals itself
    kind, _, name = source.partition(":")
    if kind == "sktime" and name:
        return call_source(partial(sktime, name), source, arguments)
    functions: dict[str, Any] = {"folder": folder, "ts": ts, "wfdb": wfdb}
    if source not in functions:
        raise Fault(f"data.source must be folder, ts, wfdb or sktime:NAME, got {source!r}")
    return call_source(functions[source], source, arguments)


def _beat(header: Path, place: int, window: float) -> tuple[np.ndarray, list[Any]]:
    values, rate, notes = _record(header)
    length = max(1, round(window * rate))
    start = place - length // 2
    if start < 0 or start + length > len(values):
        raise Unreadable("cut off", f"the stretch of {window:g} s around it is not within the record")
    return values[start : start + length], notes


@lru_cache(maxsize=RECORDS)
def _record(header: Path) -> tuple[np.ndarray, float, list[Any]]:
    values, rate = wfdb_record.read(header, limit=BYTES_LIMIT // 4)
    values, notes = _filled(values, [("sample rate", f"{rate:,g} Hz")])
    return values, rate, notes


def _half(path: Path) -> str:
    return next((half for half in HALVES if path.stem.endswith(half)), "")


def _text(path: Path) -> str:
    try:
        return input_file.read_text(path)
    except Fault as fault:
        raise Unreadable("undecodable", str(fault)) from None


def _columns(text: str) -> tuple[np.ndarray, list[Any]]:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.split("#")[0].strip()]
    if not lines:
        raise Unreadable("empty", "it holds no lines")
    mark = next((mark for mark in ";\t," if mark in lines[0][1]), None)
    rows = [(number, _cells(line, mark)) for number, line in lines]
    if len(rows[0][1]) > 1 and all(not cells[-1] for _, cells in rows):  # each line ends in a separator
        rows = [(number, cells[:-1]) for number, cells in rows]
    names: list[str] = []
    if not any(_is_number(cell) or WHEN.fullmatch(cell) for cell in rows[0][1]):
        names, rows = rows[0][1], rows[1:]
    if not rows:
        raise Unreadable("empty", "it holds only a line of names")
    width = len(rows[0][1])
    for number, cells in rows:
        if len(cells) != width:
            raise Unreadable("undecodable", f"line {number} must have {width} columns like the first, got {len(cells)}")
    when = [
        place
        for place in range(width)
        if (len(names) == width and (TIMES.fullmatch(names[place]) or (place == 0 and names[0] in INDEX)))
        or WHEN.fullmatch(rows[0][1][place])
    ]
    places = [place for place in range(width) if place not in when]
    if not places:
        raise Unreadable("empty", "it holds only times")
    numbers = [[_number(cells[place], f"line {number}") for place in places] for number, cells in rows]
    values = np.array(numbers, np.float32)
    notes: list[Any] = ["a column of times, left out"] if when else []
    if len(values) == 1 and len(places) > 1:
        values, notes = values.T, [*notes, "one line, read as one channel"]
    return _filled(values, notes)


def _wave(path: Path) -> tuple[np.ndarray, list[Any]]:
    """A WAV file of whole numbers or floats, of one channel or several; float32 (length, channels) from −1 to 1."""
    data = input_file.read_bytes(path, limit=BYTES_LIMIT)
    if not data:
        raise Unreadable("empty", "the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
            rate, stored = wavfile.read(io.BytesIO(data))
    except (UnboundLocalError, AttributeError):  # SciPy's, of a file without the chunk that says what it holds
        raise Unreadable("undecodable", "it is no WAV file that can be read: its header is cut off or broken") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, OSError, struct.error,
            ) as error:  # fmt: skip  # what SciPy raises on broken files
        raise Unreadable("undecodable", f"it is no WAV file that can be read: {str(error).partition('.')[0]}") from None
    if not stored.size:
        raise Unreadable("empty", "it holds no samples")
    values = stored.reshape(len(stored), -1)
    if values.dtype.kind == "u":  # 8 bits, silence in the middle
        scaled = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":  # SciPy puts 24 bits into the upper ones of 32
        scaled = (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    else:
        scaled = values.astype(np.float32)
    if not (np.abs(scaled) <= VALUE_LIMIT).all():
        raise Unreadable("undecodable", f"its samples must be finite numbers, at most {VALUE_LIMIT:g}")
    return scaled, [("sample rate", f"{rate:,} Hz")]


def _filled(values: np.ndarray, notes: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Missing values filled in along time: on the line between their neighbours, at an end as the nearest one."""
    gaps = np.isnan(values)
    if not gaps.any():
        return values, notes
    if gaps.mean(axis=0).max() > 0.5:
        raise Unreadable("undecodable", f"a channel must hold half of its values at least, got {1 - gaps.mean():.0%}")
    moments = np.arange(len(values))
    for channel, gap in zip(values.T, gaps.T, strict=True):
        channel[gap] = np.interp(moments[gap], moments[~gap], channel[~gap])
    return values, [*notes, "missing values, filled in"]


def _ts_items(path: Path) -> list[Item]:
    """A line `values:…:label` each; the values of a channel are between commas, the channels between colons."""
    lines = input_file.read_text(path).splitlines()
    tags: dict[str, list[str]] = {}
    start = None
    for number, line in enumerate(lines):
        tag, *words = line.split() or [""]
        if tag.lower() == "@data":
            start = number + 1
            break
        if tag.startswith("@"):
            tags[tag.lower()] = words
    if start is None or [word.lower() for word in tags.get("@classlabel", [])[:1]] != ["true"]:
        raise Fault(
            f"{path} must have the lines @classLabel true CLASSES and @data, as .ts files have", code=Fault.DATA
        )
    split = HALVES.get(_half(path))
    return [
        _ts_item(f"{path.stem}/{number:05d}", line.strip(), tags["@classlabel"][1:], split)
        for number, line in enumerate(line for line in lines[start:] if line.strip() and not line.startswith("#"))
    ]


def _ts_item(name: str, line: str, classes: list[str], split: str | None) -> Item:
    values, _, class_text = line.rpartition(":")
    label = _class_of(class_text.strip(), classes)
    if label is None:
        reason = f"its label must be one of {', '.join(classes)}, got {class_text[:40]!r}"
        return Item(name, "", partial(refuse, "without a class", reason), split)
    return Item(name, label, partial(_ts_signal, values), split)


def _class_of(label: str, classes: list[str]) -> str | None:
    """The class that a label means: the same name, the same number, or the same name in other capitals."""
    if not classes or label in classes:
        return label
    if _is_number(label):
        return next((name for name in classes if _is_number(name) and float(name) == float(label)), None)
    alike = [name for name in classes if name.lower() == label.lower()]
    return alike[0] if len(alike) == 1 else None


def _ts_signal(text: str) -> tuple[np.ndarray, list[Any]]:
    parts = [channel.strip() for channel in re.sub(r"(?<=\)):(?=\()", "\n", text).split("\n")]
    if "(" in text:
        cells = [[value for _, value in STAMPED.findall(part)] for part in parts]
    else:
        cells = [channel.split(",") for channel in text.split(":")]
    notes: list[Any] = ["time stamps, taken for equally far apart"] if "(" in text else []
    channels = [
        np.array([_number(cell.strip(), f"channel {number}") for cell in channel], np.float32)
        for number, channel in enumerate(cells, 1)
    ]
    if len({len(channel) for channel in channels}) > 1:
        raise Unreadable("unsupported", f"its channels must be equally long, got {[len(each) for each in channels]}")
    if not channels or not len(channels[0]):
        raise Unreadable("empty", "it holds no value")
    return _filled(*_cut(np.stack(channels, axis=-1), notes))


def _tsv_items(path: Path) -> list[Item]:
    """UCR's plain form: a line for each signal, its class first, values between tabs, commas or spaces."""
    items = []
    for number, line in enumerate(line for line in input_file.read_text(path).splitlines() if line.strip()):
        label, *cells = re.split(r"[\t,]\s*|\s+", line.strip())
        name = f"{path.stem}/{number:05d}"
        class_name = f"{float(label):g}" if _is_number(label) else label  # "1.0000000e+00" is 1
        reading = partial(_row, cells) if cells else partial(refuse, "undecodable", "it holds no value")
        items.append(Item(name, class_name, reading, HALVES.get(_half(path))))
    if not items:
        raise Fault(f"{path} must hold a line for each signal, got none", code=Fault.DATA)
    return items


def _row(cells: list[str]) -> tuple[np.ndarray, list[Any]]:
    values = np.array([[_number(cell, f"value {number}")] for number, cell in enumerate(cells, 1)], np.float32)
    return _filled(*_cut(values, []))


def _cut(values: np.ndarray, notes: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """Without what is missing at the end: the archives fill signals up to the length of the longest."""
    there = np.flatnonzero(~np.isnan(values).all(axis=1))
    if not len(there):
        raise Unreadable("empty", "it holds no value")
    end = int(there[-1]) + 1
    return values[:end], [*notes, *(["shorter than others, its end is missing"] if end < len(values) else [])]


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
    """A finite number; NaN where it is missing."""
    if cell.lower() in MISSING:
        return float("nan")
    if not _is_number(cell) or not abs(float(cell)) <= VALUE_LIMIT:
        raise Unreadable("undecodable", f"{place} must hold finite numbers, at most {VALUE_LIMIT:g}, got {cell[:40]!r}")
    return float(cell)
