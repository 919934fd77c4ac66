"""LabelMe's JSON: one file for each picture, `shapes` of points in pixels; polygons are masks, the box surrounds them.

The format of github.com/wkentaro/labelme. The picture is `imagePath`, relative to the file, or in it as `imageData`. A
flag `difficult` or `crowd` of a shape is kept.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from cnn_keras.data import annotations
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.read import SPLITS, refuse, whereabouts
from cnn_keras.fault import Fault


def read(path: Path) -> Annotated:
    """A folder with JSON files below it; folders named train, val and test prescribe the split.

    A picture beside them without a JSON file is background.
    """
    if not path.is_dir():
        raise Fault(f"data.path must be a folder of JSON files, got {whereabouts(path)}")
    files = [file for file in sorted(path.rglob("*.json")) if not file.name.startswith(".")]
    if not files:
        raise Fault(f"data.path must hold JSON files, got {whereabouts(path)}", code=Fault.DATA)
    found = [_one(path, file) for file in files]
    used = {annotations.plainly(image) for image, _ in found if image}
    items = [item for _, item in found]
    for file in annotations.pictures_below(path):
        if annotations.plainly(file) not in used:
            trouble = ("without annotation", "no JSON file names it")
            items.append(Item(annotations.below(path, file), annotations.picture(file), troubles=(trouble,)))
    return Annotated([item._replace(split=_split(item.id)) for item in items])


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """A JSON file beside each picture, in folders by split; shapes are polygons where masks are, else rectangles.

    Run-length masks become rectangles.
    """
    for item in items:
        short = "val" if item.split == "validation" else item.split or "."
        image = folder / short / annotations.inner_name(item)
        height, width = annotations.save(item, image)
        file = image.with_suffix(".json")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {image.name}: both are {file.name}")
        found = {"version": "5.5.0", "flags": {}, "shapes": [_shape(one) for one in item.objects]}
        found |= {"imagePath": image.name, "imageData": None, "imageHeight": height, "imageWidth": width}
        file.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def _shape(found: Object) -> dict:
    flags = {key: True for key in ("difficult", "crowd") if getattr(found, key)}
    shape = {"label": found.name, "group_id": None, "flags": flags}
    if isinstance(found.mask, tuple) and len(found.mask) == 1:
        points = found.mask[0]
        return shape | {"shape_type": "polygon", "points": list(zip(points[0::2], points[1::2], strict=True))}
    left, top, right, bottom = found.box
    return shape | {"shape_type": "rectangle", "points": [[left, top], [right, bottom]]}


def _one(path: Path, file: Path) -> tuple[Path | None, Item]:
    try:
        document = annotations.document(file)
        shapes = list(document["shapes"])
    except (Fault, KeyError, TypeError) as error:
        name = annotations.below(path, file)
        said = str(error) if isinstance(error, Fault) else "it holds no shapes"
        return None, Item(name, partial(refuse, "broken annotation", said))
    image = file.parent / str(document.get("imagePath") or f"{file.stem}.jpg").replace("\\", "/")
    objects, troubles = [], []
    for number, shape in enumerate(shapes, 1):
        found = _object(shape) if isinstance(shape, dict) else None
        if found is None:
            troubles.append(("malformed annotation", f"shape {number}: {str(shape)[:60]}"))
        else:
            objects.append(found)
    stated = annotations.numbers([document.get("imageHeight"), document.get("imageWidth")])
    size = (int(stated[0]), int(stated[1])) if stated else None
    read = _picture(image, document.get("imageData"))
    name = annotations.below(path, image)
    return image, Item(name, read, tuple(objects), size=size, troubles=tuple(troubles))


def _object(shape: dict) -> Object | None:
    try:
        points = annotations.numbers([value for point in shape["points"] for value in point])
    except (KeyError, TypeError):
        return None
    label, kind = str(shape.get("label") or "").strip(), shape.get("shape_type") or "polygon"
    if not label or points is None or len(points) < 4 or len(points) % 2:
        return None
    flags = shape.get("flags") or {}
    difficult, crowd = (bool(flags.get(key)) for key in ("difficult", "crowd"))
    if kind == "circle":  # the centre and a point of the rim
        radius = math.dist(points[:2], points[2:4])
        points = (points[0] - radius, points[1] - radius, points[0] + radius, points[1] + radius)
    mask = (points,) if kind == "polygon" and len(points) >= 6 else None
    return Object(annotations.around(points), label, difficult, crowd, mask)


def _picture(image: Path, data: str | None) -> Callable[[], bytes]:
    if image.is_file() or not data:
        return annotations.picture(image)
    try:
        return partial(bytes, base64.b64decode(data))
    except (binascii.Error, TypeError, ValueError):
        return partial(refuse, "broken annotation", "its imageData is not base64")


def _split(name: str) -> str | None:
    first, inner, _ = name.partition("/")
    return SPLITS.get(first.lower()) if inner else None
