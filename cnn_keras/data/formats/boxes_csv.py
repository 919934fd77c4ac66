"""Boxes as a table: a CSV file with a row for each object, `path,left,top,right,bottom,label`, in pixels.

`image_path,xmin,ymin,xmax,ymax,label` – the columns of DeepForest and others –, TensorFlow's and Roboflow's
`filename,width,height,class,xmin,…`, VoTT's `image,…`, makesense.ai's `label_name,bbox_x,bbox_y,bbox_width,…` and Open
Images' `ImageID,LabelName,XMin,XMax,…` in shares of the picture are read as well; `split`, `group`, `difficult`,
`crowd` and `score` may follow. A row with a path and nothing else is a picture without objects. Paths are relative to
the file.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item, Note, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, SPLITS, describe_path
from cnn_keras.data.files.input_file import is_folder, is_regular, read_text
from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

COLUMNS = ("path", "left", "top", "right", "bottom", "label")
ALIASES = {"image_path": "path", "filename": "path", "image": "path", "xmin": "left", "ymin": "top", "xmax": "right"}
ALIASES |= {"ymax": "bottom", "class": "label", "name": "label", "label_name": "label"}
MAKESENSE = ("label_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height", "image_name", "image_width", "image_height")
ALIASES |= dict(zip(MAKESENSE, ("label", "left", "top", "right", "bottom", "path", "width", "height"), strict=True))
OPEN_IMAGES = {"ImageID": "path", "LabelName": "label", "XMin": "left", "YMin": "top", "XMax": "right"}
OPEN_IMAGES |= {"YMax": "bottom", "IsGroupOf": "crowd"}
CODES = "*class-descriptions*.csv"  # beside a table of Open Images: what its codes mean
ROBOFLOW = "_annotations.csv"  # in the folder of each split

Row = tuple[int, dict[str, str]]  # the number of its line, and its cells by column


def read(path: Path, images: Path | None = None) -> Annotations:
    """A CSV file, or a folder with one in each split's folder, as Roboflow writes it.

    `images` is the folder that paths are relative to, if not the file's own.

    Raises:
        Fault: there is no CSV file, or there are several that no folder tells apart, or one cannot be read.
    """
    if not is_folder(path):
        return _read(path, images)
    files = sorted(path.glob(f"*/{ROBOFLOW}")) or sorted(path.glob("*.csv"))
    if not files:
        raise Fault(f"data.path must be a CSV file, got {describe_path(path)}")
    if len(files) > 1 and files[0].name != ROBOFLOW:
        raise Fault(f"data.path must be one CSV file, got {', '.join(file.name for file in files)} in {path}")
    items: list[Item] = []
    notes: list[Note] = []
    for file in files:
        rows, folder = _read(file, images), file.parent.name if file.parent != path else ""
        split = SPLITS.get(folder.lower())
        for item in rows.items:
            items.append(item._replace(id=f"{folder}/{item.id}" if folder else item.id, split=item.split or split))
        notes += rows.notes
    return Annotations(items, notes=tuple(notes), roots=(path, *([images] if images else [])))


def _read(path: Path, images: Path | None) -> Annotations:
    if not is_regular(path):
        raise Fault(f"data.path must be a CSV file, got {describe_path(path)}")
    rows: dict[str, list[Row]] = defaultdict(list)
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        shares = OPEN_IMAGES.keys() - header <= {"IsGroupOf"}
        aliases = OPEN_IMAGES if shares else ALIASES
        columns = [name if name in COLUMNS else aliases.get(name, name) for name in header]
        if missing := [name for name in COLUMNS if name not in columns]:
            raise Fault(
                f"{path} must have the columns {', '.join(COLUMNS)}, got {', '.join(header)[:300] or 'nothing'}; "
                f"{missing[0]} is missing{_meant(header)}",
                code=Fault.DATA,
            )
        for cells in reader:
            values = {name: value.strip() for name, value in zip(columns, cells, strict=False)}
            if values.get("path"):
                rows[values["path"]].append((reader.line_num, values))
    except csv.Error as error:
        raise Fault(f"{path} must be comma-separated text in UTF-8: {error}", code=Fault.DATA) from None
    root = images or path.parent
    places = Places([root])
    sizes = {name: _by_code(root, name) if shares else None for name in rows}
    sizes |= places.files(name for name, file in sizes.items() if file is None)
    annotation.check_pictures(sizes.values(), path, next(iter(rows), ""))
    ids = image_paths.ids(root, sizes)
    codes = _codes(path.parent) if shares else {}
    sides = {"bbox_width", "bbox_height"} <= set(header)
    items = [
        _item(path, sizes[name] or root / name, ids[name], lines, shares=shares, sides=sides, codes=codes)
        for name, lines in rows.items()
    ]
    _refuse_shares(path, items)
    return Annotations(items, notes=places.notes(path), roots=(path.parent, root))


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`images/` and `boxes.csv`. Masks are lost."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "split", "group", "difficult", "crowd", "score"])
        for item in items:
            name = f"images/{item.split or 'all'}/{annotation.inner_name(item)}"
            annotation.save(item, folder / name)
            split_and_group = (item.split or "", item.group or "")
            for object_ in item.objects:
                box = [f"{value:.10g}" for value in object_.box]
                marks = int(object_.difficult), int(object_.crowd), object_.score  # None is an empty cell
                writer.writerow([name, *box, object_.name, *split_and_group, *marks])
            if not item.objects:
                writer.writerow([name, "", "", "", "", "", *split_and_group, "", "", ""])


def _meant(columns: Sequence[str]) -> str:
    """What to do with a table of another kind, by the look of its first row; "" where that says nothing."""
    if "region_shape_attributes" in columns:
        return "; it looks like VIA's: read it with source via"
    if len(columns) == 1 and (sign := next((sign for sign in (";", "\t") if sign in columns[0]), None)):
        return f"; its columns are parted by {sign!r}: save it with commas"
    if len(columns) == 8 and annotation.finite_numbers(columns[1:5]):
        return f"; it looks like makesense.ai's: put the row {','.join(MAKESENSE)} before it"
    if len(columns) == 6 and annotation.finite_numbers(columns[1:5]):
        return "; the first row looks like data: put a row with these names before it"
    return ""


def _item(
    path: Path, file: Path, name: str, lines: Sequence[Row], *, shares: bool, sides: bool, codes: dict[str, str]
) -> Item:
    """A picture with the objects of its rows, whose boxes are `shares` of it, or end in their `sides`."""
    objects, troubles = [], []
    size = annotation.image_size(file) if shares else None
    for line, row in lines:
        corners = [row.get(key, "") for key in COLUMNS[1:5]]
        label = row.get("label", "")
        if not any(corners) and not label:
            continue
        box = annotation.finite_numbers(corners)
        if box is None or not label:
            troubles.append(("malformed annotation", f"line {line}: {', '.join(corners)[:60]}, {label or 'no label'}"))
            continue
        left, top, right, bottom = box
        if sides:
            right, bottom = left + right, top + bottom
        if size:
            left, top, right, bottom = left * size[1], top * size[0], right * size[1], bottom * size[0]
        difficult, crowd = (row.get(key, "").lower() in ("1", "true", "yes") for key in ("difficult", "crowd"))
        score = annotation.finite_numbers([row.get("score")])
        box, name_ = (left, top, right, bottom), codes.get(label, label)
        objects.append(Object(box, name_, difficult, crowd, score=score[0] if score else None))
    splits = {row.get("split", "") for _, row in lines}
    if len(splits) > 1 or not {split.lower() for split in splits} <= {"", *SPLITS}:
        known_splits = ", ".join(sorted(SPLITS))
        raise Fault(
            f"{path}: the rows of {name} must name one split of {known_splits}, got {', '.join(sorted(splits))}",
            code=Fault.DATA,
        )
    split, group = SPLITS.get(splits.pop().lower()), lines[0][1].get("group") or None
    size_ = size or annotation.stated_size(lines[0][1].get("height"), lines[0][1].get("width"))
    return Item(name, annotation.image_reader(file), tuple(objects), split, group, size_, tuple(troubles), file=file)


def _by_code(root: Path, name: str) -> Path | None:
    """The picture of an ImageID, which has no suffix."""
    options = (root / f"{name}{suffix}" for suffix in ("", ".jpg", ".png", *sorted(IMAGE_SUFFIXES)))
    return next((file for file in options if is_regular(file)), None)


def _codes(folder: Path) -> dict[str, str]:
    """The names of Open Images' codes, from the file that it comes with; none without it."""
    file = next(iter(sorted(folder.glob(CODES))), None)
    rows = csv.reader(io.StringIO(read_text(file), newline=""), skipinitialspace=True) if file else ()
    return {row[0]: row[1] for row in rows if len(row) > 1}


def _refuse_shares(path: Path, items: Sequence[Item]) -> None:
    """Raise a Fault where boxes in pixels are expected and all of them are shares of their pictures."""
    boxes = [object_.box for item in items for object_ in item.objects]
    if boxes and all(0 <= edge <= 1 for box in boxes for edge in box):
        raise Fault(
            f"{path} must hold boxes in pixels, got {boxes[0]} and no number above 1: shares of the picture; multiply "
            f"them with its width and height",
            code=Fault.DATA,
        )
