"""Sampling: a picture read at other places. All the geometry of a sample is one 3 × 3 matrix, applied once.

A matrix maps a pixel (x, y, 1) of the result to the pixel of the source that it is read from; the middle of the top
left pixel is (0, 0). Steps that follow one another multiply: the first step's matrix stands on the left. An elastic
warp adds a field of displacements to the result's pixels before the matrix is applied.

Functions take images, 0–255, of shape (height, width, channels), and a `size`, (height, width) of the result. Where
sizes are static they can be compiled by XLA, which makes one loop of each and is several times faster than
TensorFlow's own operation; with dynamic sizes they work as well.
"""

from typing import Any

import tensorflow as tf

FILLS = ("constant", "nearest", "reflect", "wrap")  # what stands beyond the border; constant is black, and class 0
ROUNDS = 16  # of the iteration that inverts a field, whose displacements change by less than a pixel per pixel


def resample(image: tf.Tensor, matrix: tf.Tensor, size: tuple[Any, ...], *, fill: str) -> tf.Tensor:
    """`image`, uint8, bilinear by TensorFlow's own operation: uint8 (*size, channels). Slow; needs no compiler."""
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],  # of integers, the operation would cut the fraction off
        transforms=tf.reshape(matrix, [1, 9])[:, :8],
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )[0]
    return tf.saturate_cast(tf.round(warped), tf.uint8)


def sample(
    image: tf.Tensor,
    matrix: tf.Tensor,
    size: tuple[Any, ...],
    *,
    fill: str,
    nodes: tf.Tensor | None = None,
    upright: bool = False,
) -> tf.Tensor:
    """`image`, uint8, read bilinearly at every pixel's place: uint8 (*size, channels).

    Of each place one index is made, of the pixel at its top left: the other three stand at fixed distances from it, and
    those beyond a black border weigh nothing. So the loop over the pixels is short, and what `upright` promises, that
    the matrix turns and slants nothing, makes it shorter.
    """
    x, y = source_points(matrix, size, nodes, upright=upright)
    height, width = _sides(image)
    x, y = _folded(x, width, fill), _folded(y, height, fill)
    image = _extended(image, wrapped=fill == "wrap")
    height, width = _sides(image)
    (left, across), (top, down) = _pair(x, width), _pair(y, height)
    pixels, corner = tf.reshape(image, [-1, image.shape[-1]]), top * width + left
    values = sum(
        tf.cast(tf.gather(pixels, corner + (row * width + column)), tf.float32)
        * (down[row] * across[column])[..., None]
        for row in (0, 1)
        for column in (0, 1)
    )
    return tf.saturate_cast(tf.round(values), tf.uint8)


def sample_nearest(
    labels: tf.Tensor, matrix: tf.Tensor, size: tuple[Any, ...], *, fill: str, nodes: tf.Tensor | None = None
) -> tf.Tensor:
    """`labels`, integers (height, width, channels), read at the nearest pixel, never blended; their dtype stays."""
    height, width = _sides(labels)
    x, y = (tf.floor(place + 0.5) for place in source_points(matrix, size, nodes))
    flat = tf.reshape(labels, [-1, labels.shape[-1]])
    values = tf.gather(flat, _inside(y, height, fill) * width + _inside(x, width, fill))
    return _or_black(values, y, x, (height, width), fill)


def gather(image: tf.Tensor, matrix: tf.Tensor, size: tuple[Any, ...], *, fill: str) -> tf.Tensor:
    """`image` of any dtype under a matrix of flips and whole pixels: rows and columns change places."""
    height, width = _sides(image)
    columns = matrix[0, 0] * tf.range(tf.cast(size[1], tf.float32)) + matrix[0, 2]
    rows = matrix[1, 1] * tf.range(tf.cast(size[0], tf.float32)) + matrix[1, 2]
    values = tf.gather(tf.gather(image, _inside(rows, height, fill)), _inside(columns, width, fill), axis=1)
    return _or_black(values, rows[:, None], columns[None], (height, width), fill)


