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


class Kept(NamedTuple):
    """An image that can be used, with what is in it; its `objects` are inside it and have a class."""

    item: Item
    digest: str
    size: tuple[int, int]  # height, width


def checked(items: Sequence[Item], examined: Sequence[Examined], data: Data) -> tuple[list[Kept], list[Problem]]:
    """What can be used of each image that can be read, and what is odd about its boxes."""
    kept, problems = [], []
    as_stored = _as_stored(items, examined)
    for item, found in zip(items, examined, strict=True):
        for kind, detail in item.troubles:
            problems.append(Problem(kind, item.id, detail, TAKEN.get(kind, DROPPED)))
        if found.digest is None:
            continue
        upright, problem = _upright(item, found, as_stored)
        problems += [problem] if problem else []
        objects: dict[Any, Object] = {}
        for one in upright.objects:
            good, trouble = inside(one, found.size, data)
            key = (one.name, one.box)
            if good is not None and key in objects:
                good, trouble = None, ("duplicate box", DROPPED)
            named = f"{one.name} [{', '.join(f'{value:.6g}' for value in one.box)}]"
            if trouble:
                problems.append(Problem(trouble[0], item.id, named, trouble[1]))
            if good is not None and (said := _mask_trouble(good, found.size, data)):
                kind, reason, action = said
                problems.append(Problem(kind, item.id, f"{named}{f': {reason}' if reason else ''}", action))
                good = None if action == DROPPED else good._replace(mask=None)
            if good is not None and good.crowd:
                problems.append(Problem("crowd", item.id, named, "neither learnt nor counted as a miss"))
            if good is not None:
                objects[key] = good
        kept.append(Kept(upright._replace(objects=tuple(objects.values())), found.digest, found.size))
    return kept, problems


def crowds(kept: Sequence[Kept]) -> str:
    """What to do where most of the objects are marked as crowds, as no photographs are; "" where they are not."""
    marked = [one.crowd for image in kept for one in image.item.objects]
    if sum(marked) * 2 <= len(marked):
        return ""
    return (
        f"{sum(marked):,} of {len(marked):,} objects are marked as crowds (iscrowd: 1) and are not learnt; some tools, "
        "CVAT with its brush among them, mark every single mask so: data.crowd=object takes each as one object"
    )


def _stored_size(found: Examined) -> tuple[int, int]:
    """Height and width of an image before it was made upright."""
    sideways = (Transpose.TRANSPOSE, Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSVERSE)
    return found.size[::-1] if found.turn in sideways else found.size


def _as_stored(items: Sequence[Item], examined: Sequence[Examined]) -> bool:
    """Whether sizes are stated of images as they are stored, wherever those that are turned tell it."""
    told = [
        tuple(item.size) == _stored_size(found)
        for item, found in zip(items, examined, strict=True)
        if found.turn and item.size and _stored_size(found) != found.size
    ]
    return bool(told) and all(told)


def _upright(item: Item, found: Examined, as_stored: bool) -> tuple[Item, Problem | None]:
    """An item whose boxes are those of the upright image, and what was odd about the size that it states."""
    if item.size is None:
        return item, None
    stated, real, stored = (f"{width}x{height}" for height, width in (item.size, found.size, _stored_size(found)))
    if found.turn and stated == stored and (stored != real or as_stored):
        turned = tuple(exif_orientation.transpose(one, found.turn, item.size) for one in item.objects)
        detail = f"annotated as {stated}, as it is stored; upright it is {real}"
        upright_item = item._replace(objects=turned, size=found.size)
        return upright_item, Problem("boxes of the unrotated image", item.id, detail, "boxes turned")
    if stated != real:
        detail = f"annotated as {stated}, is {real}"
        return item, Problem("size differs", item.id, detail, "boxes kept as they are")
    return item, None


def inside(one: Object, size: tuple[int, int], data: Data) -> tuple[Object | None, tuple[str, str] | None]:
    """The box cut to its image, None where it is of no use; and the kind of trouble with it and what was done."""
    (left, top, right, bottom), (height, width) = one.box, size
    if data.classes and one.name not in data.classes:
        return None, ("unknown class", DROPPED)
    if right < left or bottom < top:
        return None, ("inverted box", DROPPED)
    if right == left or bottom == top:
        return None, ("empty box", DROPPED)
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        return None, ("box outside the image", DROPPED)
    if right - left < 1 or bottom - top < 1:
        return None, ("box smaller than a pixel", DROPPED)
    out = max(abs(given - kept) for given, kept in zip(one.box, cut, strict=True))
    if out <= ROUNDING:
        return one._replace(box=cut), None
    if data.out_of_bounds == "drop":
        return None, ("box out of bounds", DROPPED)
    return one._replace(box=cut), ("box out of bounds", "box clipped")


def _mask_trouble(one: Object, size: tuple[int, int], data: Data) -> tuple[str, str, str] | None:
    """The kind of what is wrong with an object's mask, why, and what becomes of the object."""
    if not data.masks:
        malformed = isinstance(one.mask, run_length.Malformed)
        return ("malformed mask", one.mask.reason, "box kept without it") if malformed else None
    if one.crowd:
        return None
    if one.mask is None:
        return "box without a mask", "", DROPPED
    try:
        return None if run_length.rasterize(one.mask, size).any() else ("empty mask", "", DROPPED)
    except Unreadable as unreadable:
        return str(unreadable.kind), str(unreadable), DROPPED


def refuse_dropped(items: Sequence[Item], problems: Sequence[Problem], data: Data) -> None:
    """Raise a Fault for a larger share of dropped boxes than the recipe bears; a source's own notes are among them."""
    dropped = Counter(problem.kind for problem in problems if problem.action == DROPPED)
    bad, ids = sum(dropped.values()), {item.id for item in items}
    said = sum(kind not in TAKEN for item in items for kind, _ in item.troubles)
    said += sum(problem.action == DROPPED and problem.id not in ids for problem in problems)
    total = sum(len(item.objects) for item in items) + said
    if bad > data.max_bad * total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in dropped.most_common())
        raise Fault(
            f"data.max_bad must be at least the share of boxes dropped, got {data.max_bad:.0%} and {bad} of {total} "
            f"({bad / total:.0%}): {kinds}. problems.csv lists them; correct them, or raise data.max_bad.",
            code=Fault.DATA,
        )
