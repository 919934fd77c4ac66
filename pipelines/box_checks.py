"""Boxes that can be used: what is wrong with an annotated image or a box, by its kind, and what becomes of it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cnn_keras.fault import Fault
from pipelines.intake import Examined, Problem

if TYPE_CHECKING:
    from cnn_keras.data.annotations import Item, Object
    from pipelines.boxed import Data

ROUNDING = 1.0  # pixels that a box may stick out, as annotators' tools round, before it is said
DROPPED = "box dropped"


class Kept(NamedTuple):
    """An image that can be used, with what is in it; its `objects` are inside it and have a class."""

    item: "Item"
    digest: str
    size: tuple[int, int]  # height, width


def checked(items: "Sequence[Item]", examined: Sequence[Examined], data: "Data") -> tuple[list[Kept], list[Problem]]:
    """What can be used of each image that can be read, and what is odd about its boxes."""
    kept, problems = [], []
    for item, found in zip(items, examined, strict=True):
        for kind, detail in item.troubles:
            background = kind == "without annotation"
            problems.append(Problem(kind, item.id, detail, "kept as background" if background else DROPPED))
        if found.digest is None:
            continue
        if item.size and tuple(item.size) != tuple(found.size):
            stated, real = (f"{width}x{height}" for height, width in (item.size, found.size))
            problems.append(
                Problem("size differs", item.id, f"annotated as {stated}, is {real}", "boxes kept as they are")
            )
        objects: dict[Any, Object] = {}
        for one in item.objects:
            good, trouble = inside(one, found.size, data)
            key = (one.name, one.box)
            if good is not None and key in objects:
                good, trouble = None, ("duplicate box", DROPPED)
            if trouble:
                box = ", ".join(f"{value:.6g}" for value in one.box)
                problems.append(Problem(trouble[0], item.id, f"{one.name} [{box}]", trouble[1]))
            if good is not None:
                objects[key] = good
        kept.append(Kept(item._replace(objects=tuple(objects.values())), found.digest, found.size))
    return kept, problems


def inside(one: "Object", size: tuple[int, int], data: "Data") -> "tuple[Object | None, tuple[str, str] | None]":
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
    if data.masks and not one.crowd and (kind := _mask_trouble(one, size)):
        return None, (kind, DROPPED)
    out = max(abs(given - kept) for given, kept in zip(one.box, cut, strict=True))
    if out <= ROUNDING:
        return one._replace(box=cut), None
    if data.out_of_bounds == "drop":
        return None, ("box out of bounds", DROPPED)
    return one._replace(box=cut), ("box out of bounds", "box clipped")


def _mask_trouble(one: "Object", size: tuple[int, int]) -> str | None:
    """The kind of what is wrong with an object's mask."""
    from cnn_keras.data import masks
    from cnn_keras.data.encoded import Unreadable

    if one.mask is None:
        return "box without a mask"
    try:
        return None if masks.filled(one.mask, size).any() else "empty mask"
    except Unreadable as unreadable:
        return str(unreadable.kind)


def refuse_dropped(items: "Sequence[Item]", problems: Sequence[Problem], data: "Data") -> None:
    dropped = Counter(problem.kind for problem in problems if problem.action == DROPPED)
    bad, said = sum(dropped.values()), (kind for item in items for kind, _ in item.troubles)
    total = sum(len(item.objects) for item in items) + sum(kind != "without annotation" for kind in said)
    if bad > data.max_bad * total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in dropped.most_common())
        raise Fault(
            f"data.max_bad must be at least the share of boxes dropped, got {data.max_bad:.0%} and {bad} of {total} "
            f"({bad / total:.0%}): {kinds}. problems.csv lists them; mend them, or raise data.max_bad.",
            code=Fault.DATA,
        )
