"""KITTI's text files: a line of fifteen columns for each object, its box in pixels as the fifth to the eighth.

Geiger, Lenz and Urtasun, "Are we ready for autonomous driving?", 2012; NVIDIA's TAO writes the same. The columns are
the class, how far it is cut off and hidden, an angle, left, top, right, bottom, and what it is in space, which is not
read; a result has its score as a sixteenth. Labels lie in `label_2/` beside `image_2/`, or in `labels/` beside
`images/`. `DontCare` is a region in which nothing is learnt nor counted, whatever its class.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, SPLITS, describe_path, refuse
from cnn_keras.data.files.input_file import is_folder, is_regular, read_text
from cnn_keras.errors import Fault

COLUMNS = (15, 16)
IGNORED = "DontCare"


def read(path: Path, images: Path | None = None) -> Annotations:
    """A folder with label files below it; folders named train, val and test prescribe the split.

    Pictures without a label file, such as those of KITTI's own `testing/`, are left alone.

    Raises:
        Fault: there is no such folder, or no file with lines of KITTI's is below it.
    """
    if not is_folder(path):
        raise Fault(f"data.path must be a folder of label files, got {describe_path(path)}")
    files = [file for file in annotation.files_below(path, [".txt"]) if file.parent.name.lower().startswith("label")]
    items = [_item(path, file, images) for file in files]
    if not any(item.objects for item in items):
        raise Fault(
            f"data.path must hold label_2/ or labels/ with lines of KITTI's {COLUMNS[0]} columns, got "
            f"{describe_path(path)}",
            code=Fault.DATA,
        )
    annotation.check_pictures([item.file for item in items], path / "image_2", files[0].stem)
    classes = dict.fromkeys(one.name for item in items for one in item.objects if one.name != IGNORED)
    items = [item._replace(objects=_ignored_by_all(item.objects, tuple(classes))) for item in items]
    return Annotations(items, roots=(path, *([images] if images else [])))


def is_line(fields: Sequence[str]) -> bool:
    """Whether a line, cut at its spaces, is one of KITTI's: a class and fourteen or fifteen numbers."""
    named = annotation.finite_numbers(fields[:1]) is None
    return named and len(fields) in COLUMNS and annotation.finite_numbers(fields[1:]) is not None


def _item(path: Path, file: Path, images: Path | None) -> Item:
    place = images or _beside(file)
    pictures = (place / f"{file.stem}{suffix}" for suffix in (".png", ".jpg", *sorted(IMAGE_SUFFIXES)))
    picture = next((one for one in pictures if is_regular(one)), None)
    name = annotation.relative_id(path, picture or place / f"{file.stem}.png")
    try:
        lines = read_text(file).splitlines()
    except Fault as fault:
        return Item(name, partial(refuse, "broken annotation", str(fault)), file=picture)
    objects, troubles = [], []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if is_line(fields):
            left, top, right, bottom = map(float, fields[4:8])
            objects.append(Object((left, top, right, bottom), fields[0]))
        elif fields:
            troubles.append(("malformed annotation", f"{file.name}, line {number}: {line.strip()[:60]}"))
    split = next((SPLITS[part.lower()] for part in Path(name).parts[:-1] if part.lower() in SPLITS), None)
    reader = annotation.image_reader(picture or place / f"{file.stem}.png")
    return Item(name, reader, tuple(objects), split, troubles=tuple(troubles), file=picture)


def _beside(file: Path) -> Path:
    """The folder of the pictures: `image_2` of `label_2`, `images` of `labels`, or that of the labels."""
    folder = file.parent
    beside = folder.with_name(folder.name.lower().replace("label", "image"))
    return beside if is_folder(beside) else folder


def _ignored_by_all(objects: Sequence[Object], classes: Sequence[str]) -> tuple[Object, ...]:
    """Objects, with a crowd of every class in place of a region of none."""
    return tuple(
        one._replace(name=name, crowd=one.name == IGNORED)
        for one in objects
        for name in (classes if one.name == IGNORED else (one.name,))
    )
