"""Annotated pictures: what is where in them, whatever file says so.

A source is a function that returns items and, where it declares them, the names of the classes. Classes are known by
name alone: numbers mean something only inside a file. `source: NAME` in a recipe is one of `SOURCES`, each a file of
this folder. Paths are relative to the file that names them. What annotations say wrongly is kept beside them as
troubles, grouped and told when the data is prepared; nothing is mended here.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from cnn_keras.data import read
from cnn_keras.data.read import SPLITS
from cnn_keras.data.read import split_in as split_in
from cnn_keras.fault import Fault

SOURCES = {  # of annotated pictures: a function `read` in each file
    "coco": "coco",
    "voc": "voc",
    "yolo": "yolo",
    "csv": "box_table",
    "labelme": "labelme",
    "deepforest": "deepforest",
    "composites": "composites",
    "points": "points",
    "cards": "cards",
}
FORMATS = ("coco", "voc", "yolo", "csv", "labelme")  # those that can be written, too


class Landmark(NamedTuple):
    """One point of a thing, by its name: x and y in pixels, from the picture's left and top edge."""

    name: str
    x: float
    y: float
    visible: bool = True  # False too where it is not known, or outside the picture


class Object(NamedTuple):
    """One thing in a picture."""

    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels, edges: 0 to the picture's width
    name: str  # of its class
    difficult: bool = False  # hard to see even for a person; measured apart
    crowd: bool = False  # many in one box; neither learnt nor counted as a miss
    mask: Any = None  # polygons, a tuple of (x, y, x, y, …) in pixels; or COCO's run lengths, see `masks`
    landmarks: tuple[Landmark, ...] = ()  # in one order for all things of a source


class Item(NamedTuple):
    """One picture and what is in it; the picture has not been read yet."""

    id: str  # the path below the source's folder
    read: Callable[[], bytes]  # the encoded file; raises Unreadable for what is none
    objects: tuple[Object, ...] = ()
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group (a scene, a flight) stay in one split
    size: tuple[int, int] | None = None  # height and width that the annotations state
    troubles: tuple[tuple[str, str], ...] = ()  # kind and detail of what the annotations say wrongly

    @property
    def label(self) -> str:
        """What two copies of one picture should agree in."""
        return repr(sorted((found.name, found.box) for found in self.objects))


class Annotated(NamedTuple):
    """What a source holds: its items, and the classes it declares, in its order; () where it declares none."""

    items: list[Item]
    classes: tuple[str, ...] = ()


def annotated(source: str, *, group: str | None = None, **arguments) -> Annotated:
    """What `source` holds: coco, voc, yolo, csv, labelme, deepforest or composites.

    Args:
        group: a regular expression searched in each id; its first parenthesis names the item's group.
        arguments: of the source's `read`; those that are None are left out.

    Raises:
        Fault: an unknown source, an argument that it needs or does not take, or nothing that can be used.
    """
    if source not in SOURCES:
        raise Fault(f"data.source must be one of {', '.join(SOURCES)}, got {source!r}")
    module = import_module(f"cnn_keras.data.{SOURCES[source]}")
    items, classes = read.called(module.read, source, arguments)
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise Fault(f"{source} must list every picture once, got {twice[0]} more than once", code=Fault.DATA)
    if group is not None:
        items = [item._replace(group=read.group_in(group, item.id)) for item in items]
    return Annotated(items, classes)


def write(format_: str, items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """Write pictures and annotations into a new folder, in one of FORMATS: see `write` of its file.

    Raises:
        Fault: an unknown format, or a folder that holds something.
    """
    if format_ not in FORMATS:
        raise Fault(f"format must be one of {', '.join(FORMATS)}, got {format_!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Fault(f"the folder to write must be new or empty, got {read.whereabouts(folder)}")
    import_module(f"cnn_keras.data.{SOURCES[format_]}").write(items, folder, classes=classes)


def picture(path: Path) -> Callable[[], bytes]:
    """What reads a picture's file: where there is none, it says so, as one thing wrong among others."""
    return path.read_bytes if path.is_file() else partial(read.refuse, "missing image", f"{path} is not there")


def check_pictures(paths: Sequence[Path], where: Path) -> None:
    """Raise a Fault if there are no pictures named, or none of those named exists: the folder is wrong, not a file."""
    if not paths:
        raise Fault(f"{where} must name at least one picture, got none", code=Fault.DATA)
    if not any(path.is_file() for path in paths):
        raise Fault(
            f"{where} must name pictures that are there, relative to itself, got {read.whereabouts(paths[0])}; "
            "put them there, or say where they are with data.images",
            code=Fault.DATA,
        )


def pictures_below(folder: Path) -> list[Path]:
    """Every file below a folder whose suffix is a picture's, in order."""
    found = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in read.IMAGE_SUFFIXES)
    return [path for path in found if path.is_file() and not path.name.startswith(read.HIDDEN)]


def plainly(path: Path) -> Path:
    """An absolute path without "..", its links not followed: two of one file are the same."""
    return Path(os.path.normpath(path.absolute()))


def below(root: Path, path: Path) -> str:
    """A path as it is seen from a folder, as an id; the file's name where it is elsewhere."""
    inner, folder = plainly(path), plainly(root)
    return read.printable(inner.relative_to(folder) if inner.is_relative_to(folder) else inner.name)


def extent(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture's file as a person sees it, from its header; None where it has none."""
    try:
        with Image.open(path, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, UnidentifiedImageError):
        return None
    return (width, height) if turned else (height, width)


def document(path: Path) -> dict:
    """The mapping that a JSON file holds, or a Fault that names what is there instead."""
    if not path.is_file():
        raise Fault(f"data.path must be a JSON file, got {read.whereabouts(path)}")
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Fault(f"{path} must be JSON in UTF-8: {error}", code=Fault.DATA) from None
    if not isinstance(found, dict):
        raise Fault(f"{path} must hold a mapping, got {type(found).__name__}", code=Fault.DATA)
    return found


def numbers(values: Sequence[Any]) -> tuple[float, ...] | None:
    """Finite numbers, or None where one is none."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return found if all(abs(number) < 1e12 for number in found) else None


def around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """The box around x, y, x, y, …"""
    x, y = points[0::2], points[1::2]
    return min(x), min(y), max(x), max(y)


def inner_name(item: Item) -> str:
    """An item's id without the folders that a writer makes anew: of pictures and of the split."""
    parts = Path(item.id).parts
    while len(parts) > 1 and (parts[0].lower() in ("images", "jpegimages") or _names_split(parts[0], item)):
        parts = parts[1:]
    return "/".join(part for part in parts if part not in ("/", ".."))


def save(item: Item, path: Path) -> tuple[int, int]:
    """Write an item's picture as it is; return its height and width.

    Raises:
        Fault: a picture that cannot be read, or whose name is another one's.
    """
    if path.exists():
        raise Fault(f"pictures must have names that differ, got {path.name} twice; one of them is {item.id}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(item.read())
    except (OSError, ValueError) as error:  # Unreadable is a ValueError
        raise Fault(f"{item.id} must be a picture that can be read: {error}", code=Fault.DATA) from error
    size = extent(path)
    if size is None:
        raise Fault(f"{item.id} must be a picture that can be read: it has no header of one", code=Fault.DATA)
    return size


def _names_split(part: str, item: Item) -> bool:
    return item.split is not None and SPLITS.get(part.lower()) == item.split
