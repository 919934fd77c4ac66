"""Annotations of a picture as the camera stored it, turned with the picture when it is made upright."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL.Image import Transpose

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Landmark, Object

# Where a point of a picture (height, width) comes to lie.
POINTS: dict[Transpose, Callable[[float, float, int, int], tuple[float, float]]] = {
    Transpose.FLIP_LEFT_RIGHT: lambda x, y, _, width: (width - x, y),
    Transpose.ROTATE_180: lambda x, y, height, width: (width - x, height - y),
    Transpose.FLIP_TOP_BOTTOM: lambda x, y, height, _: (x, height - y),
    Transpose.TRANSPOSE: lambda x, y, _, __: (y, x),
    Transpose.ROTATE_90: lambda x, y, _, width: (y, width - x),
    Transpose.ROTATE_270: lambda x, y, height, _: (height - y, x),
    Transpose.TRANSVERSE: lambda x, y, height, width: (height - y, width - x),
}
PIXELS: dict[Transpose, Callable[[np.ndarray], np.ndarray]] = {
    Transpose.FLIP_LEFT_RIGHT: np.fliplr,
    Transpose.ROTATE_180: lambda mask: np.rot90(mask, 2),
    Transpose.FLIP_TOP_BOTTOM: np.flipud,
    Transpose.TRANSPOSE: np.transpose,
    Transpose.ROTATE_90: np.rot90,
    Transpose.ROTATE_270: lambda mask: np.rot90(mask, 3),
    Transpose.TRANSVERSE: lambda mask: np.rot90(mask.T, 2),
}


def transpose(object_: Object, turn: Transpose, size: tuple[int, int]) -> Object:
    """An object of a picture that `turn` makes upright.

    Args:
        size: height and width of the picture before it is turned.
    """

    def transposed(points: Sequence[float]) -> tuple[float, ...]:
        pairs = zip(points[0::2], points[1::2], strict=True)
        return tuple(edge for x, y in pairs for edge in POINTS[turn](x, y, *size))

    mask = object_.mask
    if isinstance(mask, dict):
        mask = run_length.encode(PIXELS[turn](run_length.decode(mask)))
    elif isinstance(mask, tuple) and not isinstance(mask, run_length.Malformed):
        mask = tuple(transposed(points) for points in mask)
    marks = tuple(Landmark(mark.name, *POINTS[turn](mark.x, mark.y, *size), mark.visible) for mark in object_.landmarks)
    return object_._replace(box=annotation.enclosing_box(transposed(object_.box)), mask=mask, landmarks=marks)
