"""LabelMe's JSON: one file for each picture, `shapes` of points in pixels, which are masks; the box surrounds them.

The format of github.com/wkentaro/labelme. Shapes of one label and one `group_id` are one thing. Rectangles, circles and
masks are exact; lines and points have no inside and are no things. The picture is `imagePath`, relative to the file, or
in it as `imageData`. A flag `difficult` or `crowd` of a shape is kept, and so is its `score`, as X-AnyLabeling has it.
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, SPLITS, describe_path, refuse
from cnn_keras.data.files.image_file import BROKEN, PIXEL_LIMIT
from cnn_keras.data.files.input_file import is_folder, is_regular, read_json
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.data.run_length import Malformed
from cnn_keras.errors import Fault

NO_INSIDE = ("line", "linestrip", "point", "points")
POLYGONS = ("polygon", "oriented_rectangle", "rotation")  # the last is X-AnyLabeling's
SMOOTH = 0.05  # pixels that the polygon of a circle may be off

Box = tuple[float, float, float, float]


def read(path: Path, images: Path | None = None) -> Annotations:
    """A folder with JSON files below it; folders named train, val and test prescribe the split.

    A picture beside them without a JSON file is background. `images` is the folder that paths are relative to, if not
    that of each file.

    Raises:
        Fault: there is no such folder, or no JSON file is below it.
    """
    if not is_folder(path):
        raise Fault(f"data.path must be a folder of JSON files, got {describe_path(path)}")
    files = annotation.files_below(path, [".json"])
    if not files:
        raise Fault(f"data.path must hold JSON files, got {describe_path(path)}", code=Fault.DATA)
    places = Places([])

    def item_of(file: Path, named: bool = True) -> Item:
        return _one(path, file, [images] if images else [file.parent], places, named)

    contents = annotation.resolve_shared({file: item_of(file) for file in files}, partial(item_of, named=False))
    _refuse_others(path, files, contents)
    used_pictures = {annotation.normalized_path(item.file) for item in contents if item.file}
    for file in annotation.pictures_below(path):
        if annotation.normalized_path(file) not in used_pictures:
            trouble = ("without annotation", "no JSON file names it")
            name = annotation.relative_id(path, file)
            contents.append(Item(name, annotation.image_reader(file), troubles=(trouble,), file=file))
    items = [item._replace(split=_split(item.id)) for item in contents]
    return Annotations(items, notes=places.notes(path), roots=(path, *([images] if images else [])))


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """A JSON file beside each picture, in folders by split; shapes are polygons or masks where those are known.

    Raises:
        Fault: two pictures differ in nothing but their suffix, or one cannot be read.
    """
    for item in items:
        short = "val" if item.split == "validation" else item.split or "."
        image = folder / short / annotation.inner_name(item)
        height, width = annotation.save(item, image)
        file = image.with_suffix(".json")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {image.name}: both are {file.name}")
        shapes = [shape for number, object_ in enumerate(item.objects, 1) for shape in _shapes(object_, number)]
        document: dict[str, Any] = {"version": "5.5.0", "flags": {}, "shapes": shapes}
        document |= {"imagePath": image.name, "imageData": None, "imageHeight": height, "imageWidth": width}
        file.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _shapes(object_: Object, group: int) -> list[dict[str, Any]]:
    """The shapes that an object is; those of one of several parts share a group."""
    flags = {key: True for key in ("difficult", "crowd") if getattr(object_, key)}
    shape: dict[str, Any] = {"label": object_.name, "group_id": None, "flags": flags}
    shape |= {} if object_.score is None else {"score": object_.score}
    if isinstance(object_.mask, dict):
        inside = run_length.decode(object_.mask)
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if len(rows):
            left, top, right, bottom = (int(edge) for edge in (columns[0], rows[0], columns[-1], rows[-1]))
            out = io.BytesIO()
            Image.fromarray(inside[top : bottom + 1, left : right + 1]).save(out, "PNG")
            data = base64.b64encode(out.getvalue()).decode()
            return [shape | {"shape_type": "mask", "points": [[left, top], [right, bottom]], "mask": data}]
    elif isinstance(object_.mask, tuple) and not isinstance(object_.mask, Malformed) and not _is_rectangle(object_):
        several = {"group_id": group} if len(object_.mask) > 1 else {}
        corners = [list(zip(points[0::2], points[1::2], strict=True)) for points in object_.mask]
        return [shape | several | {"shape_type": "polygon", "points": points} for points in corners]
    return [shape | {"shape_type": "rectangle", "points": [object_.box[:2], object_.box[2:]]}]


def _is_rectangle(object_: Object) -> bool:
    return bool(object_.mask == run_length.rectangle(object_.box))


def _one(path: Path, file: Path, roots: Sequence[Path], places: Places, named: bool) -> Item:
    """The picture of a JSON file, by the name in it where that counts (`named`), or by the file's own.

    A broken file is that of the picture of its name, which is not background then.
    """
    try:
        document = read_json(file)
        shapes = document["shapes"]
        if not isinstance(shapes, list):
            raise TypeError
    except (Fault, KeyError, TypeError) as error:
        problem = str(error) if isinstance(error, Fault) else f"it holds no shapes{annotation.tool_of(document)}"
        image = _picture(file, "", roots, places)
        return Item(annotation.relative_id(path, file), partial(refuse, "broken annotation", problem), file=image)
    image_path = document.get("imagePath") if named else None
    image = _picture(file, image_path if isinstance(image_path, str) else "", roots, places)
    size = annotation.stated_size(document.get("imageHeight"), document.get("imageWidth"))
    objects, troubles = _objects(shapes, size or (annotation.image_size(image) if image else None))
    called = str(image_path or f"{file.stem}.jpg").replace("\\", "/").rpartition("/")[2]
    place = image or file.parent / called
    read = annotation.image_reader(place) if image else _inner_picture(place, document.get("imageData"))
    name = annotation.relative_id(path, place)
    return Item(name, read, tuple(objects), size=size, troubles=tuple(troubles), file=image)


def _objects(shapes: Sequence[Any], size: tuple[int, int] | None) -> tuple[list[Object], list[tuple[str, str]]]:
    """The things of a picture: shapes of one label and group are one; and what shapes say wrongly."""
    objects: dict[Any, Object] = {}
    troubles = []
    for number, shape in enumerate(shapes, 1):
        object_ = _object(shape, size) if isinstance(shape, dict) else "malformed annotation"
        if not isinstance(object_, Object):
            troubles.append((object_, f"shape {number}: {str(shape)[:60]}"))
            continue
        group = shape.get("group_id")
        key = (object_.name, group) if isinstance(group, int | str) else number
        objects[key] = _merge(objects[key], object_) if key in objects else object_
    return list(objects.values()), troubles


def _object(shape: dict[str, Any], size: tuple[int, int] | None) -> Object | str:
    """What a shape says, or the kind of trouble with it."""
    label, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    label = str(label).strip() if isinstance(label, str | int | float) else ""
    try:
        points = annotation.finite_numbers([value for point in shape["points"] for value in point])
    except (KeyError, TypeError):
        return "malformed annotation"
    if not label or points is None or len(points) % 2:
        return "malformed annotation"
    if kind in NO_INSIDE:
        return "line or point, no thing"
    flags = shape.get("flags")
    flags = flags if isinstance(flags, dict) else {}
    difficult = bool(flags.get("difficult") or shape.get("difficult"))  # in X-AnyLabeling's files beside the flags
    crowd = bool(flags.get("crowd"))
    inside = _inside(kind, points, shape, size)
    if isinstance(inside, str):
        return inside
    score = annotation.finite_numbers([shape.get("score")])
    return Object(inside[0], label, difficult, crowd, inside[1], score=score[0] if score else None)


def _inside(
    kind: str, points: Sequence[float], shape: dict[str, Any], size: tuple[int, int] | None
) -> tuple[Box, Any] | str:
    """The box and the mask of a shape, or the kind of trouble with it."""
    if kind in POLYGONS and len(points) >= 6:
        return annotation.enclosing_box(points), (tuple(points),)
    if kind == "rectangle" and len(points) in (4, 8):  # two corners, or all four
        box = annotation.enclosing_box(points)
        return box, run_length.rectangle(box)
    if kind == "circle" and len(points) == 4:  # the centre and a point of the rim
        x, y, radius = *points[:2], math.dist(points[:2], points[2:])
        steps = max(12, math.ceil(math.pi / math.acos(1 - SMOOTH / max(radius, 2 * SMOOTH))))
        angles = [2 * math.pi * step / min(steps, 10_000) for step in range(min(steps, 10_000))]
        rim = [edge for angle in angles for edge in (x + radius * math.cos(angle), y + radius * math.sin(angle))]
        return (x - radius, y - radius, x + radius, y + radius), (tuple(rim),)
    if kind == "mask" and len(points) == 4:
        left, top, right, bottom = (round(edge) for edge in annotation.enclosing_box(points))
        box = (left, top, right + 1, bottom + 1)  # the second corner is the last pixel
        return (float(left), float(top), right + 1.0, bottom + 1.0), _mask_in_picture(shape.get("mask"), box, size)
    return "malformed annotation" if kind in (*POLYGONS, "rectangle", "circle", "mask") else "unknown shape"


def _mask_in_picture(
    data: Any, box: tuple[int, int, int, int], size: tuple[int, int] | None
) -> dict[str, Any] | Malformed:
    """The run lengths, in a picture of a size, of a mask that a shape holds as a PNG file of its box."""
    left, top, right, bottom = box
    if size is None or max(size[0] * size[1], (right - left) * (bottom - top)) > PIXEL_LIMIT:
        return Malformed("a mask needs a picture of a known, bearable size")
    try:
        with Image.open(io.BytesIO(base64.b64decode(data)), formats=("PNG",)) as image:
            if image.size != (right - left, bottom - top):
                return Malformed(f"the mask has {image.size} pixels, its box {(right - left, bottom - top)}")
            inside = np.asarray(image.convert("L")) > 0
    except BROKEN as error:
        return Malformed(f"the mask is no PNG file: {error}")
    return run_length.encode_at(inside, (top, left), size)


def _merge(first: Object, second: Object) -> Object:
    """One thing of two parts."""
    boxes = (first.box, second.box)
    box = annotation.enclosing_box([edge for box_ in boxes for edge in box_])
    return first._replace(
        box=box,
        difficult=first.difficult or second.difficult,
        crowd=first.crowd or second.crowd,
        mask=run_length.union(first.mask, second.mask),
    )


def _refuse_others(path: Path, files: Sequence[Path], items: Sequence[Item]) -> None:
    """Raise a Fault where none of the JSON files is LabelMe's, with the format that the first looks like."""
    broken = [annotation.reason_of(item) for item in items]
    if all(kind == "broken annotation" for kind, _ in broken):
        raise Fault(f"{path} must hold JSON files of LabelMe, got {files[0].name}: {broken[0][1]}", code=Fault.DATA)
    if not any(item.file for item in items) and all(kind == "missing image" for kind, _ in broken):
        raise Fault(f"{path} must hold the pictures of its JSON files beside them: {broken[0][1]}", code=Fault.DATA)


def _picture(file: Path, name: str, roots: Sequence[Path], places: Places) -> Path | None:
    """The picture of a JSON file: where it says, or by that name or its own beside it."""
    named_file = places.file(name, roots) if name else None
    own = (places.within(file.parent, f"{file.stem}{suffix}") for suffix in sorted(IMAGE_SUFFIXES))
    return named_file or next((image for image in own if image and is_regular(image)), None)


def _inner_picture(place: Path, data: Any) -> Callable[[], bytes]:
    if not data:
        return annotation.image_reader(place)
    try:
        return partial(bytes, base64.b64decode(data))
    except (binascii.Error, TypeError, ValueError):
        return partial(refuse, "broken annotation", "its imageData is not base64")


def _split(name: str) -> str | None:
    first, inner, _ = name.partition("/")
    return SPLITS.get(first.lower()) if inner else None
