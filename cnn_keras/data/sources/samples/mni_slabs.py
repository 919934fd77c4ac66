"""The MNI152 brain as a volume, in slabs from back to front, and the tissue at each voxel; see `mni_slices`."""

from functools import partial

import numpy as np

from cnn_keras.data.label_map import Item, LabelMaps, Mask
from cnn_keras.data.sources import volumes
from cnn_keras.data.sources.samples.mni_slices import NAMES, tissues


def read() -> LabelMaps:
    """Six slabs of 197×29×189 voxels, four to train, one to validate, one to test; no two of a kind share a voxel."""
    items = [
        Item(f"slab{slab}", partial(_slab, slab), partial(_mask, slab), split) for slab, split in volumes.SLABS.items()
    ]
    return LabelMaps(items, NAMES)


def _slab(slab: int) -> tuple[np.ndarray, list[str]]:
    return volumes.tissue_maps()[0][:, _planes(slab)], []


def _mask(slab: int, size: tuple[int, ...]) -> Mask:
    _, grey, white = volumes.tissue_maps()
    return Mask(tissues(grey[:, _planes(slab)], white[:, _planes(slab)]), spacing=(1.0, 1.0, 1.0))


def _planes(slab: int) -> slice:
    return slice(slab * volumes.SLAB, (slab + 1) * volumes.SLAB)
