"""Sources of images with any number of labels: a table of them, or the classes that annotations of boxes name.

Nothing is decoded here; what cannot be used is an item too, which says why when it is read.
"""

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.data.annotation import Annotations
from cnn_keras.data.files import input_file, table_file
from cnn_keras.data.files.file_tree import SPLITS, describe_path, file_named, group_in, printable_path, refuse
from cnn_keras.data.sources import detection
from cnn_keras.data.sources.classification import File, call_source
from cnn_keras.errors import Fault

SEPARATORS = "[|;,]"  # of names in one cell, unless one is given
LISTS = ("labels", "label", "tags")  # the column of names; the first of these that is there
OTHERS = ("path", "split", "group")  # columns that are no labels
TRUE, FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")


class MultiLabelItem(NamedTuple):
    """One image that has not been read yet, and its labels, which may be none."""

    id: str  # the path below the source's folder
    labels: tuple[str, ...]  # names, each once, sorted
    read: Any  # gives the encoded file, bytes; raises Unreadable for what is none
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group stay in one split
    troubles: tuple[tuple[str, str], ...] = ()  # kind and detail of what the annotations say wrongly

    @property
    def label(self) -> str:
        """All of them in one text."""
        return "|".join(self.labels)


def table(
    path: Path, images: Path | None = None, separator: str | None = None, group: str | None = None
) -> list[MultiLabelItem]:
    """A CSV or Parquet file with a row for each image: the column `path`, and its labels in one of two ways.

    Either a column `labels` (or `label`, or `tags`) of names, parted by `|`, `;` or `,` – in Parquet it may be a list
    –, or a column for each class with 1 where the image has it and 0 where it does not. Columns `split` and `group`
    may be there, too. A row that says something else cannot be read, and says why.

    Args:
        path: of the table.
        images: the folder that paths are relative to; that of the table unless given.
        separator: of names, in place of those three.
        group: a regular expression searched in each path; its first parenthesis names the group.

    Raises:
        Fault: there is no such table, it has no rows, no column of labels, or none of its images is there.
    """
    rows = table_file.rows(path, ("path",))
    if not rows:
        raise Fault(f"{path} must have one row for each image, got none", code=Fault.DATA)
    columns = list(rows[0][1])
    listed = next((name for name in LISTS if name in columns), None)
    classes = [] if listed else [name for name in columns if name not in OTHERS]
    if not listed and not classes:
        raise Fault(
            f"{path} must have a column labels, or one for each class beside path, got {', '.join(columns)}",
            code=Fault.DATA,
        )
    root, pattern = images or path.parent, re.escape(separator) if separator else SEPARATORS
    items: list[MultiLabelItem] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        name = str(row["path"])
        place = printable_path(name) or f"line {line}"
        trouble = None
        labels: Sequence[str] = ()
        if name in lines:
            place, trouble = f"{place}, line {line}", f"line {line}: line {lines[name]} lists it, too"
        lines.setdefault(name, line)
        if listed:
            cell = row[listed]
            labels = cell if isinstance(cell, list) else re.split(pattern, cell)
        else:
            values = {column: str(row[column]).lower() for column in classes}
            labels = [column for column, value in values.items() if value in TRUE]
            wrong = next((column for column, value in values.items() if value not in (*TRUE, *FALSE)), None)
            if wrong:
                trouble = f"line {line}: {wrong} must be 0 or 1, got {str(row[wrong])[:40]!r}"
        split = str(row.get("split", "")).lower()
        if split and split not in SPLITS:
            trouble = f"line {line}: split must be one of {', '.join(SPLITS)}, got {split[:40]!r}"
        if not name:
            trouble = f"line {line}: path must be given"
        reading: Any = File(input_file.read_bytes, str(file_named(root, name)))
        items.append(
            MultiLabelItem(
                place,
                _unique(labels),
                partial(refuse, "broken annotation", trouble) if trouble else reading,
                SPLITS.get(split),
                group_in(group, place) if group else str(row.get("group", "")) or None,
            )
        )
    if not any(isinstance(item.read, File) and input_file.is_regular(Path(item.read.path)) for item in items):
        first = file_named(root, str(rows[0][1]["path"]))
        raise Fault(
            f"{path} must name images that are there, relative to its folder or to data.images, got "
            f"{describe_path(first)}",
            code=Fault.DATA,
        )
    return items


def presence(annotations: Annotations) -> list[MultiLabelItem]:
    """The images of annotated boxes with the classes of what is in each; hard and crowded things count as there."""
    return [
        MultiLabelItem(
            item.id,
            _unique([object_.name for object_ in item.objects]),
            item.read,
            item.split,
            item.group,
            item.troubles,
        )
        for item in annotations.items
    ]


def items(
    source: str, *, separator: str | None = None, group: str | None = None, **arguments: Any
) -> list[MultiLabelItem]:
    """The items of `source`: csv, a table; or one of `cnn_keras.data.sources.detection`, for the classes in an image.

    Args:
        separator: of csv; see `table`.
        group: a regular expression searched in each id; its first parenthesis names the item's group.
        arguments: of the source; those that are None are left out.

    Raises:
        Fault: an unknown source, an argument that it needs or does not take, or nothing that can be used.
    """
    if source == "csv":
        return call_source(table, source, {**arguments, "separator": separator, "group": group})
    if separator is not None:
        raise Fault(f"data.separator does not go with source: {source}")
    annotations = detection.load(source, group=group, **arguments)
    detection.check_annotated(annotations.items, arguments.get("path") or source)
    return presence(annotations)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({sys.intern(name.strip()) for name in names if name.strip()}))
