"""The pieces of real images that excite a unit most.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013: their nine.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from cnn_keras.learn.visualization.layer_selection import check_units, field_box, spatial_row
from cnn_keras.learn.visualization.taps import batches, compile_for, tap


class Patches(NamedTuple):
    """The pieces of images that excite one unit most, the strongest first, at most one of each image.

    A box is (left, top, right, bottom) in pixels of the image and, like the piece, reaches over the border where the
    receptive field does.
    """

    unit: int
    pieces: np.ndarray  # uint8 (count, field height, field width, channels)
    activations: np.ndarray  # float32 (count,)
    images: np.ndarray  # int64 (count,), the number of the image each piece is from
    boxes: np.ndarray  # int64 (count, 4)


class _Candidate(NamedTuple):
    """A piece of an image: its pixels, or those of the whole image as long as it may be crowded out."""

    activation: float
    image: int
    box: tuple[int, int, int, int]
    pixels: np.ndarray
    is_cut: bool = False

    def cut(self, outside: int) -> Self:
        return self if self.is_cut else self._replace(pixels=_piece(self.pixels, self.box, outside), is_cut=True)


def exciting_patches(
    model: keras.Model,
    layer: str,
    images: np.ndarray | Iterable[np.ndarray],
    *,
    units: Sequence[int] | None = None,
    count: int = 9,
    outside: int = 128,
) -> list[Patches]:
    """The pieces of the images that excite units most, each exactly as large as the unit's receptive field.

    One pass over the images; in memory are one batch and `count` pieces for each unit.

    Args:
        layer: name of a layer with positions.
        images: uint8 (images, height, width, channels), 0–255, or an iterable of such batches, all of one size.
        units: numbers of the units; None takes all, which for a wide layer with large fields is much memory.
        count: pieces for each unit; fewer where there are fewer images.
        outside: 0–255, what a piece holds where the field lies beyond the border.

    Returns:
        A list of `Patches`, one for each unit.

    Raises:
        Fault: there is no image, or no such unit, or no such layer with positions.
    """
    strongest_by_unit: list[list[_Candidate]] = []
    numbers: list[int] = []
    row, passed = None, 0
    if isinstance(images, np.ndarray):
        images = batches(images, inference.batch_limit(model, input_shape=images.shape[1:]))
    for batch in map(np.asarray, images):
        if row is None:
            row = spatial_row(model, layer, batch.shape[1:])
            numbers = check_units(units, row)
            strongest = compile_for(_strongest(tap(model, row.name), numbers), batch.shape[1:])
            strongest_by_unit = [[] for _ in numbers]
        answers = (array.numpy() for array in strongest(batch))
        for candidates, activations, places in zip(strongest_by_unit, *answers, strict=True):
            leading = np.argsort(-activations, kind="stable")[:count]
            candidates += [
                _Candidate(float(activations[k]), passed + int(k), field_box(row, places[k]), batch[k]) for k in leading
            ]
            candidates.sort(key=lambda candidate: -candidate.activation)  # stable: of equals, the earlier image
            candidates[count:] = []
            candidates[:] = [candidate.cut(outside) for candidate in candidates]
        passed += len(batch)
    if not passed:
        raise Fault("images must hold at least one image, got none")
    return [
        Patches(
            unit,
            np.stack([patch.pixels for patch in patches]),
            np.array([patch.activation for patch in patches], np.float32),
            np.array([patch.image for patch in patches]),
            np.array([patch.box for patch in patches]),
        )
        for unit, patches in zip(numbers, strongest_by_unit, strict=True)
    ]


def _strongest(
    tapped: Callable[[tf.Tensor], Any], units: Sequence[int]
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A function from a batch to the largest activation of each unit on each image, and where: y and x."""

    def strongest(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        maps = tf.gather(tapped(batch)[0], units, axis=-1)
        batches, height, width, count = tf.unstack(tf.shape(maps))
        flat = tf.transpose(tf.reshape(maps, (batches, height * width, count)), (2, 0, 1))
        place = tf.argmax(flat, axis=-1, output_type=tf.int32)
        return tf.reduce_max(flat, axis=-1), tf.cast(tf.stack([place // width, place % width], axis=-1), tf.int64)

    return strongest


def _piece(image: np.ndarray, box: Sequence[int], outside: int) -> np.ndarray:
    """The image within the box; `outside` beyond its border."""
    left, top, right, bottom = box
    piece = np.full((bottom - top, right - left, image.shape[-1]), outside, np.uint8)
    upper, lower = max(top, 0), min(bottom, image.shape[0])
    first, last = max(left, 0), min(right, image.shape[1])
    if upper < lower and first < last:
        piece[upper - top : lower - top, first - left : last - left] = image[upper:lower, first:last]
    return piece
