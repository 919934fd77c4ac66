"""Masks of things in pictures, as run lengths: COCO's {"size": [height, width], "counts": …}.

Counts are lengths of runs, down the columns, that begin with zeros: a list. COCO's compressed string is read too, and
polygons, tuples of (x, y, x, y, …) in pixels. What annotations hold goes through `parse` before anything is made of
it: COCO's own code takes what it is given for granted, and can end the process or hand out memory that nobody wrote.
"""

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from cnn_keras.data.files.image_file import PIXEL_LIMIT, SIDE_LIMIT
from cnn_keras.errors import Unreadable

OUTLINE_LIMIT = 200  # times the sum of a picture's two sides


class Malformed(NamedTuple):
    """What stands where a mask should and is none."""

    reason: str


def parse(document: Any) -> dict[str, Any] | tuple[Any, ...] | Malformed | None:
    """The mask that COCO's `segmentation` holds: run lengths as a list, or polygons; None where there is none."""
    if document is None or document in ([], {}, ""):
        return None
    if isinstance(document, dict):
        try:
            return _runs(document)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            return Malformed(f"run lengths that cannot be read: {problem}")
    if not isinstance(document, list | tuple):
        return Malformed(f"neither polygons nor run lengths, but {str(document)[:40]!r}")
    for polygon in document:
        if not isinstance(polygon, list | tuple):
            return Malformed("polygons must be a list of lists of x, y, x, y, …")
        if len(polygon) < 6 or len(polygon) % 2:
            return Malformed(f"a polygon must have three points or more, x and y of each, got {len(polygon)} numbers")
        if not all(_is_number(value) for value in polygon):
            return Malformed("a polygon must hold finite numbers alone")
    return tuple(tuple(polygon) for polygon in document)


def rectangle(box: tuple[float, float, float, float]) -> tuple[Any, ...]:
    """The polygon of a box, its corners from the upper left on."""
    left, top, right, bottom = box
    return ((left, top, right, top, right, bottom, left, bottom),)


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Run lengths of a bool array (height, width)."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([changes[: len(changes) // 2 * 2], [mask.size]])
    counts = np.diff(ends, prepend=0)
    return {"size": list(mask.shape), "counts": counts[: len(counts) if counts[-1] else -1].tolist()}


def encode_at(inside: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Run lengths of a bool array (height, width) in a larger picture.

    Args:
        corner: the row and the column of its upper left pixel in the picture; what leaves the picture is cut off.
        size: height and width of the picture.
    """
    (top, left), (height, width) = corner, inside.shape
    whole = np.zeros(size, bool)
    part = whole[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    part[:] = inside[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    return encode(whole)


def decode(runs: dict[str, Any]) -> np.ndarray:
    """The bool array (height, width) of run lengths.

    Raises:
        KeyError, TypeError, ValueError: run lengths that are none.
    """
    runs = _runs(runs)
    counts = runs["counts"]
    height, width = runs["size"]
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def rasterize(mask: dict[str, Any] | tuple[Any, ...] | Malformed, size: tuple[int, int]) -> np.ndarray:
    """The bool array (height, width) of run lengths, or of polygons, whose insides COCO's own code fills.

    Raises:
        Unreadable: a malformed mask, run lengths of another size, or polygons of an unbearable length.
    """
    if isinstance(mask, Malformed):
        raise Unreadable("malformed mask", mask.reason)
    if not isinstance(mask, dict):
        _check_outline(mask, size)
        return coco.decode(coco.merge(coco.frPyObjects([list(points) for points in mask], *size))).astype(bool)
    try:
        pixels = decode(mask)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable("malformed mask", f"its run lengths cannot be read: {error}") from None
    if pixels.shape != tuple(size):
        declared, real = ("×".join(map(str, sizes)) for sizes in (pixels.shape, size))
        raise Unreadable("mask of another size", f"the mask is {declared}, the picture {real} (height first)")
    return pixels


def crop(
    mask: dict[str, Any] | tuple[Any, ...] | Malformed, window: tuple[int, int, int, int]
) -> dict[str, Any] | tuple[Any, ...] | Malformed:
    """A mask – run lengths or polygons – in a window (left, top, right, bottom) of its picture, in the window's pixels.

    Polygons are moved, not clipped.
    """
    left, top, right, bottom = window
    if isinstance(mask, Malformed):
        return mask
    if isinstance(mask, dict):
        return encode(decode(mask)[top:bottom, left:right])
    return tuple(tuple(value - (left, top)[place % 2] for place, value in enumerate(points)) for points in mask)


def union(
    first: dict[str, Any] | tuple[Any, ...] | Malformed | None,
    second: dict[str, Any] | tuple[Any, ...] | Malformed | None,
) -> Any:
    """The mask of one thing whose parts have these masks; None where that of a part is not known."""
    if first is None or second is None:
        return None
    for part in (first, second):
        if isinstance(part, Malformed):
            return part
    if isinstance(first, tuple) and isinstance(second, tuple):
        return (*first, *second)
    runs: Any = first if isinstance(first, dict) else second
    try:
        return encode(rasterize(first, runs["size"]) | rasterize(second, runs["size"]))
    except Unreadable as error:
        return Malformed(str(error))


def _runs(value: dict[str, Any]) -> dict[str, Any]:
    """Run lengths whose counts are a list of whole numbers that make up the size."""
    size, counts = value["size"], value["counts"]
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_is_count(side) and side for side in size):
        raise ValueError(f"size must be height and width, got {str(size)[:40]}")
    height, width = size
    if max(size) > SIDE_LIMIT or height * width > PIXEL_LIMIT:
        raise ValueError(f"size must have {PIXEL_LIMIT:,} pixels at most, got {height}×{width}")
    if isinstance(counts, str | bytes):
        counts = _uncompressed(counts)
    if not isinstance(counts, list | tuple) or not all(_is_count(count) for count in counts):
        raise ValueError("counts must be whole numbers, 0 or more")
    if (total := sum(counts)) != height * width:
        raise ValueError(f"counts must make up the {height * width:,} pixels of the size, got {total:,}")
    return {"size": [height, width], "counts": list(counts)}


def _uncompressed(text: str | bytes) -> list[int]:
    """The counts of COCO's compressed string: five bits a letter, the lowest first, as differences from the third on.

    Raises:
        ValueError: letters that are none of its, or an end within a number.
    """
    letters = map(ord, text) if isinstance(text, str) else text
    counts: list[int] = []
    number = shift = 0
    for letter in letters:
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"counts must be COCO's compressed text, got {chr(letter)!r} in it")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                number -= 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("counts must be COCO's compressed text, got one that ends within a number")
    return counts


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= PIXEL_LIMIT


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _check_outline(mask: tuple[Any, ...], size: tuple[int, int]) -> None:
    """Raise Unreadable for polygons that COCO's code should not be given: the memory that it takes is their length."""
    for polygon in mask:
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        length = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
        if length > OUTLINE_LIMIT * sum(size):
            raise Unreadable("malformed mask", f"a polygon's outline is {length:,.0f} pixels long, or far outside")
