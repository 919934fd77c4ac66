"""Pascal VOC's XML: one file for each picture, boxes in whole pixels that count from 1 and are both inside.

Everingham et al., "The Pascal visual object classes challenge", 2010. A box from xmin 1 to xmax 10 covers ten pixels
and is 0 to 10 here. `difficult` is kept.
"""

import contextlib
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, SPLITS, describe_path, refuse
from cnn_keras.data.files.input_file import TEXT_LIMIT, is_folder, is_regular, read_bytes
from cnn_keras.data.formats import split_lists
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

PICTURES = ("JPEGImages", "images", "data")  # folders, in any capitals; FiftyOne has data/ beside labels/
ANNOTATIONS = "annotations"
LISTS = ("ImageSets/Main", "ImageSets", "splits", "lists")  # folders, in any capitals


def read(path: Path, images: Path | None = None) -> Annotations:
    """A folder with XML files below it; pictures lie beside them, in `JPEGImages/`, `images/`, `data/`, or in `images`.

    `ImageSets/Main/train.txt`, `val.txt` and `test.txt` prescribe the split, and so do folders of these names. A
    picture beside them without an XML file is background.

    Raises:
        Fault: there is no such folder, or no XML file is below it.
    """
    if not is_folder(path):
        raise Fault(f"data.path must be a folder of XML files, got {describe_path(path)}")
    files = annotation.files_below(path, [".xml"])
    if not files:
        raise Fault(f"data.path must hold XML files, got {describe_path(path)}", code=Fault.DATA)
    _refuse_cvat(files)
    places = Places([])

    def item_of(file: Path, named: bool = True) -> Item:
        return _one(path, file, [images] if images else _roots(places, file), places, named)

    item_by_file = {file: item_of(file) for file in files}
    item_by_file = dict(zip(files, annotation.resolve_shared(item_by_file, partial(item_of, named=False)), strict=True))
    annotation.check_pictures([item.file for item in item_by_file.values()], files[0], files[0].stem)
    used_pictures = {annotation.normalized_path(item.file) for item in item_by_file.values() if item.file}
    names = {item.id: [_bare(item.id), file.stem] for file, item in item_by_file.items()}
    items = list(item_by_file.values())
    folders = [images] if images else sorted({item.file.parent for item in items if item.file})
    for file in (file for place in folders for file in annotation.pictures_below(place)):
        if annotation.normalized_path(file) not in used_pictures:
            used_pictures.add(annotation.normalized_path(file))
            trouble = ("without annotation", "no XML file names it")
            items.append(Item(_id(path, file), annotation.image_reader(file), troubles=(trouble,), file=file))
            names.setdefault(items[-1].id, [_bare(items[-1].id)])
    above = [path.parent] if path.name.lower() == ANNOTATIONS else []
    lists = [place for root in (path, *above) for name in LISTS if (place := places.within(root, name))]
    membership = split_lists.read(lists, names)
    items = [_in_split(item, membership) for item in items]
    for file, name in membership.strangers:
        reason = f"{file.name} lists it, but no picture is called so"
        items.append(Item(f"{file.name}: {name}", partial(refuse, "missing image", reason)))
    roots = (path, *_roots(places, path / "any.xml"), *([images] if images else []))
    return Annotations(items, notes=places.notes(path), roots=roots)


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`JPEGImages/`, `Annotations/` and, where items have a split, `ImageSets/Main/`. Crowds and masks are lost.

    Raises:
        Fault: two pictures differ in nothing but their suffix, or one cannot be read.
    """
    members: dict[str, list[str]] = {}
    for item in items:
        name = Path(annotation.inner_name(item)).as_posix()
        size = annotation.save(item, folder / "JPEGImages" / name)
        file = (folder / "Annotations" / name).with_suffix(".xml")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {name}: both are {file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_xml(item, name, size), encoding="utf-8")
        if item.split:
            members.setdefault(item.split, []).append(Path(name).with_suffix("").as_posix())
    for split, names in members.items():
        short = "val" if split == "validation" else split
        list_file = folder / "ImageSets" / "Main" / f"{short}.txt"
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def objects(root: ElementTree.Element, *, first: int = 1) -> tuple[list[Object], list[tuple[str, str]]]:
    """What the `object` elements of a file say, and what they say wrongly; `first` is the number of the first pixel."""
    objects_, troubles = [], []
    for number, element in enumerate(root.iter("object"), 1):
        name = (element.findtext("name") or "").strip()
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        box = annotation.finite_numbers(corners)
        if box is None or not name:
            troubles.append(("malformed annotation", f"object {number}: {name or 'no name'}, {corners}"))
            continue
        left, top, right, bottom = box
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        objects_.append(Object((left - first, top - first, right, bottom), name, difficult))
    return objects_, troubles


def _one(path: Path, file: Path, roots: Sequence[Path], places: Places, named: bool) -> Item:
    """The picture of an XML file, by the name in it where that counts (`named`), or by the file's own.

    A broken file is that of the picture of its name, which is not background then.
    """
    try:
        root = _parsed(file)
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        image = _picture(file, "", roots, places)
        return Item(_id(path, file), partial(refuse, "broken annotation", f"{file.name}: {problem}"), file=image)
    name = (root.findtext("filename") or "").strip() if named else ""
    image = _picture(file, name, roots, places)
    objects_, troubles = objects(root)
    size = annotation.stated_size(root.findtext("size/height"), root.findtext("size/width"))
    place = image or roots[0] / (name.replace("\\", "/").rpartition("/")[2] or f"{file.stem}.jpg")
    read = annotation.image_reader(place)
    return Item(_id(path, place), read, tuple(objects_), size=size, troubles=tuple(troubles), file=image)


def _refuse_cvat(files: Sequence[Path]) -> None:
    """Raise a Fault where all there is is one file of CVAT's own, with all pictures in it."""
    tag = ""
    with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError, OSError):  # told as a broken annotation
        tag = _parsed(files[0]).tag if len(files) == 1 else ""
    if tag == "annotations":
        raise Fault(
            f"{files[0]} must be Pascal VOC's XML, got CVAT's own; in CVAT export “Pascal VOC 1.1” (source voc) or "
            "“COCO 1.0” (source coco)",
            code=Fault.DATA,
        )


