"""Tiles: large photographs cut into pictures of a size that a network can see, with the boxes in them.

Tiles cover the photograph evenly, so that none sticks out; a photograph no larger than a tile stays whole.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import tensorflow as tf

from cnn_keras.data import encoded, masks
from cnn_keras.data.annotations import Item, Object

DECODED = 2  # photographs kept in memory: the tiles of one follow each other


def tiled(item: Item, extent: tuple[int, int], *, size: int, overlap: float = 0.0, keep: float = 0.4) -> list[Item]:
    """The tiles of a photograph, row by row, as items whose ids are `id@left,top`.

    Args:
        extent: height and width of the photograph in pixels, upright.
        size: the tiles' side in pixels.
        overlap: the share of a side that neighbours have in common at least; in [0, 1).
        keep: the share of a box's area that must be inside a tile, for the box to be cut to it; else it is left out.
    """
    starts = [_starts(length, size, overlap) for length in extent]
    if [len(places) for places in starts] == [1, 1]:
        return [item]
    return [
        cut(item, (left, top, min(left + size, extent[1]), min(top + size, extent[0])), keep=keep)
        for top in starts[0]
        for left in starts[1]
    ]


def cut(item: Item, window: tuple[int, int, int, int], *, keep: float) -> Item:
    """What a window (left, top, right, bottom) in pixels shows of an item."""
    left, top, right, bottom = window
    objects = tuple(inside for found in item.objects if (inside := _inside(found, window, keep)))
    return item._replace(
        id=f"{item.id}@{left},{top}",
        read=partial(_cut, item.read, window),
        objects=objects,
        group=item.group or item.id,
        size=(bottom - top, right - left),
        troubles=(),
    )


def _starts(length: int, size: int, overlap: float) -> list[int]:
    count = 1 + math.ceil(max(0, length - size) / (size * (1 - overlap)) - 1e-9)
    return [round(place) for place in np.linspace(0, max(0, length - size), count)]


def _inside(found: Object, window: tuple[int, int, int, int], keep: float) -> Object | None:
    left, top, right, bottom = found.box
    low, high = (max(left, window[0]), max(top, window[1])), (min(right, window[2]), min(bottom, window[3]))
    shown = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
    if shown <= 0 or shown < keep * (right - left) * (bottom - top):
        return None
    moved = (low[0] - window[0], low[1] - window[1], high[0] - window[0], high[1] - window[1])
    return found._replace(box=moved, mask=None if found.mask is None else masks.cut(found.mask, window))


def _cut(read: Callable[[], bytes], window: tuple[int, int, int, int]) -> bytes:
    left, top, right, bottom = window
    return encoded.png(_decoded(read)[top:bottom, left:right])


@lru_cache(DECODED)
def _decoded(read: Callable[[], bytes]) -> np.ndarray:
    """A photograph's pixels, uint8 (height, width, 3)."""
    data, _ = encoded.plain(read())
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