def source_points(
    matrix: tf.Tensor, size: tuple[Any, ...], nodes: tf.Tensor | None = None, *, upright: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the source is read for each pixel of the result: x and y, float32 (*size), in pixels of the source.

    `upright`, which goes without nodes, promises that the matrix turns and slants nothing: x (1, width), y (height, 1).
    """
    x = tf.range(tf.cast(size[1], tf.float32))[None]
    y = tf.range(tf.cast(size[0], tf.float32))[:, None]
    if nodes is not None:
        across, down = (_weights(line, side, nodes.shape[0]) for line, side in ((x[0], size[1]), (y[:, 0], size[0])))
        x, y = (
            x + tf.matmul(down, tf.matmul(nodes[..., 0], across, transpose_b=True)),
            y + tf.matmul(down, tf.matmul(nodes[..., 1], across, transpose_b=True)),
        )
    if upright:
        return matrix[0, 0] * x + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
    )


def displacements(points: tf.Tensor, size: tuple[Any, ...], nodes: tf.Tensor) -> tf.Tensor:
    """The field at `points`, float32 (N, 2) of x and y in pixels of the result: displacements (N, 2).

    `nodes`, float32 (count, count, 2), are the coefficients of uniform cubic B-splines, rows first, in pixels.
    """
    across = _weights(points[:, 0], size[1], nodes.shape[0])
    down = _weights(points[:, 1], size[0], nodes.shape[0])
    return tf.einsum("nr,rcd,nc->nd", down, nodes, across)


def transform_points(
    points: tf.Tensor, matrix: tf.Tensor, size: tuple[Any, ...], nodes: tf.Tensor | None = None
) -> tf.Tensor:
    """Where `points` of the source, float32 (N, 2) of x and y in its pixels, are in the result."""
    back = tf.linalg.inv(matrix)
    straight = tf.matmul(points, back[:2, :2], transpose_b=True) + back[:2, 2]
    moved = straight
    for _ in range(ROUNDS if nodes is not None else 0):
        moved = straight - displacements(moved, size, nodes)
    return moved


def _weights(place: tf.Tensor, side: int | tf.Tensor, count: int) -> tf.Tensor:
    """How much each of `count` nodes says at each place along a side: float32 (places, count), rows sum to 1."""
    cells = tf.cast(side, tf.float32) / (count - 3)
    distance = tf.abs((place[:, None] + 0.5) / cells - (tf.range(float(count)) - 1))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, tf.maximum(2 - distance, 0) ** 3 / 6
    return tf.where(distance < 1, near, far)


def _folded(place: tf.Tensor, side: int | tf.Tensor, fill: str) -> tf.Tensor:
    """A place, float32, moved to where within the side stands what `fill` puts there; "constant" leaves it."""
    length = tf.cast(side, tf.float32)
    if fill == "wrap":
        return tf.math.floormod(place, length)
    if fill == "reflect":  # d c b a | a b c d | d c b a
        place = tf.math.floormod(place, 2 * length)
        place = tf.minimum(place, 2 * length - 1 - place)
    return place if fill == "constant" else tf.clip_by_value(place, 0.0, length - 1)


def _inside(place: tf.Tensor, side: int | tf.Tensor, fill: str) -> tf.Tensor:
    """A whole-numbered place, float32, as an index within the side, int32."""
    return tf.cast(tf.clip_by_value(_folded(place, side, fill), 0.0, tf.cast(side, tf.float32) - 1), tf.int32)


def _extended(image: tf.Tensor, *, wrapped: bool) -> tf.Tensor:
    """With the first row and column once more after the last, if `wrapped`, and at least two of each."""
    if wrapped:
        image = tf.concat([image, image[:1]], axis=0)
        return tf.concat([image, image[:, :1]], axis=1)
    more = [tf.maximum(2 - side, 0) for side in _sides(image)]
    alone = not image.shape[:2].is_fully_defined() or min(image.shape[:2]) < 2
    return tf.pad(image, [[0, more[0]], [0, more[1]], [0, 0]]) if alone else image


def _pair(place: tf.Tensor, side: int | tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The first of the two neighbours that a place lies between, int32, and what each of them weighs."""
    first = tf.clip_by_value(tf.floor(place), 0.0, tf.cast(side, tf.float32) - 2)
    weights = [tf.maximum(1 - tf.abs(place - first - step), 0.0) for step in (0, 1)]
    return tf.cast(first, tf.int32), weights


def _or_black(values: tf.Tensor, y: tf.Tensor, x: tf.Tensor, sides: tuple[Any, ...], fill: str) -> tf.Tensor:
    if fill != "constant":
        return values
    height, width = (tf.cast(side, tf.float32) for side in sides)
    is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return tf.where(is_inside[..., None], values, tf.zeros([], values.dtype))


def _sides(image: tf.Tensor) -> tuple[Any, ...]:
    """Height and width, as numbers where they are static."""
    return tuple(known or tf.shape(image)[axis] for axis, known in enumerate(image.shape[:2]))
