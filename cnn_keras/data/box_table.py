"""Boxes as a table: a CSV file with a row for each object, `path,left,top,right,bottom,label`, in pixels.

`image_path,xmin,ymin,xmax,ymax,label` – the columns of DeepForest and others – are read as well; `split`, `group`,
`difficult` and `crowd` may follow. A row with a path and nothing else is a picture without objects. Paths are relative
to the file.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_keras.data import annotations
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.read import SPLITS, printable, whereabouts
from cnn_keras.fault import Fault

COLUMNS = ("path", "left", "top", "right", "bottom", "label")
ALIASES = {"image_path": "path", "filename": "path", "xmin": "left", "ymin": "top", "xmax": "right", "ymax": "bottom"}
ALIASES |= {"class": "label", "name": "label"}


def read(path: Path, images: Path | None = None) -> Annotated:
    """A CSV file; `images` is the folder that its paths are relative to, if not its own."""
    if not path.is_file():
        raise Fault(f"data.path must be a CSV file, got {whereabouts(path)}")
    rows: dict[str, list[tuple[int, dict[str, str]]]] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            given = [name.strip() for name in reader.fieldnames or []]
            columns = [name if name in COLUMNS else ALIASES.get(name, name) for name in given]
            if missing := [name for name in COLUMNS if name not in columns]:
                found = ", ".join(given) or "nothing"
                raise Fault(
                    f"{path} must have the columns {', '.join(COLUMNS)}, got {found}; {missing[0]} is missing",
                    code=Fault.DATA,
                )
            for row in reader:
                values = {name: (value or "").strip() for name, value in zip(columns, row.values(), strict=False)}
                if values.get("path"):
                    rows[values["path"]].append((reader.line_num, values))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Fault(f"{path} must be comma-separated text in UTF-8: {error}", code=Fault.DATA) from None
    root = images or path.parent
    annotations.check_pictures([root / name for name in rows], path)
    return Annotated([_item(path, root, name, lines) for name, lines in rows.items()])


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`images/` and `boxes.csv`. Masks are lost."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "split", "group", "difficult", "crowd"])
        for item in items:
            name = f"images/{item.split or 'all'}/{annotations.inner_name(item)}"
            annotations.save(item, folder / name)
            kept = (item.split or "", item.group or "")
            for found in item.objects:
                box = [f"{value:.10g}" for value in found.box]
                writer.writerow([name, *box, found.name, *kept, int(found.difficult), int(found.crowd)])
            if not item.objects:
                writer.writerow([name, "", "", "", "", "", *kept, "", ""])


def _item(path: Path, root: Path, name: str, lines: Sequence[tuple[int, dict[str, str]]]) -> Item:
    objects, troubles = [], []
    for line, row in lines:
        corners = [row.get(key, "") for key in COLUMNS[1:5]]
        if not any(corners) and not row.get("label"):
            continue
        box = annotations.numbers(corners)
        if box is None or not row.get("label"):
            troubles.append(
                ("malformed annotation", f"line {line}: {', '.join(corners)}, {row.get('label') or 'no label'}")
            )
            continue
        difficult, crowd = (row.get(key, "").lower() in ("1", "true", "yes") for key in ("difficult", "crowd"))
        objects.append(Object(box, row["label"], difficult, crowd))
    splits = {row.get("split", "") for _, row in lines}
    if len(splits) > 1 or not {split.lower() for split in splits} <= {"", *SPLITS}:
        listed = ", ".join(sorted(SPLITS))
        raise Fault(f"{path}: the rows of {name} must name one split of {listed}, got {', '.join(sorted(splits))}")
    split, group = SPLITS.get(splits.pop().lower()), lines[0][1].get("group") or None
    return Item(
        printable(name), annotations.picture(root / name), tuple(objects), split, group, troubles=tuple(troubles)
    )
