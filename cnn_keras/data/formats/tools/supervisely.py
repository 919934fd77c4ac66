"""Supervisely's projects: `meta.json`, and in the folder of each data set `ann/NAME.json` beside `img/NAME`.

The format of docs.supervisely.com. Rectangles, whose second corner is the last pixel, polygons with their holes and
bitmaps – a PNG file, compressed by zlib and in base64, at its `origin` – are things; points and lines have no inside
and are none. A data set called train, val or test is that split.
"""

import base64
import io
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import SPLITS, describe_path, refuse
from cnn_keras.data.files.image_file import BROKEN, PIXEL_LIMIT
from cnn_keras.data.files.input_file import is_folder, is_regular, read_json
from cnn_keras.data.run_length import Malformed
from cnn_keras.errors import Fault, Unreadable

NO_INSIDE = ("point", "line", "multiline", "graph")
LARGEST = 64 * 2**20  # bytes of a bitmap's PNG file


def read(path: Path) -> Annotations:
    """A project, or the folder of one of its data sets; a picture without a JSON file is background.

    Raises:
        Fault: there is no such folder, or no JSON file in a folder `ann` is below it.
    """
    if not is_folder(path):
        raise Fault(f"data.path must be the folder of a project, got {describe_path(path)}")
    files = [file for file in annotation.files_below(path, [".json"]) if file.parent.name == "ann"]
    if not files:
        raise Fault(f"data.path must hold JSON files in folders ann beside img, got {describe_path(path)}")
    items = [_item(path, file) for file in files]
    annotation.check_pictures([item.file for item in items], files[0].parent / "any.json", f"../img/{files[0].stem}")
    used = {item.file for item in items}
    for folder in sorted({file.parent.parent / "img" for file in files}):
        for picture in annotation.pictures_below(folder) if is_folder(folder) else ():
            if picture not in used:
                trouble = ("without annotation", "no JSON file is called so")
                name = annotation.relative_id(path, picture)
                items.append(Item(name, annotation.image_reader(picture), troubles=(trouble,), file=picture))
    items = [item._replace(split=_split(item.id)) for item in items]
    return Annotations(items, _classes(path), roots=(path,))


def _classes(path: Path) -> tuple[str, ...]:
    """The names that a project's `meta.json` declares, of things with an inside; none without it."""
    file = next((one for one in (path / "meta.json", path.parent / "meta.json") if is_regular(one)), None)
    meta = read_json(file) if file else None
    rows = meta.get("classes") if isinstance(meta, dict) else None
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(
        dict.fromkeys(str(row["title"]) for row in rows if row.get("title") and row.get("shape") not in NO_INSIDE)
    )


def _item(path: Path, file: Path) -> Item:
    img = file.parent.parent / "img"
    named = (
        [img / file.stem, *(one for one in annotation.pictures_below(img) if one.stem == file.stem)]
        if is_folder(img)
        else []
    )
    picture = next((one for one in named if is_regular(one)), None)
    name = annotation.relative_id(path, picture or img / file.stem)
    try:
        document = read_json(file)
        rows, sides = document["objects"], document["size"]
        size = annotation.stated_size(sides["height"], sides["width"])
        if not isinstance(rows, list):
            raise TypeError
    except (Fault, KeyError, TypeError) as error:
        said = str(error) if isinstance(error, Fault) else f"{file.name} lacks objects and size"
        return Item(name, partial(refuse, "broken annotation", said), file=picture)
    objects, troubles = [], []
    for number, row in enumerate(rows, 1):
        one = _object(row, size) if isinstance(row, dict) else "malformed annotation"
        if isinstance(one, Object):
            objects.append(one)
        else:
            troubles.append((one, f"object {number}: {str(row)[:60]}"))
    reader = annotation.image_reader(picture or img / file.stem)
    return Item(name, reader, tuple(objects), size=size, troubles=tuple(troubles), file=picture)


def _object(row: dict[str, Any], size: tuple[int, int] | None) -> Object | str:
    """What an object says, or the kind of trouble with it."""
    name, kind = str(row.get("classTitle") or "").strip(), row.get("geometryType")
    if kind in NO_INSIDE:
        return "line or point, no thing"
    if kind not in ("rectangle", "polygon", "bitmap"):
        return "unknown shape"
    if not name:
        return "malformed annotation"
    if kind == "bitmap":
        return _bitmap(row.get("bitmap"), name, size)
    points: Any = row.get("points")
    rings = [points.get("exterior"), *(points.get("interior") or ())] if isinstance(points, dict) else []
    outlines = [_outline(ring) for ring in rings]
    outline = outlines[0] if outlines else None
    if outline is None or None in outlines:
        return "malformed annotation"
    if kind == "rectangle":
        left, top, right, bottom = annotation.enclosing_box(outline)
        box = (left, top, right + 1, bottom + 1)
        return Object(box, name, mask=run_length.rectangle(box))
    if any(ring is None or len(ring) < 6 for ring in outlines):
        return "malformed annotation"
    mask: Any = (outline,)
    if len(outlines) > 1:
        mask = _without_holes(outline, [ring for ring in outlines[1:] if ring], size)
    return Object(annotation.enclosing_box(outline), name, mask=mask)


def _outline(ring: Any) -> tuple[float, ...] | None:
    """The points of a ring as x, y, x, y, …; None where they are none."""
    try:
        found = annotation.finite_numbers([edge for x, y in ring for edge in (x, y)])
    except (TypeError, ValueError):
        return None
    return found if found and len(found) >= 4 else None


def _without_holes(outline: tuple[float, ...], holes: list[tuple[float, ...]], size: tuple[int, int] | None) -> Any:
    """The run lengths of a polygon without its holes."""
    if size is None or size[0] * size[1] > PIXEL_LIMIT:
        return Malformed("a polygon with holes needs a picture of a known, bearable size")
    try:
        inside = run_length.rasterize((outline,), size)
        return run_length.encode(inside & ~run_length.rasterize(tuple(holes), size))
    except Unreadable as error:
        return Malformed(str(error))


def _bitmap(given: Any, name: str, size: tuple[int, int] | None) -> Object | str:
    """The object of a bitmap, whose box surrounds the pixels that are set."""
    try:
        left, top = (int(edge) for edge in given["origin"])
        data = zlib.decompressobj().decompress(base64.b64decode(given["data"]), LARGEST)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if size is None or max(size[0] * size[1], image.width * image.height) > PIXEL_LIMIT:
                return "malformed annotation"
            clear = image.mode in ("RGBA", "LA") or "transparency" in image.info
            inside = np.asarray(image.convert("RGBA"))[..., 3] > 0 if clear else np.asarray(image.convert("L")) > 0
    except (*BROKEN, KeyError, TypeError, ValueError, OverflowError, zlib.error):
        return "malformed annotation"
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return "malformed annotation"
    box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
    mask = run_length.encode_at(inside, (top, left), size)
    return Object((float(box[0]), float(box[1]), float(box[2]), float(box[3])), name, mask=mask)


def _split(name: str) -> str | None:
    return next((SPLITS[part.lower()] for part in name.split("/")[:-1] if part.lower() in SPLITS), None)
