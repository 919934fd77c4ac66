"""Boxes that can be used: what is wrong with an annotated image or a box, by its kind, and what becomes of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL.Image import Transpose

from cnn_keras.data import run_length
from cnn_keras.data.annotation import DROPPED, Item, Object
from cnn_keras.data.formats import exif_orientation
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.boxes.box_config import Data
from pipelines.data.validation import Examined, Problem

ROUNDING = 1.0  # pixels that a box may stick out, as annotators' tools round, before it is said
TAKEN = {  # what becomes of what a trouble is about, where it is no dropped box
    "without annotation": "kept as background",
    "in two lists": "kept for what measures",
    "name of another picture": "taken for that of its own",
    "annotated more than once": "the first taken",
}


class UsablePicture(NamedTuple):
    """An image that can be used, with what is in it; its `objects` are inside it and have a class."""

    item: Item
    digest: str
    size: tuple[int, int]  # height, width


def check_boxes(
    items: Sequence[Item], examined: Sequence[Examined], data: Data
) -> tuple[list[UsablePicture], list[Problem]]:
    """The images that can be read, with their valid boxes, and a problem for each invalid one."""
    usable, problems = [], []
    as_stored = _as_stored(items, examined)
    for item, result in zip(items, examined, strict=True):
        for kind, detail in item.troubles:
            problems.append(Problem(kind, item.id, detail, TAKEN.get(kind, DROPPED)))
        if result.digest is None:
            continue
        upright, problem = _upright(item, result, as_stored)
        problems += [problem] if problem else []
        objects: dict[Any, Object] = {}
        for object_ in upright.objects:
            good, trouble = inside(object_, result.size, data)
            key = (object_.name, object_.box)
            if good is not None and key in objects:
                good, trouble = None, ("duplicate box", DROPPED)
            named = f"{object_.name} [{', '.join(f'{value:.6g}' for value in object_.box)}]"
            if trouble:
                problems.append(Problem(trouble[0], item.id, named, trouble[1]))
            if good is not None and (mask_trouble := _mask_trouble(good, result.size, data)):
                kind, reason, action = mask_trouble
                problems.append(Problem(kind, item.id, f"{named}{f': {reason}' if reason else ''}", action))
                good = None if action == DROPPED else good._replace(mask=None)
            if good is not None and good.crowd:
                problems.append(Problem("crowd", item.id, named, "neither learnt nor counted as a miss"))
            if good is not None:
                objects[key] = good
        usable.append(UsablePicture(upright._replace(objects=tuple(objects.values())), result.digest, result.size))
    return usable, problems


def crowds(pictures: Sequence[UsablePicture]) -> str:
    """What to do where most of the objects are marked as crowds, as no photographs are; "" where they are not."""
    marked = [object_.crowd for image in pictures for object_ in image.item.objects]
    if sum(marked) * 2 <= len(marked):
        return ""
    return (
        f"{sum(marked):,} of {len(marked):,} objects are marked as crowds (iscrowd: 1) and are not learnt; some tools, "
        "CVAT with its brush among them, mark every single mask so: data.crowd=object takes each as one object"
    )


def _stored_size(result: Examined) -> tuple[int, int]:
    """Height and width of an image before it was made upright."""
    sideways = (Transpose.TRANSPOSE, Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSVERSE)
    return result.size[::-1] if result.turn in sideways else result.size


def _as_stored(items: Sequence[Item], examined: Sequence[Examined]) -> bool:
    """Whether sizes are stated of images as they are stored, wherever those that are turned tell it."""
    named = [
        tuple(item.size) == _stored_size(result)
        for item, result in zip(items, examined, strict=True)
        if result.turn and item.size and _stored_size(result) != result.size
    ]
    return bool(named) and all(named)


def _upright(item: Item, result: Examined, as_stored: bool) -> tuple[Item, Problem | None]:
    """An item whose boxes are those of the upright image, and what was odd about the size that it states."""
    if item.size is None:
        return item, None
    stated_size, real, stored = (
        f"{width}x{height}" for height, width in (item.size, result.size, _stored_size(result))
    )
    if result.turn and stated_size == stored and (stored != real or as_stored):
        objects = tuple(exif_orientation.transpose(object_, result.turn, item.size) for object_ in item.objects)
        detail = f"annotated as {stated_size}, as it is stored; upright it is {real}"
        upright_item = item._replace(objects=objects, size=result.size)
        return upright_item, Problem("boxes of the unrotated image", item.id, detail, "boxes turned")
    if stated_size != real:
        detail = f"annotated as {stated_size}, is {real}"
        return item, Problem("size differs", item.id, detail, "boxes kept as they are")
    return item, None


def inside(object_: Object, size: tuple[int, int], data: Data) -> tuple[Object | None, tuple[str, str] | None]:
    """The box cut to its image, None where it is of no use; and the kind of trouble with it and what was done."""
    (left, top, right, bottom), (height, width) = object_.box, size
    if data.classes and object_.name not in data.classes:
        return None, ("unknown class", DROPPED)
    if right < left or bottom < top:
        return None, ("inverted box", DROPPED)
    if right == left or bottom == top:
        return None, ("empty box", DROPPED)
    clipped = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, ("box outside the image", DROPPED)
    if right - left < 1 or bottom - top < 1:
        return None, ("box smaller than a pixel", DROPPED)
    out = max(abs(edge - clipped_edge) for edge, clipped_edge in zip(object_.box, clipped, strict=True))
    if out <= ROUNDING:
        return object_._replace(box=clipped), None
    if data.out_of_bounds == "drop":
        return None, ("box out of bounds", DROPPED)
    return object_._replace(box=clipped), ("box out of bounds", "box clipped")


def _mask_trouble(object_: Object, size: tuple[int, int], data: Data) -> tuple[str, str, str] | None:
    """The kind of what is wrong with an object's mask, why, and what becomes of the object."""
    if not data.masks:
        malformed = isinstance(object_.mask, run_length.Malformed)
        return ("malformed mask", object_.mask.reason, "box kept without it") if malformed else None
    if object_.crowd:
        return None
    if object_.mask is None:
        return "box without a mask", "", DROPPED
    try:
        return None if run_length.rasterize(object_.mask, size).any() else ("empty mask", "", DROPPED)
    except Unreadable as unreadable:
        return str(unreadable.kind), str(unreadable), DROPPED


def refuse_dropped(items: Sequence[Item], problems: Sequence[Problem], data: Data) -> None:
    """Raise a Fault for a larger share of dropped boxes than the recipe bears; a source's own notes are among them."""
    dropped = Counter(problem.kind for problem in problems if problem.action == DROPPED)
    bad, ids = sum(dropped.values()), {item.id for item in items}
    refused = sum(kind not in TAKEN for item in items for kind, _ in item.troubles)
    refused += sum(problem.action == DROPPED and problem.id not in ids for problem in problems)
    total = sum(len(item.objects) for item in items) + refused
    if bad > data.max_bad * total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in dropped.most_common())
        raise Fault(
            f"data.max_bad must be at least the share of boxes dropped, got {data.max_bad:.0%} and {bad} of {total} "
            f"({bad / total:.0%}): {kinds}. problems.csv lists them; correct them, or raise data.max_bad.",
            code=Fault.DATA,
        )
