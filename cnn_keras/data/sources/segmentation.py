"""Pictures and volumes with a class at each pixel or voxel, whatever file says so.

A source is a function that returns items and what it knows of the numbers in their masks. `source: NAME` in a recipe is
one of `PICTURES` or `VOLUMES`. A mask is read only when it is asked for, and what is wrong with it raises `Unreadable`
then; classes are known by name, and numbers mean something only inside a source.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Object
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import Picture
from cnn_keras.data.formats import exif_orientation
from cnn_keras.data.label_map import BACKGROUND, UNKNOWN, Item, LabelMaps, Mask, check_size
from cnn_keras.data.sources import classification as read
from cnn_keras.data.sources import detection
from cnn_keras.errors import Fault

PICTURES = {  # a function `read` in each file; the others' objects are painted
    "folder": "cnn_keras.data.formats.masks.mask_folders",
    "voc": "cnn_keras.data.formats.masks.voc_masks",
    "coco": "cnn_keras.data.formats.coco",
    "labelme": "cnn_keras.data.formats.tools.labelme",
    "labelstudio": "cnn_keras.data.formats.tools.label_studio",
    "supervisely": "cnn_keras.data.formats.tools.supervisely",
    "via": "cnn_keras.data.formats.tools.via",
    "dsb": "cnn_keras.data.formats.masks.data_science_bowl",
    "composites": "cnn_keras.data.sources.synthetic.composites",
    "nuclei": "cnn_keras.data.sources.samples.nuclei",
    "mni152": "cnn_keras.data.sources.samples.mni_slices",
}
VOLUMES = {"folder": "cnn_keras.data.formats.masks.mask_volumes", "mni152": "cnn_keras.data.sources.samples.mni_slabs"}
PAINTED = ("coco", "labelme", "labelstudio", "supervisely", "via", "dsb", "composites")
UNTOLD = {"__ignore__": UNKNOWN, "_background_": 0}  # names that LabelMe's users paint with, and what they mean


def load(
    source: str, *, axes: int = 2, group: str | None = None, classes: Sequence[str] = (), **arguments: Any
) -> LabelMaps:
    """What `source` holds: pictures (two axes) or volumes (three).

    Args:
        group: a regular expression searched in each id; its first parenthesis names the item's group.
        classes: of objects that are painted: those to paint, in their order; none paints all there are.
        arguments: of the source's `read`; those that are None are left out.

    Raises:
        Fault: an unknown source, an argument that it needs or does not take, or nothing that can be used.
    """
    known = PICTURES if axes == 2 else VOLUMES
    if source not in known:
        kind = "pictures" if axes == 2 else "volumes"
        raise Fault(f"data.source must be one of {', '.join(known)} for {kind}, got {source!r}")
    if source in PAINTED:
        annotated = detection.load(source, **arguments)
        detection.check_annotated(annotated.items, arguments.get("path") or source)
        maps: LabelMaps = rasterize(annotated, classes)
    else:
        maps = read.call_source(import_module(known[source]).read, source, arguments)
    if group is not None:
        maps = maps._replace(items=[item._replace(group=file_tree.group_in(group, item.id)) for item in maps.items])
    return maps


def rasterize(annotated: annotation.Annotations, classes: Sequence[str] = ()) -> LabelMaps:
    """Annotated things as masks: number 0 is the background, the others are the classes from 1 on.

    Large things are painted first, so that small ones on them are seen. Where a crowd is, or a thing of which only the
    box is known, nobody knows. Objects of other classes than `classes` are background, and a trouble.
    """
    there = {object_.name for item in annotated.items for object_ in item.objects}
    order = [name for name in annotated.classes if name in there]
    names = list(classes) or [*order, *sorted(there - set(order), key=file_tree.natural)]
    things = [name for name in names if name not in (BACKGROUND, *UNTOLD)]
    numbers = {name: number for number, name in enumerate(things, start=1)}
    number_of = {**numbers, BACKGROUND: 0, **UNTOLD}
    items = []
    for item in annotated.items:
        objects = [
            object_._replace(mask=None) if isinstance(object_.mask, run_length.Malformed) else object_
            for object_ in item.objects
        ]
        troubles = list(item.troubles)
        for original, object_ in zip(item.objects, objects, strict=True):
            if object_.name not in number_of:
                troubles.append(("unknown class", object_.name))
            elif object_.crowd:
                troubles.append(("crowd", f"{object_.name}: nobody knows what is where it is"))
            elif object_.mask is None:
                troubles.append(("box without a mask" if original.mask is None else "malformed mask", object_.name))
        mask = partial(_painted, item, [object_ for object_ in objects if object_.name in number_of], number_of)
        items.append(Item(item.id, item.read, mask, item.split, item.group, tuple(troubles), item.label))
    meanings = {0: BACKGROUND, **{number: name for name, number in numbers.items()}}
    return LabelMaps(items, meanings, notes=annotated.notes)


def _painted(item: annotation.Item, objects: Sequence[Object], numbers: dict[str, int], size: tuple[int, int]) -> Mask:
    """The mask of a picture of a size; where the annotations are of the picture as it is stored, turned as it is."""
    if item.size is not None and tuple(item.size) != tuple(size):
        turn = Picture(item.read()).turn
        if turn is not None and tuple(item.size) == tuple(size)[::-1]:
            objects = [exif_orientation.transpose(object_, turn, item.size) for object_ in objects]
        else:
            check_size(item.size, size)
    return _paint(objects, numbers, size)


def _paint(objects: Sequence[Object], numbers: dict[str, int], size: tuple[int, int]) -> Mask:
    values, instances = np.zeros(size, np.int16), np.zeros(size, np.int32)
    parts = [
        run_length.rasterize(object_.mask, size) if object_.mask is not None else _boxed(object_.box, size)
        for object_ in objects
    ]
    areas = [part.sum() for part in parts]
    for place in sorted(range(len(objects)), key=lambda place: (objects[place].mask is not None, -areas[place])):
        object_, inside = objects[place], parts[place]
        unknown = object_.crowd or object_.mask is None
        values[inside] = UNKNOWN if unknown else numbers[object_.name]
        instances[inside] = place + 1 if values[inside].max(initial=0) > 0 else 0
    return Mask(values, instances)


def _boxed(box: tuple[float, ...], size: tuple[int, int]) -> np.ndarray:
    left, top, right, bottom = box
    y, x = (np.arange(length) + 0.5 for length in size)
    return ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None]
