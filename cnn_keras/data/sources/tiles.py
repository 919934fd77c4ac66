"""Tiles: large photographs cut into pictures of a size that a network can see, with the boxes in them.

Tiles cover the photograph evenly, so that none sticks out; a photograph no larger than a tile stays whole. `tile` cuts
what is trained on, `windows` a photograph in a graph, which is then read tile by tile.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data import image_decoding, run_length
from cnn_keras.data.annotation import Item, Object
from cnn_keras.data.files import image_file

DECODED = 2  # photographs kept in memory: the tiles of one follow each other


def tile(item: Item, extent: tuple[int, int], *, size: int, overlap: float = 0.0, keep: float = 0.4) -> list[Item]:
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
        crop(item, (left, top, min(left + size, extent[1]), min(top + size, extent[0])), keep=keep)
        for top in starts[0]
        for left in starts[1]
    ]


class Windows(NamedTuple):
    """The tiles of a photograph; every place of it belongs to the one tile whose middle is nearest."""

    corners: tf.Tensor  # int32 (T, 2): top and left, in pixels
    size: tf.Tensor  # int32 (2,): height and width of every tile
    own: tf.Tensor  # float32 (T, 4): left, top, right, bottom of what belongs to each; endless at the border


def windows(extent: tf.Tensor, *, size: int, overlap: float) -> Windows:
    """The tiles that `tile` cuts of a photograph, in a graph.

    What is as large as the overlap or smaller is whole in the tile that its midpoint belongs to.

    Args:
        extent: int32 (2,), height and width of the photograph in pixels.
        size, overlap: of `tile`.
    """
    (top, above, below), (left, before, behind) = (
        _axis_windows(length, size, overlap) for length in tf.unstack(extent)
    )
    corners, first, last = (_crossed(*pair) for pair in ((top, left), (above, before), (below, behind)))
    own = tf.concat([first[:, ::-1], last[:, ::-1]], axis=-1)
    return Windows(corners, tf.minimum(extent, size), own)


def _axis_windows(length: tf.Tensor, size: int, overlap: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_starts`, int32 (n,), and between which places the middle of each is the nearest: float32 (n,), (n,)."""
    left = tf.cast(tf.maximum(length - size, 0), tf.float64)
    count = 1 + tf.cast(tf.math.ceil(left / (size * (1 - overlap)) - 1e-9), tf.int32)
    starts = tf.cast(tf.round(tf.linspace(tf.zeros([], tf.float64), left, count)), tf.int32)
    between = tf.cast(starts[1:] + starts[:-1] + size, tf.float32) / 2
    before, behind = ([1, 0], -np.inf), ([0, 1], np.inf)
    return starts, *(tf.pad(between, [side], constant_values=end) for side, end in (before, behind))


def _crossed(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Every pair of a row and a column, row by row: (R · C, 2)."""
    return tf.reshape(tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1), [-1, 2])


def crop(item: Item, window: tuple[int, int, int, int], *, keep: float) -> Item:
    """What a window (left, top, right, bottom) in pixels shows of an item."""
    left, top, right, bottom = window
    objects = tuple(inside for object_ in item.objects if (inside := _inside(object_, window, keep)))
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


def _inside(object_: Object, window: tuple[int, int, int, int], keep: float) -> Object | None:
    left, top, right, bottom = object_.box
    low, high = (max(left, window[0]), max(top, window[1])), (min(right, window[2]), min(bottom, window[3]))
    visible_area = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
    if visible_area <= 0 or visible_area < keep * (right - left) * (bottom - top):
        return None
    box = (low[0] - window[0], low[1] - window[1], high[0] - window[0], high[1] - window[1])
    return object_._replace(box=box, mask=None if object_.mask is None else run_length.crop(object_.mask, window))


def _cut(read: Callable[[], bytes], window: tuple[int, int, int, int]) -> bytes:
    left, top, right, bottom = window
    return image_file.encode_png(_decoded(read)[top:bottom, left:right])


@lru_cache(DECODED)
def _decoded(read: Callable[[], bytes]) -> np.ndarray:
    """A photograph's pixels, uint8 (height, width, 3)."""
    data, _ = image_file.normalize(read())
    return image_decoding.pixels(data)
