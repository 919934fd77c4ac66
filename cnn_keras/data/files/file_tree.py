"""Folders and files that a user names: which are looked at, what their names say, and how messages name them."""

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault, Unreadable

IMAGE_SUFFIXES = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".bmp",
        ".dib",
        ".gif",
        ".webp",
        ".pgm",
        ".ppm",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
    }
)
VOLUMES = (".nii", ".nii.gz")
LOOKED_AT = 1000  # files that a message looks at to say what they are
HIDDEN = (".", "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")  # of systems and tools, never data
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
SPLIT_IN = re.compile(r"(?:^|[_\W])(training|train|validation|valid|val|testing|test)\d*(?:$|[_\W])")


def natural(name: str) -> tuple[Any, ...]:
    """Sort key under which "class2" stands before "class10"; names that differ have keys that differ."""
    parts = re.split(r"(\d+)", name.lower())  # text and digits take turns
    return [_size(part) if place % 2 else part for place, part in enumerate(parts)], name


def _size(digits: str) -> tuple[int, str]:
    """Orders whole numbers, however long: by their places, then by their digits."""
    bare = digits.lstrip("0")
    return len(bare), bare


def split_in(name: str) -> str | None:
    """The split that the name of a file or folder begins or ends with: "instances_val2017" is "validation"."""
    match = SPLIT_IN.search(name.lower())
    return SPLITS[match.group(1)] if match else None


def rows(path: Path, columns: Sequence[str], *, argument: str = "data.path") -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their lines' numbers: texts by column, stripped, "" where a cell is missing.

    Raises:
        Fault: no such file, no text in UTF-8, no comma-separated text, or one of `columns` is missing.
    """
    if not input_file.is_regular(path):
        raise Fault(f"{argument} must be a CSV file, got {describe_path(path)}")
    text = input_file.read_text(path)
    try:
        reader = csv.DictReader(io.StringIO(text), restval="", skipinitialspace=True)
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        if not set(columns) <= set(names):
            names_required = " and ".join([", ".join(columns[:-1]), columns[-1]])
            bare = any(re.fullmatch(r"-?\d*\.?\d+", name) for name in names)
            hint = "; the first row looks like data: put a row with names before it" if bare else ""
            names_there = ", ".join(names)[:300] or "nothing"
            raise Fault(f"{path} must have the columns {names_required}, got {names_there}{hint}", code=Fault.DATA)
        return [(reader.line_num, {key: value.strip() for key, value in row.items() if key}) for row in reader]
    except csv.Error as error:
        raise Fault(f"{path} must be comma-separated text: {error}", code=Fault.DATA) from None


def file_named(root: Path, name: str) -> Path:
    """The file that a list below `root` names; backslashes part folders where there is no such file otherwise."""
    file = root / name
    with_slashes = root / name.replace("\\", "/")
    return with_slashes if "\\" in name and not input_file.is_regular(file) else file


def tree(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Every folder that is not hidden, `root` first, with its files that are not: links are followed, none twice."""
    entered = set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=unlistable):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        yield Path(place), [Path(place, name) for name in sorted(files) if not name.startswith(HIDDEN)]


def check_folder(path: Path) -> None:
    """Raise a Fault unless `path` is a folder."""
    if not input_file.is_folder(path):
        raise Fault(f"data.path must be a folder, got {describe_path(path)}")


def check_new_folder(path: Path) -> None:
    """Raise a Fault unless there is nothing at `path`, or an empty folder."""
    if path.exists() and (not input_file.is_folder(path) or any(path.iterdir())):
        raise Fault(f"the folder to write must be new or empty, got {describe_path(path)}")


def group_in(pattern: str | None, name: str) -> str | None:
    """What a regular expression finds in a name with its first parenthesis: the group; None without a pattern.

    Raises:
        Fault: it is no regular expression, or its first parenthesis matches nothing here.
    """
    if pattern is None:
        return None
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise Fault(f"data.group must be a regular expression, got {pattern!r}: {error}") from None
    if match is None or not match.groups() or match.group(1) is None:
        raise Fault(f"data.group must match every path with its first parenthesis, {pattern!r} does not match {name!r}")
    return match.group(1)


def refuse(kind: str, reason: str) -> NoReturn:
    """Stand in for the reading of what cannot be read."""
    raise Unreadable(kind, reason)


def printable_path(path: Path | str) -> str:
    """A path with `/` and, where a name is not UTF-8 or holds a NUL, escapes: it goes into CSV files and records."""
    name = Path(path).as_posix().replace("\0", "\\0")
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON may hold
        return name.encode("utf-8", "backslashreplace").decode()


def describe_path(path: Path, most: int = 8) -> str:
    """`path` as it was given, as an absolute path, and what is there – or in the nearest folder that exists."""
    absolute = path.absolute()
    nearest = next(inner for inner in (absolute, *absolute.parents) if input_file.is_folder(inner))
    try:
        visible = sorted(inner for inner in nearest.iterdir() if not inner.name.startswith(HIDDEN))
    except OSError as error:
        return f"{printable_path(path)}; {nearest} cannot be listed: {error.strerror}"
    names = [printable_path(inner.name) + "/" * input_file.is_folder(inner) for inner in visible]
    listing = ", ".join(names[:most]) or "nothing"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    printed = printable_path(path) if path.is_absolute() else f"{printable_path(path)} ({absolute})"
    return f"{printed}; {nearest} holds {listing}{more}{_volumes(absolute)}"


def _volumes(path: Path) -> str:
    """What to do with NIfTI files, where a path leads to some, among the first that are there."""
    inside = (file for _, files in tree(path) for file in files) if input_file.is_folder(path) else [path]
    if not any(file.name.lower().endswith(VOLUMES) for file in islice(inside, LOOKED_AT)):
        return ""
    return "; NIfTI files are volumes, for a recipe of the task volumes, or of segment with three sides in data.size"


def unlistable(error: OSError) -> NoReturn:
    """Raise a Fault for a folder that cannot be listed: `onerror` of `os.walk`."""
    raise Fault(f"data.path must be readable, got {error.strerror} at {error.filename}", code=Fault.DATA)
