"""From one format of annotations to another, by the names of the classes; what gets lost is told."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cnn_keras.fault import Fault
from pipelines import boxed

LOST = {  # what a format cannot say
    "coco": (),
    "voc": ("crowd", "mask"),
    "yolo": ("crowd", "difficult", "mask"),
    "csv": ("mask",),
    "labelme": (),
}


def convert(source: str, path: Path | None, *, to: str, out: Path, images: Path | None = None) -> Iterator[str]:
    """Write what `source` holds into the new folder `out`, and tell, line by line, what was written and what was lost.

    Items that say something wrongly keep the rest; images that cannot be read are left out.
    """
    from cnn_keras.data import annotations, read

    if source not in annotations.SOURCES:
        raise Fault(f"SOURCE must be one of {', '.join(annotations.SOURCES)}, got {source!r}")
    if to not in annotations.FORMATS:
        raise Fault(f"--to must be one of {', '.join(annotations.FORMATS)}, got {to!r}")
    given = {"source": source, "path": path and path.absolute(), "images": images and images.absolute()}
    items, declared = boxed.annotated(boxed.Data.model_validate(given), 0)
    troubles = Counter(kind for item in items for kind, _ in item.troubles)
    usable = [item for item in items if not _unusable(item.read)]
    found = {one.name for item in usable for one in item.objects}
    classes = [*declared, *sorted(found - set(declared), key=read.natural)]
    annotations.write(to, usable, out, classes=classes)
    objects = [one for item in usable for one in item.objects]
    yield f"wrote {out}: {len(usable):,} images, {len(objects):,} objects of {len(classes)} classes as {to}"
    if len(usable) < len(items):
        yield f"left out {len(items) - len(usable):,} images that cannot be read"
    for kind, count in sorted(troubles.items()):
        yield f"{count:,} × {kind}{', kept as background' if kind == 'without annotation' else ', left out'}"
    for key in LOST[to]:
        if count := sum(bool(getattr(one, key)) for one in objects):
            yield f"{to} cannot say {key}: lost for {count:,} objects"


def _unusable(read: object) -> bool:
    """Whether an item stands for an image that is not there or not to be read."""
    from cnn_keras.data.read import refuse

    return getattr(read, "func", None) is refuse
