"""Pictures and volumes with a class at each pixel or voxel: their types. Needs no TensorFlow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.data import annotation
from cnn_keras.errors import Unreadable

BACKGROUND = "background"
UNKNOWN = -1  # of a pixel that nobody knows


class Scan(NamedTuple):
    """What is at each voxel of a volume as its scanner made it.

    values: integers (depth, height, width), a source's number of a class, or UNKNOWN. spacing: of the voxels along each
    axis, in millimetres.
    """

    values: np.ndarray
    spacing: tuple[float, ...]


class Mask(NamedTuple):
    """What is at each pixel or voxel of one picture or volume.

    values: integers (*sizes), a source's number of a class, or UNKNOWN. instances: integers (*sizes), 0, or another
    number for each thing; None where things are not told apart. notes: kind and detail of what is odd about it. scan:
    of a resampled volume, what is at its own voxels; None else. spacing: of the voxels along each axis, in millimetres;
    None of a picture.
    """

    values: np.ndarray
    instances: np.ndarray | None = None
    notes: tuple[tuple[str, str], ...] = ()
    scan: Scan | None = None
    spacing: tuple[float, ...] | None = None


class Item(NamedTuple):
    """One picture or volume and its mask, neither of them read yet."""

    id: str  # the path below the source's folder
    read: Callable[[], Any]  # the encoded file, or a volume and notes on it; raises Unreadable for what is none
    mask: Callable[[tuple[int, ...]], Mask]  # of the sizes that the picture has; raises Unreadable, too
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group (a patient, a scene) stay in one split
    troubles: tuple[tuple[str, str], ...] = ()  # kind and detail of what annotations say wrongly
    label: str = ""  # what copies of one picture should agree in


class LabelMaps(NamedTuple):
    """What a source holds.

    names: of the classes by their numbers in the masks, in the order of the classes; empty where it does not say.
    ignored: numbers that mean that nobody knows. assumed: whether the names are those of a published data set that the
    masks look like: only those that are found in them are classes. notes: what is odd about the source as a whole.
    """

    items: list[Item]
    names: dict[int, str] = {}  # noqa: RUF012  # nothing writes to it
    ignored: tuple[int, ...] = ()
    assumed: bool = False
    notes: tuple[annotation.Note, ...] = ()


def check_size(size_there: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Raise `Unreadable` unless a mask has the sizes of its picture."""
    if tuple(size_there) != tuple(size):
        mask, picture = ("×".join(map(str, sizes)) for sizes in (size_there, size))
        raise Unreadable("mask of another size", f"the mask is {mask}, the picture {picture} (height first)")
