"""Slices of the MNI152 brain, T1-weighted, as pictures, and the tissue at each pixel: grey matter, white, or other.

Fonov et al., "Unbiased average age-appropriate brain templates from birth to adulthood", 2009; it comes with nilearn.
"""

from functools import partial

import numpy as np

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.label_map import Item, LabelMaps, Mask
from cnn_keras.data.sources import volumes

NAMES = {0: "other", 1: "grey", 2: "white"}


def read() -> LabelMaps:
    """Slices across the brain, from back to front, the head upright: 189×197 grey pixels of a millimetre.

    Slices next to each other are nearly the same, so the splits are slabs of 29, as they are for volumes.
    """
    items = []
    for slab, split in volumes.SLABS.items():
        for place in range(slab * volumes.SLAB, (slab + 1) * volumes.SLAB):
            items.append(Item(f"{place:03d}.png", partial(_picture, place), partial(_mask, place), split))
    return LabelMaps(items, NAMES)


def tissues(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Which tissue each voxel is made of most, of the shares 0 to 255 of two of any shape: int16, numbers of NAMES."""
    return np.stack([255 - grey - white, grey, white]).argmax(axis=0).astype(np.int16)


def _picture(place: int) -> bytes:
    brain, _, _ = volumes.tissue_maps()
    return encode_png(np.rot90(brain[:, place]).astype(np.uint8))


def _mask(place: int, size: tuple[int, int]) -> Mask:
    _, grey, white = volumes.tissue_maps()
    return Mask(np.rot90(tissues(grey[:, place], white[:, place])))
