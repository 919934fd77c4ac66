"""Landmarks as a table: a CSV file with a row for each picture, `path`, then `NAME_x,NAME_y` for each landmark.

In pixels, from the picture's left and top edge. `label` may stand before them, else everything is a "thing"; so may
`left,top,right,bottom`, else the box is that around the landmarks. `NAME_visible` is 0 for a landmark that is known but
hidden; one whose cells are empty is not visible either. A row with a path and nothing else is a picture of nothing.
`split` and `group` are read as well. Paths are relative to the file.
"""

import csv
import io
from itertools import zip_longest
from pathlib import Path

from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item, Landmark, Object
from cnn_keras.data.files.file_tree import SPLITS, describe_path
from cnn_keras.data.files.input_file import is_regular, read_text
from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

BOX = ("left", "top", "right", "bottom")
THING = "thing"


def read(path: Path, images: Path | None = None) -> Annotations:
    """A CSV file; `images` is the folder that its paths are relative to, if not its own.

    Raises:
        Fault: no such file, no landmark in its header, or a picture listed twice.
    """
    if not is_regular(path):
        raise Fault(f"data.path must be a CSV file, got {describe_path(path)}")
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
        columns = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise Fault(f"{path} must be comma-separated text in UTF-8: {error}", code=Fault.DATA) from None
    rows = [(line, dict(zip_longest(columns, cells[: len(columns)], fillvalue=""))) for line, cells in lines]
    names = [name.removesuffix("_x") for name in columns if name.endswith("_x") and f"{name[:-2]}_y" in columns]
    if "path" not in columns or not names:
        columns_there = ", ".join(columns) or "nothing"
        raise Fault(f"{path} must have the columns path, NAME_x and NAME_y, got {columns_there}", code=Fault.DATA)
    rows = [(line, row) for line, row in rows if row["path"]]
    root = images or path.parent
    places = Places([root])
    there = places.files(row["path"] for _, row in rows)
    annotation.check_pictures(there.values(), path, next(iter(there), ""))
    ids = image_paths.ids(root, there)
    items = [
        _item(path, there[row["path"]] or root / row["path"], ids[row["path"]], line, row, names) for line, row in rows
    ]
    return Annotations(items, notes=places.notes(path), roots=(path.parent, root))


def _item(path: Path, file: Path, name: str, line: int, row: dict[str, str], names: list[str]) -> Item:
    split = row.get("split", "").lower()
    if split not in ("", *SPLITS):
        raise Fault(
            f"{path}, line {line}: split must be one of {', '.join(sorted(SPLITS))}, got {row['split']}",
            code=Fault.DATA,
        )
    objects: tuple[Object, ...] = ()
    troubles: tuple[tuple[str, str], ...] = ()
    cells = [row.get(f"{name}_{axis}", "") for name in names for axis in ("x", "y")]
    if any(cells) or any(row.get(edge) for edge in BOX):
        object_ = _object(row, names)
        objects = (object_,) if object_ else ()
        troubles = () if object_ else (("malformed annotation", f"line {line}: {', '.join(filter(None, cells))}"),)
    return Item(
        name,
        annotation.image_reader(file),
        objects,
        SPLITS.get(split),
        row.get("group") or None,
        troubles=troubles,
        file=file,
    )


def _object(row: dict[str, str], names: list[str]) -> Object | None:
    """The thing of a row; None where a number is none, or nothing tells its box."""
    landmarks = []
    for name in names:
        cells = [row.get(f"{name}_x", ""), row.get(f"{name}_y", "")]
        numbers = annotation.finite_numbers(cells) if any(cells) else (0.0, 0.0)
        if numbers is None:
            return None
        is_visible = any(cells) and row.get(f"{name}_visible", "").lower() not in ("0", "false", "no")
        x, y = numbers
        landmarks.append(Landmark(name, x, y, is_visible))
    known = [row.get(edge, "") for edge in BOX]
    points = [(landmark.x, landmark.y) for landmark, name in zip(landmarks, names, strict=True) if row.get(f"{name}_x")]
    edges = annotation.finite_numbers(known) if any(known) else None
    if edges is None and not any(known) and len(points) > 1:
        edges = annotation.enclosing_box([value for point in points for value in point])
    if edges is None:
        return None
    left, top, right, bottom = edges
    return Object((left, top, right, bottom), row.get("label") or THING, landmarks=tuple(landmarks))
