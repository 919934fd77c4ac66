"""Annotated pictures: their types, and what readers and writers of all formats share. Needs no TensorFlow."""

import contextlib
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.files.file_tree import SPLITS
from cnn_keras.data.files.image_file import BROKEN
from cnn_keras.errors import Fault

CORNERS = 64  # of a polygon that stands for an ellipse
DROPPED = "box dropped"  # what becomes of an object that is of no use


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
    mask: Any = None  # polygons, a tuple of (x, y, x, y, …) in pixels; COCO's run lengths; or `run_length.Malformed`
    landmarks: tuple[Landmark, ...] = ()  # in one order for all things of a source
    score: float | None = None  # how sure a model is of it, 0 to 1; None of what a person has drawn


class Item(NamedTuple):
    """One picture and what is in it; the picture has not been read yet."""

    id: str  # the path below the source's folder
    read: Callable[[], bytes]  # the encoded file; raises Unreadable for what is none
    objects: tuple[Object, ...] = ()
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group (a scene, a flight) stay in one split
    size: tuple[int, int] | None = None  # height and width that the annotations state
    troubles: tuple[tuple[str, str], ...] = ()  # kind and detail of what the annotations say wrongly
    file: Path | None = None  # of the picture, where it is one

    @property
    def label(self) -> str:
        """What two copies of one picture should agree in."""
        return repr(sorted((object_.name, object_.box) for object_ in self.objects))


class Note(NamedTuple):
    """What is odd about a source as a whole, told once."""

    kind: str
    id: str  # the file that says so
    detail: str
    taken: str  # what was done


class Annotations(NamedTuple):
    """What a source holds.

    classes: those it declares, in its order; () where it declares none. roots: the folders that its pictures belong
    in; one elsewhere is named by an absolute path, by ".." or by a link, and is none of the data set's own.
    """

    items: list[Item]
    classes: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    roots: tuple[Path, ...] = ()


def image_reader(path: Path) -> Callable[[], bytes]:
    """What reads a picture's file: where there is none, it says so, as one thing wrong among others."""
    if input_file.is_regular(path):
        return partial(input_file.read_bytes, path)
    name = file_tree.printable_path(path)
    with contextlib.suppress(ValueError):  # of a name that holds a NUL
        if os.path.lexists(path):
            return partial(file_tree.refuse, "unreadable", f"{name} is no regular file that can be read")
    return partial(file_tree.refuse, "missing image", f"{name} is not there")


def reason_of(item: Item) -> tuple[str, str]:
    """The kind and detail of why an item cannot be read, where its source knows; ("", "") else."""
    if isinstance(item.read, partial) and item.read.func is file_tree.refuse:
        kind, detail = item.read.args
        return kind, detail
    return "", ""


def check_pictures(pictures: Iterable[Path | None], where: Path, example: str) -> None:
    """Raise a Fault if there are no pictures named, or none of those named exists: the folder is wrong, not a file."""
    paths = list(pictures)
    if not paths:
        raise Fault(f"{where} must name at least one picture, got none", code=Fault.DATA)
    if not any(path is not None and input_file.is_regular(path) for path in paths):
        raise Fault(
            f"{where} must name pictures that are there, relative to itself, got "
            f"{file_tree.describe_path(where.parent / example.lstrip('/'))}; "
            "put them there, or name their folder with data.images, in cnn convert with --images",
            code=Fault.DATA,
        )


def resolve_shared(item_of: dict[Path, Item], own: Callable[[Path], Item]) -> list[Item]:
    """The items of annotation files, of those that name one picture together each that of its own name.

    Args:
        item_of: the item of each file.
        own: the item of a file with the picture that is called like it, whatever the file says.
    """
    counts = Counter(item.id for item in item_of.values())
    stale = {
        file for file, item_ in item_of.items() if counts[item_.id] > 1 and item_.file and item_.file.stem != file.stem
    }
    ids = {item.id for file, item in item_of.items() if file not in stale}
    items = []
    for file, item in item_of.items():
        if file in stale:
            item, id_ = own(file), item.id
            if item.file is None or item.id in ids:
                reason = f"it names {id_}, which another file annotates"
                item = Item(f"{item.id}: {file.name}", partial(file_tree.refuse, "broken annotation", reason))
            else:
                trouble = ("name of another picture", f"{file.name} names {id_}, which another file annotates")
                item = item._replace(troubles=(*item.troubles, trouble))
            ids.add(item.id)
        items.append(item)
    return items


