"""Receptive fields: which pixels of the image a unit of a deep layer sees, followed from layer to layer.

A window of f units at jump j widens a field by (f - 1)·j, a stride s multiplies the jump by s, and padding p
moves the start back by p·j. Fields are not clipped to the image, as in the literature: one may exceed it.

A layer that keeps the spatial size and has no window is taken to work position by position; one that changes
the size in a way not known here is taken to see everything, which bounds its field from above.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from keras import layers

PADDING = layers.ZeroPadding1D | layers.ZeroPadding2D | layers.ZeroPadding3D
CROPPING = layers.Cropping1D | layers.Cropping2D | layers.Cropping3D
UP_SAMPLING = layers.UpSampling1D | layers.UpSampling2D | layers.UpSampling3D
TRANSPOSED = layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose
# How many neighbours along an axis up-sampling mixes.
MIXED = {"nearest": 1, "bilinear": 2, "bicubic": 4, "lanczos3": 6, "lanczos5": 10}


@dataclass(frozen=True)
class Field:
    """What the units of a map see, in pixels along each spatial axis of the image.

    size: of every unit's field; jump: from one unit's field to its neighbour's (the mean, behind up-sampling,
    where neighbours may share a field), empty where units have no position, as after flattening; start: of
    the first unit's field, negative in the padding; middle: of the first unit's own windows, which is that of its
    field unless a gate, such as squeeze-and-excitation, has widened it to the whole image.
    """

    size: tuple[float, ...]
    jump: tuple[float, ...]
    start: tuple[float, ...]
    middle: tuple[float, ...]


def pixel(axes: int) -> Field:
    """The field of the image's own pixels."""
    return Field((1,) * axes, (1,) * axes, (0,) * axes, (0,) * axes)


def union(fields: Sequence[Field]) -> Field:
    """The field of a sum or concatenation; maps without position (a gate's) reach all units of the others.

    Its middle is that of the widest with a position.
    """
    axes = max(len(field.size) for field in fields)
    fields = [field for field in fields if len(field.size) == axes]
    starts = np.array([field.start for field in fields])
    start = starts.min(axis=0)
    size = (starts + [field.size for field in fields]).max(axis=0) - start
    placed = [field for field in fields if field.jump] or fields
    widest = np.argmax([field.size for field in placed], axis=0)
    middle = tuple(placed[number].middle[axis] for axis, number in enumerate(widest.tolist()))
    return Field(tuple(size.tolist()), max(field.jump for field in fields), tuple(start.tolist()), middle)


def after(layer: layers.Layer, field: Field, sizes: Sequence[int], sizes_after: Sequence[int]) -> Field:
    """The field behind a layer that turns maps of `sizes`, seen through `field`, into `sizes_after`."""
    if not field.jump:
        return field
    if isinstance(layer, PADDING):
        return _moved(field, shifts=[-pair[0] for pair in np.atleast_2d(layer.padding).tolist()])
    if isinstance(layer, CROPPING):
        return _moved(field, shifts=[pair[0] for pair in np.atleast_2d(layer.cropping).tolist()])
    if isinstance(layer, UP_SAMPLING):
        mixed = MIXED[getattr(layer, "interpolation", "nearest")]
        factors = np.atleast_1d(layer.size).tolist()
        return _moved(field, [mixed] * len(sizes), [1 / factor for factor in factors], [-(mixed // 2)] * len(sizes))
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window:
        dilations = getattr(layer, "dilation_rate", (1,) * len(window))
        reaches = [dilation * (size - 1) + 1 for size, dilation in zip(window, dilations, strict=True)]
        slide = _spread if isinstance(layer, TRANSPOSED) else _slid
        return slide(field, reaches, layer.strides, layer.padding, sizes)
    if sizes == sizes_after:
        return field
    whole = _moved(field, windows=sizes)
    return Field(whole.size, (), whole.start, whole.middle)


def _slid(field: Field, reaches: Sequence[int], strides: Sequence[int], padding: str, sizes: Sequence[int]) -> Field:
    """Behind a convolution or pooling whose dilated window reaches this far along each axis."""
    if padding == "causal":
        pads = [reach - 1 for reach in reaches]
    elif padding == "same":
        missing = [(-(-n // s) - 1) * s + reach - n for n, s, reach in zip(sizes, strides, reaches, strict=True)]
        pads = [max(pixels, 0) // 2 for pixels in missing]
    else:
        pads = [0] * len(sizes)
    return _moved(field, reaches, strides, [-pad for pad in pads])


def _spread(field: Field, reaches: Sequence[int], strides: Sequence[int], padding: str, _sizes: Sequence[int]) -> Field:
    """Behind a transposed convolution, where every stride-th tap of the window meets a unit of the input."""
    positions = [-(-reach // stride) for reach, stride in zip(reaches, strides, strict=True)]
    cropped = [max(reach - stride, 0) // 2 for reach, stride in zip(reaches, strides, strict=True)]
    if padding == "valid":
        cropped = [0] * len(reaches)
    first = [-((reach - 1 - c) // stride) for reach, c, stride in zip(reaches, cropped, strides, strict=True)]
    return _moved(field, positions, [1 / stride for stride in strides], first)


def _moved(
    field: Field,
    windows: Sequence[int] | None = None,
    steps: Sequence[float] | None = None,
    shifts: Sequence[int] | None = None,
) -> Field:
    """The field widened by `windows`, its jump multiplied by `steps`, its start moved by `shifts` (units)."""
    ones = [1] * len(field.size)
    wider = [(w - 1) * j for w, j in zip(windows or ones, field.jump, strict=True)]
    moves = [j * shift for j, shift in zip(field.jump, shifts or [0] * len(ones), strict=True)]
    return Field(
        tuple(s + more for s, more in zip(field.size, wider, strict=True)),
        tuple(j * step for j, step in zip(field.jump, steps or ones, strict=True)),
        tuple(s + move for s, move in zip(field.start, moves, strict=True)),
        tuple(m + move + more / 2 for m, move, more in zip(field.middle, moves, wider, strict=True)),
    )
