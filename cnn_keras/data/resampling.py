"""Volumes at another spacing: values and labels at the voxels of a finer or coarser grid between the same edges."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

CLASSES = 64  # numbers that are resampled one by one; of more, each voxel takes the nearest one's


def shape_at(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> tuple[int, ...]:
    """How many voxels of `new_spacing` cover a volume along each axis, one at least."""
    return tuple(max(1, round(count * old / new)) for count, old, new in zip(shape, spacing, new_spacing, strict=True))


def resample(
    values: np.ndarray, spacing: Sequence[float], new_spacing: Sequence[float], shape: Sequence[int] | None = None
) -> np.ndarray:
    """A volume at another spacing, linear between voxels, smoothed first along axes that become coarser.

    Args:
        values: (depth, height, width, channels).
        spacing: of its voxels along each axis; `new_spacing` in the same unit.
        shape: the number of the new voxels along each axis; those of `shape_at` if not given.

    Returns:
        float32 (*shape, channels).
    """
    shape = shape_at(values.shape[:-1], spacing, new_spacing) if shape is None else tuple(shape)
    out = np.empty((*shape, values.shape[-1]), np.float32)
    for channel in range(values.shape[-1]):
        out[..., channel] = _linear(values[..., channel], spacing, new_spacing, shape)
    return out


def resample_labels(
    labels: np.ndarray, spacing: Sequence[float], new_spacing: Sequence[float], shape: Sequence[int] | None = None
) -> np.ndarray:
    """Labels at another spacing: at each voxel the class of which there would be most, by `resample` of each class.

    Args:
        labels: integers (depth, height, width).
        spacing, new_spacing, shape: as `resample` has them.

    Returns:
        (*shape,), of the same dtype.
    """
    shape = shape_at(labels.shape, spacing, new_spacing) if shape is None else tuple(shape)
    numbers = np.unique(labels)
    if len(numbers) > CLASSES:
        return _interpolate(labels, spacing, new_spacing, shape, order=0)
    out, most = np.full(shape, numbers[0], labels.dtype), np.full(shape, -1.0, np.float32)
    for number in numbers:
        share = _linear((labels == number).astype(np.float32), spacing, new_spacing, shape)
        out[share > most] = number
        most = np.maximum(most, share)
    return out


def _linear(
    values: np.ndarray, spacing: Sequence[float], new_spacing: Sequence[float], shape: Sequence[int]
) -> np.ndarray:
    widths = [max(0.0, (new / old - 1) / 2) for old, new in zip(spacing, new_spacing, strict=True)]
    smooth = ndimage.gaussian_filter(values.astype(np.float32), widths, mode="nearest") if any(widths) else values
    return _interpolate(smooth.astype(np.float32), spacing, new_spacing, shape, order=1)


def _interpolate(
    values: np.ndarray, spacing: Sequence[float], new_spacing: Sequence[float], shape: Sequence[int], *, order: int
) -> np.ndarray:
    """What is at the centres of the new voxels; the edge of the first one is where it was."""
    steps = np.asarray(new_spacing, float) / np.asarray(spacing, float)
    return ndimage.affine_transform(values, steps, (steps - 1) / 2, tuple(shape), order=order, mode="nearest")
