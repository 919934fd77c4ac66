"""uint8 pictures warped and coloured by OpenCV, in NumPy: what a graph does, in a fraction of the time.

OpenCV computes in fixed point. `Warp` rounds the place where a pixel is read to 1/32 of a pixel, which moves a level by
at most a sixty-fourth of the difference between neighbours along each axis, so by up to 8 levels at the edge from black
to white and by a fraction of one on average in a photograph. `Recolour` rounds a matrix to 1/1024 and its result to a
whole number, which may be the other neighbour of what lies between two. Flips, shifts by whole pixels and pictures that
are not moved at all are exact. A window of whole pixels that is only scaled, and perhaps flipped, is cut out first, in
half the time: pixels along its sides repeat its last ones where a warp mixes in what lies beyond.
"""

from typing import NamedTuple

import cv2
import numpy as np

CHANNELS, SIDE = 4, 2**15  # the most of a picture that OpenCV warps, and what a side must stay below
WHOLE = 0.01  # pixels by which the sides of a window may miss whole ones, by the rounding of float32
BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}
FLIPS = {(False, False): None, (False, True): 0, (True, False): 1, (True, True): -1}  # by x and y, OpenCV's codes
ALIGNED = 64  # bytes: what begins at a multiple of them, TensorFlow takes over without copying it


class Warp:
    """`cnn_keras.data.transforms.warp.sample`, or `sample_nearest`, for the pictures of a batch.

    Args:
        matrices: float32 (N, 3, 3), from pixels of the result to those of the source.
        nodes: of the field that bends each result, (N, count, count, 2), or None.
        size: (height, width) of the result.
        fill: what stands beyond the border, of `warp.FILLS`.
        nearest: the nearest pixel instead of a mixture of four, as masks need it.
    """

    def __init__(
        self,
        matrices: np.ndarray,
        nodes: np.ndarray | None = None,
        *,
        size: tuple[int, int],
        fill: str,
        nearest: bool = False,
    ) -> None:
        self._matrices, self._nodes, self._size = matrices[:, :2], nodes, size
        self._windows = [None] * len(matrices) if nearest or nodes is not None else _windows(self._matrices, size)
        self._how, self._border = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR, BORDERS[fill]

    def __call__(self, image: np.ndarray, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """Warp the picture of a row of the batch: uint8 (*size, channels).

        Args:
            image: uint8 (height, width, channels), 0–255.
            out: where the result is written, not the image itself; None makes an array.
        """
        matrix, size, window = self._matrices[row], self._size, self._windows[row]
        if window and window.lies_within(image.shape):
            warped = window.scaled(image, size, out)
        elif self._nodes is None:
            how = self._how | cv2.WARP_INVERSE_MAP
            warped = cv2.warpAffine(image, matrix, size[::-1], out, how, self._border)
        else:
            nodes = self._nodes[row]
            across, down = (_splines(side, len(nodes)) for side in size[::-1])
            x = np.arange(size[1], dtype=np.float32) + down @ nodes[..., 0] @ across.T
            y = np.arange(size[0], dtype=np.float32)[:, None] + down @ nodes[..., 1] @ across.T
            columns, rows = (line[0] * x + line[1] * y + line[2] for line in matrix)
            warped = cv2.remap(image, columns, rows, self._how, out, self._border)
        return warped.reshape(*size, -1)  # OpenCV leaves a single channel out


class Recolour:
    """Colours mixed by a matrix of `cnn_keras.data.transforms.photometric` for each picture of a batch.

    Args:
        matrices: float32 (N, channels, 2 · channels + 1), of a pixel, the mean of the picture, and 1.
    """

    def __init__(self, matrices: np.ndarray) -> None:
        channels = matrices.shape[1]
        self._mixing = np.concatenate([matrices[..., :channels], matrices[..., -1:]], axis=-1)
        self._of_means = matrices[..., channels:-1]
        self._reads_means = [bool(weights.any()) for weights in self._of_means]

    def __call__(self, image: np.ndarray, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """Mix the colours of the picture of a row of the batch: uint8, the same shape.

        Args:
            image: uint8 (height, width, channels), 0–255.
            out: where the result is written, of the image's shape, and may be the image; None makes an array.
        """
        mixing = self._mixing[row]
        if self._reads_means[row]:
            mixing = mixing.copy()
            sums = cv2.sumElems(image)[: len(mixing)]  # twenty times as fast as cv2.mean
            mixing[:, -1] += self._of_means[row] @ (np.array(sums) / (image.shape[0] * image.shape[1]))
        return cv2.transform(image, mixing, out).reshape(image.shape)


class Window(NamedTuple):
    """A part of a picture that becomes a whole one: its sides, in whole pixels, and the axes along which it is turned.

    flip: OpenCV's code: 0 top to bottom, 1 left to right, -1 both; None if neither.
    """

    left: int
    top: int
    right: int
    bottom: int
    flip: int | None

    def lies_within(self, shape: tuple[int, ...]) -> bool:
        return 0 <= self.left < self.right <= shape[1] and 0 <= self.top < self.bottom <= shape[0]

    def scaled(self, image: np.ndarray, size: tuple[int, int], out: np.ndarray | None) -> np.ndarray:
        """The window of an image, bilinear: uint8 of `size`."""
        cut = image[self.top : self.bottom, self.left : self.right]
        scaled = cv2.resize(cut, size[::-1], out, interpolation=cv2.INTER_LINEAR)
        return scaled if self.flip is None else cv2.flip(scaled, self.flip, scaled)


def _windows(matrices: np.ndarray, size: tuple[int, int]) -> list[Window | None]:
    """The window that each matrix, float32 (N, 2, 3), scales to `size`; None where it turns or slants.

    None, too, where a side of the window is not at a whole pixel.
    """
    scale, offset = matrices[:, [0, 1], [0, 1]], matrices[:, :, 2]  # of x and y
    first = offset + (1 - scale) / 2  # the side where the result begins, and the one where it ends
    last = first + scale * np.array(size[::-1], np.float32)
    low, high = np.round(np.minimum(first, last)), np.round(np.maximum(first, last))
    misses = np.abs(np.concatenate([low - np.minimum(first, last), high - np.maximum(first, last)], axis=-1))
    is_upright = (matrices[:, 0, 1] == 0) & (matrices[:, 1, 0] == 0) & (misses < WHOLE).all(axis=-1)
    sides = np.concatenate([low, high], axis=-1).astype(int).tolist()
    flips = [FLIPS[x, y] for x, y in (scale < 0).tolist()]
    return [
        Window(left, top, right, bottom, flip) if upright else None
        for (left, top, right, bottom), flip, upright in zip(sides, flips, is_upright.tolist(), strict=True)
    ]


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An array of uint8, its values anything, that TensorFlow takes over without copying it."""
    size = int(np.prod(shape))
    room = np.empty(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size].reshape(shape)


def _splines(side: int, count: int) -> np.ndarray:
    """How much each of `count` nodes says at each pixel along a side: float32 (side, count), rows sum to 1."""
    distance = np.abs((np.arange(side)[:, None] + 0.5) / side * (count - 3) + 1 - np.arange(count))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
