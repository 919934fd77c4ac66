"""Volumes with masks: folders of NIfTI files as in `mask_folders`, masks whose voxels are numbers of classes.

Also as nnU-Net wants them: `imagesTr/` beside `labelsTr/`, the channels of a volume in files of their own
(`case_0000.nii.gz`, `case_0001.nii.gz`), the names of the classes in `dataset.json`. A mask and its volume are turned
upright alike.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data import mask_folders, volumes
from cnn_keras.data.encoded import Unreadable
from cnn_keras.data.label_maps import LabelMaps, Mask, check_size
from cnn_keras.fault import Fault


def read(path: Path) -> LabelMaps:
    """Every volume below `path` that has a folder of masks, and the names that stand in its file of classes."""
    return LabelMaps(mask_folders.paired(path, VOLUMES), _described(path) or mask_folders.named(path))


def _described(path: Path) -> dict[int, str]:
    """What nnU-Net's dataset.json says of the labels: names by number, or numbers by name."""
    file = path / "dataset.json"
    if not file.is_file():
        return {}
    try:
        labels = json.loads(file.read_text(encoding="utf-8-sig"))["labels"]
        pairs = [(name, number) if str(number).isdigit() else (number, name) for name, number in labels.items()]
        return {int(number): str(name) for name, number in sorted(pairs, key=lambda pair: int(pair[1]))}
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise Fault(f"{file} must name the labels by their numbers: {error}", code=Fault.DATA) from None


def _load(files: list[Path]) -> tuple[np.ndarray, list[str]]:
    """A volume of one or several files, whose channels stand behind each other, and notes on it."""
    parts = [volumes.read(file) for file in files]
    for file, (values, _) in zip(files, parts, strict=True):
        if values.shape[:3] != parts[0][0].shape[:3]:
            raise Unreadable("unsupported", f"its files must have one size, {file.name} has {values.shape[:3]}")
    return np.concatenate([values for values, _ in parts], axis=-1), sorted(
        {note for _, notes in parts for note in notes}
    )


def _mask(path: Path, instances: Path | None, size: tuple[int, ...]) -> Mask:
    found = [_numbers(file) for file in (path, instances) if file is not None]
    for values in found:
        check_size(values.shape, size)
    return Mask(*found)


def _numbers(path: Path) -> Any:
    values = volumes.read(path)[0]
    if values.shape[-1] != 1 or (values != np.round(values)).any():
        raise Unreadable("unreadable mask", "its voxels must be whole numbers, one for each")
    return values[..., 0].astype(np.int32)


VOLUMES = mask_folders.Kind(volumes.SUFFIXES, volumes.SUFFIXES, _load, _mask, ending=r"_\d{4}")
