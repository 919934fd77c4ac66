"""The layout of the Data Science Bowl of 2018: `ID/images/ID.png`, and in `ID/masks/` a file for each thing.

Caicedo et al., "Nucleus segmentation across imaging experiments", 2019. What is not zero in a mask is one thing; all
are of one class. A picture without masks, as those that the contest measured on, is in doubt.
"""

from functools import partial
from pathlib import Path

import numpy as np

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.input_file import is_folder
from cnn_keras.data.formats.masks import mask_folders
from cnn_keras.errors import Fault, Unreadable

CLASS = "nucleus"


def read(path: Path) -> Annotations:
    """Every folder below `path` that holds `images/` with one picture; `masks/` beside it tells what is in it."""
    file_tree.check_folder(path)
    pictures = [file for file in annotation.pictures_below(path) if file.parent.name == "images"]
    alone = [file for file in pictures if sum(other.parent == file.parent for other in _beside(file)) == 1]
    if not alone or not any(is_folder(_masks(file)) for file in alone):
        raise Fault(
            f"data.path must hold a folder for each picture, with images/ and masks/ in it, got "
            f"{file_tree.describe_path(path)}",
            code=Fault.DATA,
        )
    return Annotations([_item(path, file) for file in alone], (CLASS,), roots=(path,))


def _beside(file: Path) -> list[Path]:
    return annotation.pictures_below(file.parent)


def _masks(file: Path) -> Path:
    return file.parent.parent / "masks"


def _item(path: Path, file: Path) -> Item:
    masks = annotation.pictures_below(_masks(file)) if is_folder(_masks(file)) else []
    objects, troubles, sizes = [], [] if masks else [("without annotation", "it has no masks")], set()
    for mask in masks:
        try:
            inside = mask_folders.read_numbers(mask) != 0
        except (OSError, Unreadable) as error:
            troubles.append(("malformed annotation", f"{mask.name}: {error}"))
            continue
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            troubles.append(("malformed annotation", f"{mask.name}: it marks no pixel"))
            continue
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        objects.append(Object(box, CLASS, mask=run_length.encode(inside)))
        sizes.add(inside.shape)
    name = annotation.relative_id(path, file)
    if len(sizes) > 1:
        return Item(name, partial(file_tree.refuse, "broken annotation", f"masks of the sizes {sizes}"), file=file)
    size = next(iter(sizes), None)
    return Item(name, annotation.image_reader(file), tuple(objects), size=size, troubles=tuple(troubles), file=file)
