"""Augmentations that move pixels. Those that stand next to each other in a recipe become one reading of the picture.

Differs from doing them one after the other: beyond the border of a crop stands what the picture has there, not black;
and a warp bends the result of its neighbours, wherever it is listed among them.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from cnn_keras.data.transforms.stateless_random import Uniform
from cnn_keras.data.transforms.transform import Geometry, Placement, check_amounts
from cnn_keras.data.transforms.warp import FILLS
from cnn_keras.errors import Fault

TRIES = 10  # of a random-resized crop, until one fits into the picture


def mirror(*, pairs: Sequence[Sequence[int]] | None = None) -> Geometry:
    """Left and right exchanged, every second time.

    Args:
        pairs: landmarks that then change places, for example [[0, 1]] for the eyes; needed where there are landmarks.
    """

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        turned = draws[..., 0] < 0.5
        return Placement(_matrix([[tf.where(turned, -1.0, 1.0), 0, tf.where(turned, extent[1] - 1, 0)], [0, 1, 0]]))

    return Geometry("mirror", Uniform(1), place, exact=True, mirrors=True, pairs=_pairs("mirror", pairs))


def flip(*, pairs: Sequence[Sequence[int]] | None = None) -> Geometry:
    """Top and bottom exchanged, every second time.

    Args:
        pairs: as of `mirror`: upside down, a left eye is a right one too.
    """

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        turned = draws[..., 0] < 0.5
        return Placement(_matrix([[1, 0, 0], [0, tf.where(turned, -1.0, 1.0), tf.where(turned, extent[0] - 1, 0)]]))

    return Geometry("flip", Uniform(1), place, exact=True, mirrors=True, pairs=_pairs("flip", pairs))


def crop(
    *,
    padding: int = 4,
    size: Sequence[int] | None = None,
    source: Sequence[int] | None = None,
    fill: str = "constant",
) -> Geometry:
    """Pad on all sides, then cut at a random place (He et al., 2016, section 4.2: 4 pixels on 32 × 32).

    Args:
        padding: pixels.
        size: (height, width) of the cut; None is the recipe's data.size.
        source: (height, width) that pictures are read at; None is data.size, too.
        fill: what the padding is made of: "constant" (black), "nearest", "reflect" or "wrap".

    Raises:
        Fault: `padding` is no number of pixels, or a size or `fill` is none.
    """
    check_amounts("crop", padding=padding)
    whole, source_size = _size("crop.size", size), _size("crop.source", source)

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        room = tf.maximum(extent - size, 0) + 2 * padding  # a larger cut than there is stands at the top left
        start = tf.minimum(tf.floor(draws * (room + 1)), room) - padding
        return Placement(_matrix([[1, 0, start[..., 1]], [0, 1, start[..., 0]]]))

    if not isinstance(padding, int):
        raise Fault(f"augment.crop.padding must be a number of whole pixels, got {padding!r}")
    return Geometry("crop", Uniform(2), place, exact=True, fill=_fill("crop", fill), size=whole, source=source_size)


def resized_crop(
    *,
    area: Sequence[float] = (0.08, 1.0),
    aspect: Sequence[float] = (3 / 4, 4 / 3),
    size: Sequence[int] | None = None,
    source: Sequence[int] | None = None,
) -> Geometry:
    """Cut a window of random area and aspect ratio and scale it to `size` (Szegedy et al., 2015, section 6).

    Args:
        area: least and largest share of the picture's area.
        aspect: least and largest ratio of width to height, drawn evenly in its logarithm.
        size: (height, width) of the result; None is the recipe's data.size.
        source: (height, width) that pictures are read at, larger so that a small window is sharp; None is data.size.

    Differs from the paper: a window, which has whole pixels, that does not fit is drawn again up to TRIES times, then
    the whole picture is taken. Nothing smooths before a window larger than `size` is made smaller.
    """
    low, high = _range("resized_crop.area", area, most=1.0)
    thin, wide = _range("resized_crop.aspect", aspect)
    whole, source_size = _size("resized_crop.size", size), _size("resized_crop.source", source)

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        share, ratio, where = tf.split(draws, [TRIES, TRIES, 2], axis=-1)
        pixels = (low + share * (high - low)) * extent[0] * extent[1]
        ratio = tf.exp(math.log(thin) + ratio * math.log(wide / thin))
        windows = tf.maximum(tf.round(tf.stack([tf.sqrt(pixels / ratio), tf.sqrt(pixels * ratio)], axis=-1)), 1)
        fits = tf.reduce_all(windows <= extent, axis=-1)
        first = tf.argmax(tf.cast(fits, tf.int32), axis=-1)
        window = tf.gather(windows, first, axis=-2, batch_dims=draws.shape.rank - 1)
        window = tf.where(tf.reduce_any(fits, axis=-1, keepdims=True), window, extent)
        return Placement(_window(tf.floor(where * (extent - window + 1)), window, size))

    return Geometry("resized_crop", Uniform(2 * TRIES + 2), place, upright=True, size=whole, source=source_size)


def scale_jitter(
    *,
    shortest: Sequence[float] = (256, 480),
    size: Sequence[int] | None = None,
    source: Sequence[int] | None = None,
) -> Geometry:
    """Scale the shorter side to a random length, then cut at a random place (Simonyan and Zisserman, 2015, 3.1).

    Args:
        shortest: least and largest length of the shorter side, in pixels.
        size: (height, width) of the cut; None is the recipe's data.size. No side may be longer than the least length.
        source: (height, width) that pictures are read at, larger so that the cut is sharp; None is data.size.

    Raises:
        Fault: `shortest` is no pair of lengths, or the cut is larger than the least of them.
    """
    low, high = _range("scale_jitter.shortest", shortest)
    whole, source_size = _size("scale_jitter.size", size), _size("scale_jitter.source", source)
    if whole and max(whole) > low:
        raise Fault(f"augment.scale_jitter.size must be at most shortest ({low:g}), got {list(whole)}")

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        scale = (low + draws[..., :1] * (high - low)) / tf.reduce_min(extent)
        window = tf.minimum(size / scale, extent)
        return Placement(_window(draws[..., 1:] * (extent - window), window, size))

    return Geometry("scale_jitter", Uniform(3), place, upright=True, size=whole, source=source_size)


def affine(
    *, rotate: float = 0.0, shift: float = 0.0, zoom: float = 0.0, shear: float = 0.0, fill: str = "constant"
) -> Geometry:
    """Rotation, shift, zoom and shear about the centre, composed into one bilinear resampling.

    Args:
        rotate: largest angle, in degrees, either way.
        shift: largest move along each axis, as a fraction of that axis, either way.
        zoom: largest change of scale; 0.1 draws a factor in [1 / 1.1, 1.1], even in its logarithm.
        shear: largest horizontal shear angle, in degrees, either way.
        fill: what stands beyond the border: "constant" (black), "nearest", "reflect" or "wrap".
    """
    _fill("affine", fill)
    check_amounts("affine", rotate=rotate, shift=shift, zoom=zoom, shear=shear)

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        return Placement(
            about_centre(
                angle=draws[..., 0] * math.radians(rotate),
                shear=draws[..., 1] * math.radians(shear),
                scale=tf.exp(draws[..., 2] * math.log1p(zoom)),
                move=draws[..., 3:] * shift * extent,
                centre=(extent - 1) / 2,
            )
        )

    return Geometry("affine", Uniform(5, -1.0, 1.0), place, fill=fill)


def rotate(*, degrees: float = 15.0, fill: str = "constant") -> Geometry:
    """Turned about the centre by up to `degrees` either way: `affine` under a name of its own."""
    check_amounts("rotate", degrees=degrees)
    return _renamed("rotate", affine(rotate=degrees, fill=_fill("rotate", fill)))


def shear(*, degrees: float = 10.0, fill: str = "constant") -> Geometry:
    """Slanted sideways by up to `degrees` either way: `affine` under a name of its own."""
    check_amounts("shear", degrees=degrees)
    return _renamed("shear", affine(shear=degrees, fill=_fill("shear", fill)))


def elastic(*, amount: float = 0.06, cells: int = 3, fill: str = "reflect") -> Geometry:
    """A smooth local warp (Ronneberger et al., 2015, section 3.1; Simard et al., 2003).

    Args:
        amount: largest displacement along each axis, as a fraction of that axis.
        cells: how many times across the picture the warp may change direction.
        fill: what stands beyond the border: "constant" (black), "nearest", "reflect" or "wrap".

    Differs from the papers: coefficients of cubic B-splines are drawn evenly, so that no displacement is larger than
    `amount` and, with 4 × amount × cells below 1, the picture cannot fold and landmarks can follow. A field that
    stands beside other geometry bends the result of it all.

    Raises:
        Fault: `cells` is no whole number above 0, or `amount` so large that the picture could fold.
    """
    check_amounts("elastic", amount=amount, cells=cells)
    if not isinstance(cells, int) or cells < 1:
        raise Fault(f"augment.elastic.cells must be a whole number of at least 1, got {cells!r}")
    if 4 * amount * cells >= 1:
        raise Fault(f"augment.elastic.amount must be below {1 / (4 * cells):g} with {cells} cells, got {amount}")
    count = cells + 3

    def place(draws: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> Placement:
        return Placement(
            tf.eye(3),
            tf.reshape(draws, tf.concat([tf.shape(draws)[:-1], [count, count, 2]], axis=0)) * amount * size[::-1],
        )

    return Geometry("elastic", Uniform(2 * count**2, -1.0, 1.0), place, fill=_fill("elastic", fill))


def about_centre(
    *, angle: tf.Tensor, shear: tf.Tensor, scale: tf.Tensor, move: tf.Tensor, centre: tf.Tensor
) -> tf.Tensor:
    """The matrix that maps an output pixel (x, y) to the input pixel it is read from.

    Input = A (output − centre − move) + centre with A = shear · rotation / scale; `move` and `centre` are (y, x).
    """
    cos, sin, slope = tf.cos(angle) / scale, tf.sin(angle) / scale, tf.tan(shear)
    a, b, c, d = cos + slope * sin, slope * cos - sin, sin, cos
    move = tf.convert_to_tensor(move)
    y, x = centre[0] + move[..., 0], centre[1] + move[..., 1]
    return _matrix([[a, b, centre[1] - a * x - b * y], [c, d, centre[0] - c * x - d * y]])


def _matrix(rows: list[list[Any]]) -> tf.Tensor:
    """A matrix (3, 3) of its upper two rows, or (N, 3, 3) where they hold numbers of a batch, (N,)."""
    cells = [[tf.cast(number, tf.float32) for number in row] for row in [*rows, [0, 0, 1]]]
    shape = tf.shape(max(itertools.chain(*cells), key=lambda cell: cell.shape.rank))
    return tf.stack([tf.stack([tf.broadcast_to(cell, shape) for cell in row], axis=-1) for row in cells], axis=-2)


def _window(start: tf.Tensor, window: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """From the pixels of a result of `size` to a window of the source; all (height, width), edges at whole numbers."""
    step = window / size
    offset = start + step / 2 - 0.5
    return _matrix([[step[..., 1], 0, offset[..., 1]], [0, step[..., 0], offset[..., 0]]])


def _renamed(name: str, step: Geometry) -> Geometry:
    return Geometry(name, step.draw, step.place, fill=step.fill)


def _fill(name: str, fill: str) -> str:
    if fill not in FILLS:
        raise Fault(f"augment.{name}.fill must be constant, nearest, reflect or wrap, got {fill!r}")
    return fill


def _size(name: str, size: Sequence[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(s, int) and s > 0 for s in size):
        raise Fault(f"augment.{name} must be [height, width] in pixels, got {size!r}")
    height, width = size
    return height, width


def _range(name: str, pair: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in pair)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not 0 < low <= high <= most or high == math.inf:
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise Fault(f"augment.{name} must be [least, largest], above 0{limit}, got {pair!r}")
    return low, high


def _pairs(name: str, pairs: Sequence[Sequence[int]] | None) -> tuple[tuple[int, int], ...] | None:
    if pairs is None:
        return None
    try:
        pairs_ = tuple((int(first), int(second)) for first, second in pairs)
    except (TypeError, ValueError):
        raise Fault(f"augment.{name}.pairs must be a list of pairs of landmarks' numbers, got {pairs!r}") from None
    return pairs_
