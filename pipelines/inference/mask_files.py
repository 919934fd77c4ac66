"""Masks that a model has answered with, as files: indexed PNG, or NIfTI with the volume's own affine.

`classes.txt` beside them is the legend, a name for each number from 0 on, which `source: folder` reads too.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_keras.data.files import durable, nifti
from pipelines.plots import overlays
from pipelines.plots.image_grid import Array


def write(masks: Sequence[tuple[Path, Array]], names: Sequence[str], folder: Path) -> int:
    """Write the masks of pictures or volumes, given with their files, and the legend; return how many there are.

    A mask has the name of its file; of a second one of the same name, its number is put before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names_used: set[str] = set()
    for number, (source, mask) in enumerate(masks):
        suffix = next(
            (ending for ending in reversed(nifti.SUFFIXES) if source.name.lower().endswith(ending)),
            "" if source.is_dir() else source.suffix,  # a folder is a DICOM series
        )
        stem = source.name[: len(source.name) - len(suffix)]
        name = stem if stem not in names_used else f"{number:04d}-{stem}"
        names_used.add(name)
        if mask.ndim == 3:
            nifti.write_like(source, mask, folder / f"{name}.nii.gz")
        else:
            write_png(mask, len(names), folder / f"{name}.png")
    durable.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in names))
    return len(masks)


def write_png(mask: Array, count: int, path: Path) -> None:
    """Numbers as the indices of a palette: any viewer shows them in the colours of the drawings."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([value for number in range(count) for value in overlays.rgb_of(number)])
    with durable.atomic_write(path) as temporary:
        image.save(temporary, "PNG")