def _parsed(file: Path) -> ElementTree.Element:
    """The root of an XML file, decoded by its byte-order mark or by what it declares."""
    data = read_bytes(file, limit=TEXT_LIMIT)
    try:
        return ElementTree.fromstring(data)
    except (ValueError, LookupError):  # an encoding of several bytes a letter, which the parser does not know
        declared = re.match(rb"\s*<\?xml[^>]*?encoding=[\"']([\w.-]+)[\"'][^>]*\?>", data)
        if declared is None:
            raise
        return ElementTree.fromstring(data[declared.end() :].decode(declared.group(1).decode()))


def _roots(places: Places, file: Path) -> list[Path]:
    """The folders where the picture of an XML file may be."""
    base = next((parent for parent in file.parents if parent.name.lower() == ANNOTATIONS), file.parent)
    inner = file.parent.relative_to(base)
    beside = [places.within(above, name) for above in (file.parent, file.parent.parent) for name in PICTURES]
    below = [places.within(base.parent, f"{name}/{inner.as_posix()}") for name in PICTURES]
    return list(dict.fromkeys([file.parent, *(place for place in (*beside, *below) if place)]))


def _picture(file: Path, name: str, roots: Sequence[Path], places: Places) -> Path | None:
    """Where the picture of an XML file is: by the name in it, or else by its own name."""
    named_file = places.file(name, roots) if name else None
    own = (places.within(root, f"{file.stem}{suffix}") for suffix in sorted(IMAGE_SUFFIXES) for root in roots)
    picture = named_file or next((image for image in own if image and is_regular(image)), None)
    return annotation.normalized_path(picture) if picture else None


def _id(path: Path, file: Path) -> str:
    first, inside, inner = annotation.relative_id(path, file).partition("/")
    return inner if inside and first.lower() in ("jpegimages", ANNOTATIONS) else first + inside + inner


def _bare(name: str) -> str:
    return name.rpartition(".")[0] or name


def _in_split(item: Item, lists: split_lists.SplitLists) -> Item:
    """An item in the split that lists – the one that measures, where they contradict each other – or folders give."""
    first, inner, _ = item.id.partition("/")
    splits = lists.splits.get(item.id) or ([SPLITS[first.lower()]] if inner and first.lower() in SPLITS else [])
    split = min(splits, key=("test", "validation", "train").index, default=None)
    if len(splits) > 1:
        item = item._replace(troubles=(*item.troubles, ("in two lists", f"{' and '.join(splits)}: kept for {split}")))
    elif lists.whole and not splits:
        return item._replace(read=partial(refuse, "not listed", "the lists of the splits do not name it"))
    return item._replace(split=split)


def _xml(item: Item, name: str, size: tuple[int, int]) -> str:
    rows = []
    for object_ in item.objects:
        left, top, right, bottom = (
            f"{value:.10g}" for value in (object_.box[0] + 1, object_.box[1] + 1, *object_.box[2:])
        )
        rows.append(
            f"  <object>\n    <name>{escape(object_.name)}</name>\n"
            f"    <difficult>{int(object_.difficult)}</difficult>\n"
            f"    <bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>\n"
            "  </object>\n"
        )
    height, width = size
    return (
        f"<annotation>\n  <filename>{escape(Path(name).name)}</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"{''.join(rows)}</annotation>\n"
    )
