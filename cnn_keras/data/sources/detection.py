"""Annotated pictures: what is where in them, whatever file says so.

A source is a function that returns items and, where it declares them, the names of the classes. Classes are known by
name alone: numbers mean something only inside a file. `source: NAME` in a recipe is one of `SOURCES`, each a file of
this folder. Paths are relative to the file that names them. What annotations say wrongly is kept beside them as
troubles, grouped and told when the data is prepared; nothing is mended here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cnn_keras import plugins
from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item
from cnn_keras.data.files import durable, file_tree
from cnn_keras.data.sources import classification as read
from cnn_keras.errors import Fault

SOURCES = {  # of annotated pictures: a function `read` in each file
    "coco": "cnn_keras.data.formats.coco",
    "voc": "cnn_keras.data.formats.voc",
    "yolo": "cnn_keras.data.formats.yolo",
    "csv": "cnn_keras.data.formats.boxes_csv",
    "labelme": "cnn_keras.data.formats.tools.labelme",
    "labelstudio": "cnn_keras.data.formats.tools.label_studio",
    "via": "cnn_keras.data.formats.tools.via",
    "supervisely": "cnn_keras.data.formats.tools.supervisely",
    "kitti": "cnn_keras.data.formats.kitti",
    "dsb": "cnn_keras.data.formats.masks.data_science_bowl",
    "deepforest": "cnn_keras.data.sources.samples.deepforest",
    "composites": "cnn_keras.data.sources.synthetic.composites",
    "points": "cnn_keras.data.formats.landmarks_csv",
    "cards": "cnn_keras.data.sources.synthetic.cards",
}
FORMATS = ("coco", "voc", "yolo", "csv", "labelme")  # those that can be written, too


def load(source: str, *, group: str | None = None, crowd: str = "ignore", **arguments: Any) -> Annotations:
    """What `source` holds, one of SOURCES, or a function of the user's own that returns Annotations.

    Args:
        group: a regular expression searched in each id; its first parenthesis names the item's group.
        crowd: "object" takes what is marked as many in one as one object, "ignore" leaves the mark.
        arguments: of the source's `read`; those that are None are left out.

    Raises:
        Fault: an unknown source, an argument that it needs or does not take, or nothing that can be used.
    """
    if source not in SOURCES and not plugins.is_reference(source):
        raise Fault(f"data.source must be one of {', '.join(SOURCES)}, got {source!r}")
    function = import_module(SOURCES[source]).read if source in SOURCES else plugins.load(source)
    annotations = read.call_source(function, source, arguments)
    twice = [name for name, count in Counter(item.id for item in annotations.items).items() if count > 1]
    if twice:
        raise Fault(f"{source} must list every picture once, got {twice[0]} more than once", code=Fault.DATA)
    if group is not None:
        annotations = annotations._replace(
            items=[item._replace(group=file_tree.group_in(group, item.id)) for item in annotations.items]
        )
    return (
        annotations if crowd == "ignore" else annotations._replace(items=[_single(item) for item in annotations.items])
    )


def _single(item: Item) -> Item:
    return item._replace(objects=tuple(object_._replace(crowd=False) for object_ in item.objects))


def check_annotated(items: Sequence[Item], where: Path | str) -> None:
    """Raise a Fault for pictures of which none is annotated, not even wrongly: all would be background."""
    if items and all(_says_nothing(item) for item in items):
        raise Fault(
            f"{where} must contain at least one annotated object, got none in {len(items):,} images, which would all "
            "be background; give the file with the annotations",
            code=Fault.DATA,
        )


def _says_nothing(item: Item) -> bool:
    troubles = {kind for kind, _ in item.troubles} | {annotation.reason_of(item)[0]}
    return not item.objects and troubles <= {"", "without annotation", "missing image"}


def write(format_: str, items: Iterable[Item], folder: Path, *, classes: Sequence[str], **options: Any) -> None:
    """Write pictures and annotations into a new folder, in one of FORMATS: see `write` of its file.

    There is the whole folder or none.

    Args:
        options: of the format's `write`.

    Raises:
        Fault: an unknown format, or a folder that holds something or cannot be written to.
    """
    if format_ not in FORMATS:
        raise Fault(f"format must be one of {', '.join(FORMATS)}, got {format_!r}")
    try:
        file_tree.check_new_folder(folder)
        with durable.atomic_folder(folder) as temporary:
            import_module(SOURCES[format_]).write(items, temporary, classes=classes, **options)
    except OSError as error:  # no permission, a full disk, a name that is too long
        raise Fault(f"--out must be a folder that can be written: {error.strerror} at {error.filename}") from None
