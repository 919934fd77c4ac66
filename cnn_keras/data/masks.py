"""Masks of things in pictures, as run lengths: COCO's {"size": [height, width], "counts": …}.

Counts are lengths of runs, down the columns, that begin with zeros: a list. COCO's compressed string is read too, and
polygons, tuples of (x, y, x, y, …) in pixels.
"""

import numpy as np

from cnn_keras.data.encoded import Unreadable


def encode(mask: np.ndarray) -> dict:
    """Run lengths of a bool array (height, width)."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.concatenate([changes[: len(changes) // 2 * 2], [mask.size]])
    counts = np.diff(ends, prepend=0)
    return {"size": list(mask.shape), "counts": counts[: len(counts) if counts[-1] else -1].tolist()}


def decode(runs: dict) -> np.ndarray:
    """The bool array (height, width) of run lengths."""
    counts = runs["counts"]
    if isinstance(counts, str | bytes):
        from pycocotools import mask  # its compressed form

        return mask.decode({**runs, "counts": counts.encode() if isinstance(counts, str) else counts}).astype(bool)
    values = np.arange(len(counts)) % 2 == 1
    height, width = runs["size"]
    return np.repeat(values, counts).reshape(width, height).T


def filled(mask: dict | tuple, size: tuple[int, int]) -> np.ndarray:
    """The bool array (height, width) of run lengths, or of polygons, whose insides COCO's own code fills.

    Raises:
        Unreadable: run lengths that are none, or of another size.
    """
    if not isinstance(mask, dict):
        from pycocotools import mask as coco

        return coco.decode(coco.merge(coco.frPyObjects([list(points) for points in mask], *size))).astype(bool)
    try:
        found = decode(mask)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable("malformed mask", f"its run lengths cannot be read: {error}") from None
    if found.shape != tuple(size):
        stated, real = ("×".join(map(str, sizes)) for sizes in (found.shape, size))
        raise Unreadable("mask of another size", f"the mask is {stated}, the picture {real} (height first)")
    return found


def cut(mask: dict | tuple, window: tuple[int, int, int, int]) -> dict | tuple:
    """A mask – run lengths or polygons – in a window (left, top, right, bottom) of its picture, in the window's pixels.

    Polygons are moved, not clipped.
    """
    left, top, right, bottom = window
    if isinstance(mask, dict):
        return encode(decode(mask)[top:bottom, left:right])
    return tuple(tuple(value - (left, top)[place % 2] for place, value in enumerate(points)) for points in mask)
