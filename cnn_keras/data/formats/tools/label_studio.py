"""Label Studio's own JSON: tasks with `data`, where the picture is, and `annotations` in hundredths of its sides.

The format of labelstud.io. Rectangles turn about their upper left corner, which its exports to COCO and YOLO leave out
of account; here they are polygons, with the box around them. Polygons, ellipses and what its brush has painted are
read as well; of several annotations of a task the first that was not cancelled counts.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, describe_path, refuse
from cnn_keras.data.files.input_file import is_regular, read_json
from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.data.formats.tools import label_studio_brush
from cnn_keras.errors import Fault

OF_THE_PICTURE = ("choices", "textarea", "rating", "taxonomy", "relation")  # as a whole
BRUSH = "brushlabels"
KINDS = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "ellipselabels": "ellipse", BRUSH: "brush"}


def read(path: Path, images: Path | None = None) -> Annotations:
    """A JSON file; pictures are looked for by the ends of their addresses in `images`, or else beside it.

    Raises:
        Fault: there is no such file, or it holds no tasks of Label Studio.
    """
    if not is_regular(path):
        raise Fault(f"data.path must be a JSON file, got {describe_path(path)}")
    tasks = read_json(path)
    if not isinstance(tasks, list) or not any(isinstance(task, dict) and "data" in task for task in tasks):
        kind = annotation.tool_of(tasks)
        raise Fault(f"{path} must hold Label Studio's tasks, got {type(tasks).__name__}{kind}", code=Fault.DATA)
    named = {place: name for place, task in enumerate(tasks) if (name := _name(task))}
    root = images or path.parent
    base = Places([])
    places = Places([root, *(folder for inner in ("images", "upload") if (folder := base.within(root, inner)))])
    files = places.files(named.values())
    annotation.check_pictures(files.values(), path, next(iter(named.values()), ""))
    ids = image_paths.ids(root, files)
    items = []
    for place, task in enumerate(tasks):
        if name := named.get(place):
            file = files[name]
            objects, troubles, size = _objects(task, file)
            picture = annotation.image_reader(file or root / name)
            items.append(Item(ids[name], picture, tuple(objects), size=size, troubles=tuple(troubles), file=file))
        else:
            problem = f"task {place + 1} has no picture in its data: {str(task)[:60]}"
            items.append(Item(f"{path.name}, task {place + 1}", partial(refuse, "broken annotation", problem)))
    return Annotations(items, notes=places.notes(path), roots=(path.parent, root))


def _name(task: Any) -> str | None:
    """Where the picture of a task is: the first address of a picture in its data, without a server."""
    data = task.get("data") if isinstance(task, dict) else None
    for value in data.values() if isinstance(data, Mapping) else ():
        if isinstance(value, str):
            try:
                address = urlsplit(value)
            except ValueError:
                continue
            local = parse_qs(address.query).get("d")  # its local storage
            name = local[0] if local else unquote(address.path)
            if name.lower().endswith(tuple(IMAGE_SUFFIXES)):
                return name
    return None


def _objects(
    task: dict[str, Any], file: Path | None
) -> tuple[list[Object], list[tuple[str, str]], tuple[int, int] | None]:
    """What a task says is in its picture, what it says wrongly, and the size that it states."""
    annotations = task.get("annotations", task.get("completions"))
    results = [entry for entry in annotations if isinstance(entry, dict)] if isinstance(annotations, list) else []
    results = [entry for entry in results if not entry.get("was_cancelled") and isinstance(entry.get("result"), list)]
    if not results:
        return [], [("without annotation", "its task has none")], None
    objects, troubles, size = [], [], None
    if len(results) > 1:
        troubles.append(("annotated more than once", f"{len(results)} annotations, the first is taken"))
    for place, region in enumerate(results[0]["result"], 1):
        kind: Any = region.get("type") if isinstance(region, dict) else None
        if kind in OF_THE_PICTURE:
            continue
        given_size_ = isinstance(region, dict) and annotation.stated_size(
            region.get("original_height"), region.get("original_width")
        )
        size = size or given_size_ or None
        known = isinstance(kind, str) and kind in KINDS
        given_size = given_size_ or (annotation.image_size(file) if file else None)
        object_ = _object(region, kind, given_size) if known else None
        if object_ is None:
            what = "malformed annotation" if known or not isinstance(kind, str) else "unknown shape"
            troubles.append((what, f"region {place}: {str(region)[:60]}"))
        else:
            objects.append(object_)
    return objects, troubles, size


def _object(region: dict[str, Any], kind: str, size: tuple[int, int] | None) -> Object | None:
    value: Any = region.get("value")
    labels = value.get(kind) if isinstance(value, dict) else None
    if not isinstance(labels, list) or not labels or size is None:
        return None
    if kind == BRUSH:
        return _painted(value.get("rle"), str(labels[0]), size)
    points = _points(KINDS[kind], value, size)
    if points is None:
        return None
    plain = kind == "rectanglelabels" and not value.get("rotation")
    mask = None if plain else (tuple(points),)
    return Object(annotation.enclosing_box(points), str(labels[0]), mask=mask)


def _painted(packed: Any, name: str, size: tuple[int, int]) -> Object | None:
    """What the brush has painted, and the box around it; None where that cannot be read or is nothing."""
    try:
        inside = label_studio_brush.decode(packed, size)
    except (TypeError, ValueError):
        return None
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Object(box, name, mask=run_length.encode(inside))


def _points(kind: str, value: dict[str, Any], size: tuple[int, int]) -> list[float] | None:
    """The outline of a region in pixels, x, y, x, y, …; None where a number is none."""
    height, width = size
    if kind == "polygon":
        points: Any = value.get("points")
        try:
            flat = annotation.finite_numbers([edge for point in points for edge in point])
        except TypeError:
            return None
        if flat is None or len(flat) < 6 or len(flat) % 2:
            return None
        return [edge * (width, height)[place % 2] / 100 for place, edge in enumerate(flat)]
    keys = ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    numbers = annotation.finite_numbers([*(value.get(key) for key in keys), value.get("rotation") or 0])
    if numbers is None:
        return None
    x, y, across, down = (edge * side / 100 for edge, side in zip(numbers, (width, height) * 2, strict=False))
    turn = math.radians(numbers[4])  # clockwise, about the corner or the centre, in pixels
    if kind == "ellipse":
        return list(annotation.ellipse(x, y, across, down, turn))
    outline = [(0.0, 0.0), (across, 0.0), (across, down), (0.0, down)]
    return list(annotation.rotated(outline, x, y, turn))
