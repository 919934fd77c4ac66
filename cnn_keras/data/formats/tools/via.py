"""VGG's Image Annotator: a JSON file – of annotations or of a project – or a CSV file, with regions in pixels.

Dutta and Zisserman, "The VIA annotation software for images, audio and video", 2019. Rectangles, polygons, circles and
ellipses are things; points and lines have no inside and are none. The class is the attribute called `class`, `label`,
`name` or `type`, or else the only one that a region has.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import describe_path
from cnn_keras.data.files.input_file import is_regular, read_json, read_text
from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

CLASS = ("class", "label", "name", "type")  # attributes, in any capitals
NO_INSIDE = ("point", "polyline", "line")
SHAPES = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "polygon": ("all_points_x", "all_points_y"),
}


def read(path: Path, images: Path | None = None) -> Annotations:
    """A JSON or CSV file; pictures are looked for in `images`, or else beside it and in `images/` there."""
    if not is_regular(path):
        raise Fault(f"data.path must be a JSON or CSV file, got {describe_path(path)}")
    regions: dict[str, list[Any]] = {}
    for name, row in _rows(path):
        regions.setdefault(name, []).extend(row)
    root = images or path.parent
    places = Places([root, root / "images"])
    files = places.files(regions)
    annotation.check_pictures(files.values(), path, next(iter(regions), ""))
    ids = image_paths.ids(root, files)
    items = []
    for name, row in regions.items():
        objects, troubles = [], [] if row else [("without annotation", "it has no regions")]
        for number, region in enumerate(row, 1):
            object_ = _object(region)
            if isinstance(object_, Object):
                objects.append(object_)
            else:
                troubles.append((object_, f"region {number}: {str(region)[:60]}"))
        read_image = annotation.image_reader(files[name] or root / name)
        items.append(Item(ids[name], read_image, tuple(objects), troubles=tuple(troubles), file=files[name]))
    return Annotations(items, notes=places.notes(path), roots=(path.parent, root))


def _rows(path: Path) -> Iterator[tuple[str, list[Any]]]:
    """The names of pictures, each with regions: mappings of shape_attributes and region_attributes."""
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
        names = [name.lstrip("#") for name in rows.fieldnames or ()]
        if not {"filename", "region_shape_attributes", "region_attributes"} <= set(names):
            raise Fault(f"{path} must have VIA's columns, got {', '.join(names)[:200] or 'none'}", code=Fault.DATA)
        rows.fieldnames = names
        for row in rows:
            keys = ("region_shape_attributes", "region_attributes")
            shape, attributes = (_mapping(row.get(key)) for key in keys)
            yield str(row["filename"]), [{"shape_attributes": shape, "region_attributes": attributes}] if shape else []
        return
    document = read_json(path)
    entries = document.get("_via_img_metadata", document) if isinstance(document, dict) else None
    entries = list(entries.values()) if isinstance(entries, dict) else []
    entries = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("filename"), str)]
    if not entries or not any("regions" in entry for entry in entries):
        kind = annotation.tool_of(document)
        raise Fault(f"{path} must hold VIA's regions, got {type(document).__name__}{kind}", code=Fault.DATA)
    for entry in entries:
        regions = entry.get("regions")  # a mapping in VIA 1
        yield (
            entry["filename"],
            list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else [],
        )


def _mapping(text: str | None) -> dict[str, Any]:
    try:
        mapping = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"name": f"no JSON: {text}"}
    return mapping if isinstance(mapping, dict) else {}


def _object(region: Any) -> Object | str:
    """What a region says, or the kind of trouble with it."""
    keys = ("shape_attributes", "region_attributes")
    shape, attributes = (region.get(key) if isinstance(region, dict) else None for key in keys)
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        return "malformed annotation"
    kind, name = str(shape.get("name")), _label(attributes)
    if kind in NO_INSIDE:
        return "line or point, no thing"
    if kind not in SHAPES:
        return "unknown shape"
    outline = _outline(kind, [shape.get(key) for key in SHAPES[kind]], shape.get("theta") or 0)
    if not name or outline is None:
        return "malformed annotation"
    box = annotation.enclosing_box(outline)
    return Object(box, name, mask=run_length.rectangle(box) if kind == "rect" else (outline,))


def _label(attributes: Mapping[str, Any]) -> str:
    """The class of a region; "" where its attributes do not say which one."""
    lower = {str(key).lower(): value for key, value in attributes.items()}
    named = [lower[key] for key in CLASS if lower.get(key)] or (list(lower.values()) if len(lower) == 1 else [""])
    value = named[0]
    if isinstance(value, dict):  # of a group of checkboxes, those that are ticked
        ticked = [str(key) for key, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else ""
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _outline(kind: str, points: Sequence[Any], theta: Any) -> tuple[float, ...] | None:
    """The outline of a shape, x, y, x, y, …; None where what is given is no such shape."""
    if kind == "polygon":
        x, y = (annotation.finite_numbers(point) if isinstance(point, list) else None for point in points)
        if not x or not y or len(x) != len(y) or len(x) < 3:
            return None
        return tuple(edge for point in zip(x, y, strict=True) for edge in point)
    numbers = annotation.finite_numbers([*points, theta])
    if numbers is None or min(numbers[2:-1]) < 0:
        return None
    if kind == "rect":
        left, top, width, height, _ = numbers
        return left, top, left + width, top, left + width, top + height, left, top + height
    column, row, *radii, turn = numbers  # a circle has one radius
    return annotation.ellipse(column, row, radii[0], radii[-1], turn)
