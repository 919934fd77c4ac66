"""Volumes with masks: folders of NIfTI files as in `mask_folders`, masks whose voxels are numbers of classes.

Also as nnU-Net wants them: `imagesTr/` beside `labelsTr/`, the channels of a volume in files of their own
(`case_0000.nii.gz`, `case_0001.nii.gz`), the names of the classes in `dataset.json`. A volume may be a folder of DICOM
slices, `volumes/case/*.dcm` beside `masks/case.nii.gz`. A mask must lie on its volume:
where their headers disagree nobody knows which one is right, and `headers` says.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnn_keras.data import resampling
from cnn_keras.data.files import dicom, input_file, nifti
from cnn_keras.data.formats.masks import color_tables, mask_folders
from cnn_keras.data.label_map import LabelMaps, Mask, Scan, check_size
from cnn_keras.errors import Unreadable

APART = 0.1  # of a voxel's shortest side: how far the corners of two grids may be from each other
CHANNEL = re.compile(r"(.+)_\d{4}((?i:\.nii(?:\.gz)?))")  # the name of a file that holds a channel
NEAR = 0.1  # how far a factor of all labels may be from 1


def read(
    path: Path, headers: Literal["trust", "picture"] | None = None, spacing: tuple[float, float, float] | None = None
) -> LabelMaps:
    """Every volume below `path` that has a folder of masks, and what files beside them say of the numbers.

    Args:
        spacing: in millimetres, to the right, to the front and up, to which volumes and masks are resampled.
        headers: of a mask whose header places it elsewhere than its volume: "trust" turns each by its own header,
            "picture" takes the volume's for both, voxel by voxel. None refuses the mask. One whose header does not say
            where its axes point always lies as its volume does.
    """
    legend = color_tables.read_legend(path)
    kind = VOLUMES._replace(load=partial(load, spacing=spacing), read=partial(_mask, headers, spacing))
    return LabelMaps(mask_folders.pair_items(path, kind), legend.names, legend.ignored)


def load(files: Sequence[Path], *, spacing: Sequence[float] | None = None) -> tuple[np.ndarray, list[Any]]:
    """A volume of one or several files, whose channels stand behind each other, and notes on it.

    Raises:
        OSError: a file cannot be read.
        Unreadable: one is no volume, or lies elsewhere than the first.
    """
    first, *others = (nifti.open_volume(file) for file in files)
    parts = [nifti.voxels(first)]
    for file, image in zip(files[1:], others, strict=True):
        if trouble := _elsewhere(image, first):
            raise Unreadable(
                "unsupported", f"its files must share one grid, but that of {file.name} differs: {trouble}"
            )
        parts.append(nifti.voxels(image, affine=first.affine))
    notes = sorted({note for _, notes_ in parts for note in notes_})
    volume = np.concatenate([values for values, _ in parts], axis=-1)
    if spacing is not None:
        nifti.check_resampled(first, spacing)
        volume = resampling.resample(volume, nifti.spacing(first), spacing)
    return volume, [*notes, nifti.voxel_size_note(first)]


def channel_files(file: Path, channels: int) -> list[Path]:
    """The files of a volume whose channels are in files of their own, given any one of them; else the file alone.

    They are `case_0000.nii.gz`, `case_0001.nii.gz` and so on, as many as there are channels.
    """
    name = CHANNEL.fullmatch(file.name)
    if name is None or channels == 1:
        return [file]
    files = [file.with_name(f"{name[1]}_{number:04d}{name[2]}") for number in range(channels)]
    return files if file in files and all(map(input_file.is_regular, files)) else [file]


def _mask(
    headers: str | None,
    spacing: Sequence[float] | None,
    files: list[Path],
    path: Path,
    instances: Path | None,
    size: tuple[int, ...],
) -> Mask:
    picture = nifti.open_volume(files[0])
    own = nifti.spacing(picture)
    arrays: list[np.ndarray] = []
    scans: list[Scan] = []
    notes: dict[str, str] = {}
    for file in (path, instances):
        if file is not None:
            values, note = _numbers(nifti.open_volume(file), picture, headers)
            if spacing is not None:
                scans.append(Scan(values, own))
                values = resampling.resample_labels(values, own, spacing)
            check_size(values.shape, size)
            arrays.append(values)
            notes |= dict(note)
    values, *others = arrays
    scan, sides = scans[0] if scans else None, own if spacing is None else tuple(spacing)
    return Mask(values, others[0] if others else None, tuple(notes.items()), scan, sides)


def _numbers(image: Any, picture: Any, headers: str | None) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """The numbers of a mask, turned as its volume is, and notes of kind and detail."""
    affine, notes = picture.affine, []
    if trouble := _elsewhere(image, picture):
        is_reordered = sorted(image.shape[:3]) == sorted(picture.shape[:3]) and nifti.has_orientation(image)
        if headers == "picture" or not is_reordered:
            check_size(image.shape[:3], picture.shape[:3])
        if not nifti.has_orientation(image):
            notes.append(("mask without an orientation", "it lies as its volume does"))
        elif headers is None:
            raise Unreadable(
                "mask on another grid",
                f"{trouble}; data.headers: picture lays masks on their volumes voxel by voxel, trust turns each by its "
                "own header",
            )
        elif headers == "trust":
            affine = image.affine
    values, value_notes = nifti.voxels(image, affine=affine)
    notes += [(f"mask {note}", "") for note in value_notes if note != "turned upright"]
    if values.shape[-1] != 1:
        raise Unreadable("unreadable mask", f"it must hold one number for each voxel, got {values.shape[-1]}")
    numbers, factor = _unscaled(values[..., 0])
    if factor != 1:
        notes.append(("labels scaled", f"all are whole multiples of {factor:.6g}"))
    return mask_folders.to_integers(numbers), notes


def _elsewhere(image: Any, picture: Any) -> str:
    """How the grid of one file differs from another's: "" where their corners lie together."""
    nibabel = nifti.require_nibabel()
    if image.shape[:3] != picture.shape[:3]:
        return "sizes {} and {}".format(*("×".join(map(str, volume.shape[:3])) for volume in (image, picture)))
    corners = np.array(np.meshgrid(*([0, side - 1] for side in picture.shape[:3]))).reshape(3, -1).T
    here, there = (nibabel.affines.apply_affine(volume.affine, corners) for volume in (image, picture))
    spacings = [nibabel.affines.voxel_sizes(volume.affine) for volume in (image, picture)]
    if np.linalg.norm(here - there, axis=1).max() <= APART * min(map(min, spacings)):
        return ""
    codes = ["".join(nibabel.aff2axcodes(volume.affine)) for volume in (image, picture)]
    if codes[0] != codes[1]:
        return f"its axes point to {codes[0]}, the volume's to {codes[1]}"
    if not np.allclose(spacings[0], spacings[1], rtol=0.01):
        return "voxels of {} and {} mm".format(*("×".join(f"{side:.3g}" for side in spacing) for spacing in spacings))
    return f"its corners are up to {np.linalg.norm(here - there, axis=1).max():.3g} mm from the volume's"


def _unscaled(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Labels that a factor near 1 has taken away from whole numbers, and that factor."""
    distinct = np.unique(values)
    least = min((float(value) for value in distinct if value > mask_folders.WHOLE), default=1.0)
    whole = np.abs(distinct - np.round(distinct)).max(initial=0) <= mask_folders.WHOLE
    if (
        whole
        or abs(least - 1) > NEAR
        or np.abs(distinct / least - np.round(distinct / least)).max() > mask_folders.WHOLE
    ):
        return values, 1.0
    return values / least, least


VOLUMES = mask_folders.Kind(
    (*nifti.SUFFIXES, dicom.SUFFIX), nifti.SUFFIXES, load, partial(_mask, None, None), ending=r"_\d{4}"
)
