"""Pascal VOC's XML: one file for each picture, boxes in whole pixels that count from 1 and are both inside.

Everingham et al., "The Pascal visual object classes challenge", 2010. A box from xmin 1 to xmax 10 covers ten pixels
and is 0 to 10 here. `difficult` is kept.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cnn_keras.data import annotations
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.read import SPLITS, refuse, whereabouts
from cnn_keras.fault import Fault

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp", ".gif", ".webp")
FOLDERS = ("", "JPEGImages", "images", "../JPEGImages", "../images")  # where pictures are, seen from an XML file


def read(path: Path, images: Path | None = None) -> Annotated:
    """A folder with XML files below it; pictures are beside them, in `JPEGImages/` or in `images`.

    `ImageSets/Main/train.txt`, `val.txt` and `test.txt` prescribe the split, and so do folders of these names. A
    picture beside them without an XML file is background.
    """
    if not path.is_dir():
        raise Fault(f"data.path must be a folder of XML files, got {whereabouts(path)}")
    files = sorted(file for file in path.rglob("*.xml") if not file.name.startswith("."))
    if not files:
        raise Fault(f"data.path must hold XML files, got {whereabouts(path)}", code=Fault.DATA)
    folders = [images] if images else None
    found = [_one(path, file, folders) for file in files]
    annotations.check_pictures([file for file, _ in found if file], path)
    items = [item for _, item in found]
    used = {file for file, _ in found if file}
    places = [images] if images else sorted({file.parent for file, _ in found if file and file.is_file()})
    for file in (file for place in places for file in annotations.pictures_below(place)):
        if annotations.plainly(file) not in used:
            used.add(annotations.plainly(file))
            trouble = ("without annotation", "no XML file names it")
            items.append(Item(_id(path, file), annotations.picture(file), troubles=(trouble,)))
    splits = _splits(path)
    return Annotated([item._replace(split=_split(item.id, splits)) for item in items])


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`JPEGImages/`, `Annotations/` and, where items have a split, `ImageSets/Main/`. Crowds and masks are lost."""
    members: dict[str, list[str]] = {}
    for item in items:
        name = Path(annotations.inner_name(item)).as_posix()
        size = annotations.save(item, folder / "JPEGImages" / name)
        file = (folder / "Annotations" / name).with_suffix(".xml")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {name}: both are {file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_xml(item, name, size), encoding="utf-8")
        if item.split:
            members.setdefault(item.split, []).append(Path(name).with_suffix("").as_posix())
    for split, names in members.items():
        short = "val" if split == "validation" else split
        listed = folder / "ImageSets" / "Main" / f"{short}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def objects(root: ElementTree.Element, *, first: int = 1) -> tuple[list[Object], list[tuple[str, str]]]:
    """What the `object` elements of a file say, and what they say wrongly; `first` is the number of the first pixel."""
    found, troubles = [], []
    for number, element in enumerate(root.iter("object"), 1):
        name = (element.findtext("name") or "").strip()
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        box = annotations.numbers(corners)
        if box is None or not name:
            troubles.append(("malformed annotation", f"object {number}: {name or 'no name'}, {corners}"))
            continue
        left, top, right, bottom = box
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        found.append(Object((left - first, top - first, right, bottom), name, difficult))
    return found, troubles


def _one(path: Path, file: Path, folders: Sequence[Path] | None) -> tuple[Path | None, Item]:
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError, LookupError) as error:
        return None, Item(_id(path, file), partial(refuse, "broken annotation", str(error)))
    image = _picture(file, (root.findtext("filename") or "").strip(), folders)
    found, troubles = objects(root)
    stated = annotations.numbers([root.findtext("size/height"), root.findtext("size/width")])
    size = (int(stated[0]), int(stated[1])) if stated and all(stated) else None
    item = Item(_id(path, image), annotations.picture(image), tuple(found), size=size, troubles=tuple(troubles))
    return image, item


def _picture(file: Path, name: str, folders: Sequence[Path] | None) -> Path:
    """Where the picture of an XML file is: by the name in it, or else by its own name, in the usual folders."""
    base = next((part for part in (file, *file.parents) if part.name == "Annotations"), file.parent)
    inner = file.parent.relative_to(base) if base != file else Path()
    roots = folders or [
        *(file.parent / name for name in FOLDERS),
        *(base.parent / place / inner for place in FOLDERS[1:3]),
    ]
    stated = name.replace("\\", "/").rpartition("/")[2]
    options = [stated] if stated else []
    options += [f"{file.stem}{suffix}" for suffix in SUFFIXES]
    found = (root / option for option in options for root in roots if (root / option).is_file())
    return annotations.plainly(next(found, roots[0] / options[0]))


def _id(path: Path, file: Path) -> str:
    first, inside, inner = annotations.below(path, file).partition("/")
    return inner if inside and first in ("JPEGImages", "Annotations") else first + inside + inner


def _splits(path: Path) -> dict[str, str]:
    """The split of each picture by its name without suffix, as ImageSets/Main says."""
    found: dict[str, str] = {}
    for name, split in SPLITS.items():
        file = path / "ImageSets" / "Main" / f"{name}.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        found |= {line.split()[0]: split for line in lines if line.strip()}
    return found


def _split(name: str, splits: dict[str, str]) -> str | None:
    first, inner, _ = name.partition("/")
    above = SPLITS.get(first.lower()) if inner else None
    bare = Path(name).with_suffix("").as_posix()
    return splits.get(bare, splits.get(bare.rpartition("/")[2], above))


def _xml(item: Item, name: str, size: tuple[int, int]) -> str:
    rows = []
    for found in item.objects:
        left, top, right, bottom = (f"{value:.10g}" for value in (found.box[0] + 1, found.box[1] + 1, *found.box[2:]))
        rows.append(
            f"  <object>\n    <name>{escape(found.name)}</name>\n    <difficult>{int(found.difficult)}</difficult>\n"
            f"    <bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>\n"
            "  </object>\n"
        )
    height, width = size
    return (
        f"<annotation>\n  <filename>{escape(Path(name).name)}</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"{''.join(rows)}</annotation>\n"
    )