def files_below(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """Every file below a folder with one of the suffixes, in order; what is hidden is not looked at."""
    suffixes_ = tuple(suffixes)
    return sorted(
        file for _, files in file_tree.tree(folder) for file in files if file.name.lower().endswith(suffixes_)
    )


def pictures_below(folder: Path) -> list[Path]:
    """Every file below a folder whose suffix is a picture's, in order."""
    return files_below(folder, file_tree.IMAGE_SUFFIXES)


def normalized_path(path: Path) -> Path:
    """An absolute path without "..", its links not followed: two of one file are the same."""
    return Path(os.path.normpath(path.absolute()))


def relative_id(root: Path, path: Path) -> str:
    """A path as it is seen from a folder, as an id; the file's name where it is elsewhere."""
    inner, folder = normalized_path(path), normalized_path(root)
    return file_tree.printable_path(inner.relative_to(folder) if inner.is_relative_to(folder) else inner.name)


def image_size(file: Path | io.BytesIO) -> tuple[int, int] | None:
    """Height and width of a picture as a person sees it, from its header; None where it has none."""
    try:
        if isinstance(file, Path):
            input_file.check_regular(file)
        with Image.open(file, formats=("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")) as image:
            width, height = image.size
            swaps_axes = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except BROKEN:
        return None
    return (width, height) if swaps_axes else (height, width)


def read_json_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds, or a Fault that names what is there instead."""
    if not input_file.is_regular(path):
        raise Fault(f"data.path must be a JSON file, got {file_tree.describe_path(path)}")
    document = input_file.read_json(path)
    if not isinstance(document, dict):
        raise Fault(f"{path} must hold a mapping, got {type(document).__name__}{tool_of(document)}", code=Fault.DATA)
    return document


def tool_of(document: Any) -> str:
    """Whose format a JSON value is in, and what to do with it, to go behind a message; "" where it looks like none."""
    first = next(iter(document), None) if isinstance(document, list) else document
    if not isinstance(first, dict):
        return ""
    values = [value for value in first.values() if isinstance(value, dict)]
    known = (
        ("Label Studio's", {"data", "annotations"} <= first.keys() or {"data", "completions"} <= first.keys(),
         "read it with source labelstudio"),
        ("CreateML's", isinstance(document, list) and {"image", "annotations"} <= first.keys(),
         "export COCO's JSON (source coco) instead"),
        ("Label Studio's JSON-MIN", isinstance(document, list) and bool(first.keys() & {"lead_time", "annotator"}),
         "export its JSON instead and read it with source labelstudio"),
        ("VIA's", "_via_img_metadata" in first or any({"filename", "regions"} <= value.keys() for value in values),
         "read it with source via"),
        ("Supervisely's", {"objects", "size"} <= first.keys() or {"classes", "projectType"} <= first.keys(),
         "give its project's folder and read it with source supervisely"),
        ("VoTT's", {"assets", "tags"} <= first.keys() or {"asset", "regions"} <= first.keys(),
         "export its CSV (source csv) or Pascal VOC (source voc) instead"),
        ("Datumaro's", {"items", "categories"} <= first.keys(),
         "run `datum convert -f coco` and read that with source coco"),
        ("LabelMe's", {"shapes", "imagePath"} <= first.keys(), "give its folder and read it with source labelme"),
        ("COCO's", {"images", "annotations", "categories"} <= first.keys(), "read it with source coco"),
    )  # fmt: skip
    return next((f"; it looks like {tool}: {remedy}" for tool, fits, remedy in known if fits), "")


def finite_numbers(values: Any) -> tuple[float, ...] | None:
    """Finite numbers, or None where one is none."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(abs(number) < 1e12 for number in numbers) else None


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width that annotations state; None where they are not stated or are none."""
    size = finite_numbers([height, width])
    return (int(size[0]), int(size[1])) if size and min(size) >= 1 else None


def enclosing_box(points: Sequence[float]) -> tuple[float, float, float, float]:
    """The box around x, y, x, y, …"""
    x, y = points[0::2], points[1::2]
    return min(x), min(y), max(x), max(y)


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> tuple[float, ...]:
    """The outline of an ellipse as a polygon x, y, x, y, …: its centre, its half axes, turned clockwise in radians."""
    angles = [2 * math.pi * step / CORNERS for step in range(CORNERS)]
    rim = [(across * math.cos(angle), down * math.sin(angle)) for angle in angles]
    return rotated(rim, x, y, turn)


def rotated(outline: Iterable[tuple[float, float]], x: float, y: float, turn: float) -> tuple[float, ...]:
    """Points turned clockwise about the origin, in radians, and moved by x and y: x, y, x, y, …"""
    cos, sin = math.cos(turn), math.sin(turn)
    return tuple(edge for u, v in outline for edge in (x + u * cos - v * sin, y + u * sin + v * cos))


def inner_name(item: Item) -> str:
    """An item's id without the folders that a writer makes anew: of pictures and of the split."""
    parts = Path(item.id).parts
    while len(parts) > 1 and (parts[0].lower() in ("images", "jpegimages") or _names_split(parts[0], item)):
        parts = parts[1:]
    return "/".join(part for part in parts if part not in ("/", ".."))


def out_of_bounds_notes(items: Iterable[Item], where: Path) -> tuple[Note, ...]:
    """What to tell of an export of Label Studio of which boxes leave pictures of a stated size: they were turned."""
    out = [
        item.id
        for item in items
        if item.size
        and any(
            min(object_.box) < -1 or object_.box[2] > item.size[1] + 1 or object_.box[3] > item.size[0] + 1
            for object_ in item.objects
        )
    ]
    if not out:
        return ()
    note = "of its turned rectangles this export of Label Studio gives boxes that lie elsewhere"
    remedy = "export its own JSON and read it with source labelstudio"
    return (Note("boxes that leave their pictures", where.name, f"{len(out):,} × such as {out[0]}: {note}", remedy),)


def save(item: Item, path: Path) -> tuple[int, int]:
    """Write an item's picture as it is; return its height and width.

    Raises:
        Fault: a picture that cannot be read, or whose name is another one's.
        OSError: the picture cannot be written.
    """
    try:
        data = item.read()
    except (OSError, ValueError) as error:  # Unreadable is a ValueError
        raise Fault(f"{item.id} must be a picture that can be read: {error}", code=Fault.DATA) from error
    size = image_size(io.BytesIO(data))
    if size is None:
        raise Fault(f"{item.id} must be a picture that can be read: it has no header of one", code=Fault.DATA)
    if path.exists():
        raise Fault(f"pictures must have names that differ, got {path.name} twice; one of them is {item.id}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return size


def _names_split(part: str, item: Item) -> bool:
    return item.split is not None and SPLITS.get(part.lower()) == item.split
