"""uint8 pictures warped and coloured by OpenCV, in NumPy: what a graph does, in a fraction of the time.

OpenCV computes in fixed point. `Warp` rounds the place where a pixel is read to 1/32 of a pixel, which moves a level by
at most a sixty-fourth of the difference between neighbours along each axis, so by up to 8 levels at the edge from black
to white and by a fraction of one on average in a photograph. `Recolour` rounds a matrix to 1/1024 and its result to a
whole number, which may be the other neighbour of what lies between two. Flips, shifts by whole pixels and pictures that
are not moved at all are exact.
"""

import cv2
import numpy as np

CHANNELS, SIDE = 4, 2**15  # the most of a picture that OpenCV warps, and what a side must stay below
BORDERS = {
    "constant": cv2.BORDER_CONSTANT,
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
    "wrap": cv2.BORDER_WRAP,
}
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
        self._how, self._border = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR, BORDERS[fill]

    def __call__(self, image: np.ndarray, row: int, out: np.ndarray | None = None) -> np.ndarray:
        """Warp the picture of a row of the batch: uint8 (*size, channels).

        Args:
            image: uint8 (height, width, channels), 0–255.
            out: where the result is written, not the image itself; None makes an array.
        """
        matrix, size = self._matrices[row], self._size
        if self._nodes is None:
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
            mixing[:, -1] += self._of_means[row] @ cv2.mean(image)[: len(mixing)]
        return cv2.transform(image, mixing, out).reshape(image.shape)


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
