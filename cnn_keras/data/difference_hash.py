"""Difference hashes: images that look alike have hashes that differ in few bits, whatever their size or format."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cnn_keras.data.files.image_pixels import LUMA, resize_image

SIDE = 8  # differences along each side
BITS = 2 * SIDE**2
BLOCK = 1024  # hashes that are compared with all others at once

Hashes = NDArray[np.uint64]


def difference_hash(image: NDArray[np.uint8]) -> Hashes:
    """The difference hash of an image: uint64 (2,), BITS bits.

    Krawetz, *Kind of like that* (2013): the image is made grey and tiny, and each bit says whether a pixel is brighter
    than its neighbour. Differs: beside the 64 bits of neighbours to the right there are 64 of those below, so that
    images with large plain areas differ in more bits.

    Args:
        image: uint8 (height, width, 1 or 3), grey or RGB.
    """
    grey = image if image.shape[2] == 1 else (image @ np.array(LUMA, np.int32) >> 15).astype(np.uint8)[..., None]
    tiny = resize_image(grey, (SIDE + 1, SIDE + 1))[..., 0].astype(np.int16)
    across, down = tiny[:SIDE, 1:] > tiny[:SIDE, :-1], tiny[1:, :SIDE] > tiny[:-1, :SIDE]
    return np.packbits(np.stack([across.ravel(), down.ravel()]), axis=1).view(">u8").astype(np.uint64)[:, 0]


def similar_pairs(hashes: Hashes, distance: int) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """The pairs of hashes that differ in at most `distance` bits, some at a time.

    All are compared with all, so that the time grows with the square of N: tens of seconds for 30,000.

    Args:
        hashes: uint64 (N, 2).

    Yields:
        The rows of the first and of the second of each pair, the first the smaller, and the bits that differ: int (P,).
    """
    halves = np.ascontiguousarray(hashes.T)
    for start in range(0, len(hashes), BLOCK):
        across, down = (half[start : start + BLOCK, None] ^ half[start:] for half in halves)
        differing = np.bitwise_count(across) + np.bitwise_count(down)
        first, second = np.nonzero(differing <= distance)
        later = first < second
        first, second = first[later], second[later]
        yield first + start, second + start, differing[first, second]


def similar_groups(hashes: Hashes, distance: int) -> NDArray[np.int64]:
    """A group for each hash, int64 (N,): those that differ in few bits, directly or through others, share one.

    Args:
        hashes: uint64 (N, 2).
        distance: the most bits in which neighbours differ.
    """
    distinct, places = np.unique(hashes, axis=0, return_inverse=True)
    count = len(distinct)
    groups = np.arange(count)
    for first, second, _ in similar_pairs(distinct, distance):
        ends = np.concatenate([first, np.arange(count)]), np.concatenate([second, groups])
        graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(count, count))
        labels = connected_components(graph, directed=False)[1]
        groups = np.unique(labels, return_index=True)[1][labels]  # each by its first member
    return groups[places.ravel()]
