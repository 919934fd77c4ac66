"""Volumes: float32 (depth, height, width, channels), such as the images of a magnetic resonance scanner.

`source: NAME` in a recipe is a function of this file. NIfTI files are read by the package nibabel and turned so that
their axes point right, anterior and superior: these are depth, height and width, in voxels. A volume that cannot be
used raises `Unreadable` when it is read, and says why.
"""

import importlib.util
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.files.nifti import SUFFIXES, read, read_with_note, require_nibabel
from cnn_keras.data.sources.classification import Item, call_source, class_folders
from cnn_keras.errors import Fault

SLAB = 29  # voxels from one slab to the next
SLABS = {1: "train", 2: "train", 3: "validation", 4: "train", 5: "test", 6: "train"}  # from the back to the front
STRIDE = (6, 7, 6)  # voxels from one patch to the next
SURE = 150  # of 255: a voxel of tissue has at least so much of it
NOTHING = 100  # of 255: a voxel of neither tissue has at most so much of both


def folder(path: Path, group: str | None = None) -> list[Item]:
    """One sub-folder of NIfTI files per class; see `class_folders`."""
    require_nibabel()
    return class_folders(path, group, suffixes=SUFFIXES, load=read_with_note, noun="volume")


def mni152(size: tuple[int, int, int]) -> list[Item]:
    """Patches of the MNI152 brain, T1-weighted, 1 mm, that comes with nilearn; labelled by the tissue at their centre.

    Fonov et al., "Unbiased average age-appropriate brain templates from birth to adulthood", 2009. A centre is "grey"
    or "white" where the tissue's share is at least 150/255 and the larger, "other" (mostly fluid) where both together
    are at most 100/255. The patches of a slab, 29 voxels from back to front, are in one split, and none reaches into
    the next. The brain is symmetric, so sides would leak.

    Raises:
        Fault: the packages are not installed, or `size` is larger than a slab.
    """
    if max(size) > SLAB:
        raise Fault(f"data.size must be at most {SLAB} voxels with source: mni152, got {list(size)}")
    brain, grey, white = tissue_maps()
    inside = brain[..., 0] > 0
    tissues = {
        "grey": (grey >= SURE) & (grey > white),
        "white": (white >= SURE) & (white > grey),
        "other": inside & (grey + white <= NOTHING),
    }
    half = np.array(size) // 2
    planes = [
        (slab * SLAB + within, split)
        for slab, split in SLABS.items()
        for within in range(int(half[1]), SLAB - size[1] + int(half[1]) + 1, STRIDE[1])
    ]
    items = []
    for label, tissue in tissues.items():
        for y, split in planes:
            for x, z in np.argwhere(tissue[:: STRIDE[0], y, :: STRIDE[2]]) * (STRIDE[0], STRIDE[2]):
                corner = np.array((x, y, z)) - half
                if (corner >= 0).all() and (corner + size <= inside.shape).all():
                    read_patch = partial(_patch, brain, tuple(corner.tolist()), size)
                    items.append(Item(f"{x:03d}-{y:03d}-{z:03d}", label, read_patch, split))
    return items


def tissue_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The MNI152 brain and how much of each voxel is grey and white matter, all from 0 to 255.

    float32 (197, 233, 189, 1), (197, 233, 189) and (197, 233, 189).

    Raises:
        Fault: the packages are not installed.
    """
    package: Any = importlib.util.find_spec("nilearn")
    if package is None:
        raise Fault("data.source mni152 needs the packages nilearn and nibabel; `make samples` installs them")
    return _tissue_maps(Path(package.submodule_search_locations[0], "datasets", "data"))


def items(source: str, **arguments: Any) -> list[Item]:
    """The items of `source`: folder or mni152; an item's `read` gives (volume, notes).

    Raises:
        Fault: an unknown source, or an argument it needs or does not take.
    """
    functions: dict[str, Callable[..., list[Item]]] = {"folder": folder, "mni152": mni152}
    if source not in functions:
        raise Fault(f"data.source must be folder or mni152, got {source!r}")
    if source == "folder":
        arguments.pop("size", None)  # its volumes are framed when all have been read
    return call_source(functions[source], source, arguments)


@cache
def _tissue_maps(root: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    paths = [root / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")]
    brain, grey, white = (read(path)[0] for path in paths)
    return brain, grey[..., 0], white[..., 0]


def _patch(brain: np.ndarray, corner: tuple[int, ...], size: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    return brain[tuple(slice(start, start + side) for start, side in zip(corner, size, strict=True))], []
