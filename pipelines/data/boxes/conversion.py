"""From one format of annotations to another, by the names of the classes; what gets lost is told."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Item
from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.sources import detection
from cnn_keras.errors import Fault
from pipelines.data.boxes import box_config, box_dataset, box_validation

LOST = {  # what a format cannot say
    "coco": ("landmarks",),
    "voc": ("crowd", "mask", "landmarks", "score"),
    "yolo": ("crowd", "difficult", "mask", "landmarks", "score"),
    "csv": ("mask", "landmarks"),
    "labelme": ("landmarks",),
}


def convert(source: str, path: Path | None, *, to: str, out: Path, images: Path | None = None) -> Iterator[str]:
    """Write what `source` holds into the new folder `out`, and tell, line by line, what was written and what was lost.

    Items that say something wrongly keep the rest; images that cannot be read are left out, and so are those outside
    the data set's own folders, whatever absolute path, ".." or link leads there.
    """
    if source not in detection.SOURCES:
        raise Fault(f"SOURCE must be one of {', '.join(detection.SOURCES)}, got {source!r}")
    if to not in detection.FORMATS:
        raise Fault(f"--to must be one of {', '.join(detection.FORMATS)}, got {to!r}")
    arguments = {"source": source, "path": path and path.absolute(), "images": images and images.absolute()}
    items, declared, notes, roots = box_dataset.load_source(box_config.Data.model_validate(arguments), 0)
    inside = [item for item in items if not _is_outside(item, roots)]
    outer = next((item for item in items if _is_outside(item, roots)), None)
    usable, left_out = [], defaultdict(list)
    for item in inside:
        kind, detail = _unusable(item)
        if kind:
            left_out[kind].append(f"{item.id}: {detail}")
        else:
            usable.append(item)
    if not usable:
        first = next(
            (details[0] for details in left_out.values()), f"{outer.file} is outside {roots[0]}" if outer else "none"
        )
        raise Fault(
            f"PATH must contain an image that can be copied, got {first}, and {len(items) - 1} more; --images names "
            "another folder",
            code=Fault.DATA,
        )
    names = {object_.name for item in usable for object_ in item.objects}
    classes = [*dict.fromkeys(declared), *sorted(names - set(declared), key=file_tree.natural)]
    detection.write(to, usable, out, classes=classes)
    objects = [object_ for item in usable for object_ in item.objects]
    yield f"wrote {out}: {len(usable):,} images, {len(objects):,} objects of {len(classes)} classes as {to}"
    if outer:
        yield (
            f"left out {len(items) - len(inside):,} images outside the data set, such as {outer.file}; --images names "
            "another folder of images"
        )
    if left_out:
        yield f"left out {sum(map(len, left_out.values())):,} images that cannot be read"
    for kind, details in sorted(left_out.items()):
        yield f"{len(details):,} × {kind}, such as {details[0]}"
    yield from _troubles(usable)
    for note in notes:
        yield f"{note.kind}: {note.id}: {note.detail}; {note.taken}"
    for key in LOST[to]:
        there = (
            getattr(object_, key)
            for object_ in objects
            if key != "mask" or object_.mask != run_length.rectangle(object_.box)
        )
        if count := sum(map(bool, there)):
            yield f"{to} cannot express {key}: lost for {count:,} objects"


def _troubles(items: Sequence[Item]) -> Iterator[str]:
    """A line for each kind of what annotations say wrongly, and of boxes that leave their images."""
    details_of: dict[str, list[str]] = defaultdict(list)
    for item in items:
        for kind, detail in item.troubles:
            details_of[f"{kind}, {box_validation.TAKEN.get(kind, 'left out')}"].append(f"{item.id}: {detail}")
        for object_ in item.objects:
            if isinstance(object_.mask, run_length.Malformed):
                details_of["malformed mask, box kept without it"].append(f"{item.id}: {object_.mask.reason}")
    for kind, details in sorted(details_of.items()):
        yield f"{len(details):,} × {kind}, such as {details[0]}"


def _is_outside(item: Item, roots: Sequence[Path]) -> bool:
    """Whether an item's image is a file that lies, its links followed, in none of the data set's folders."""
    if item.file is None or not input_file.is_regular(item.file):
        return False
    return not any(item.file.resolve().is_relative_to(root.resolve()) for root in roots)


def _unusable(item: Item) -> tuple[str, str]:
    """The kind and detail of why an item's image cannot be copied; ("", "") where it can."""
    kind, detail = annotation.reason_of(item)
    if kind or item.file is None:
        return kind, detail
    return ("", "") if annotation.image_size(item.file) else ("undecodable", "it has no image header")
