"""Cell nuclei under the microscope: 512×512 pixels with 125 outlines, which come with the package stardist (BSD).

Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl", 2019: fluorescence, grey.
`make samples` installs the package.
"""

import importlib.util
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.label_map import BACKGROUND, Item, LabelMaps, Mask
from cnn_keras.errors import Fault

PARTS = {"train": (0, 192), "validation": (192, 256), "test": (256, 512)}  # columns: the right half is tested on


def read() -> LabelMaps:
    """Three parts of the picture, none of which shares a pixel with another: the left half trains and validates."""
    items = [
        Item(f"{split}.png", partial(_picture, *part), partial(_mask, *part), split) for split, part in PARTS.items()
    ]
    return LabelMaps(items, {0: BACKGROUND, 1: "nucleus"})


def _picture(left: int, right: int) -> bytes:
    return encode_png(pixels()[0][:, left:right, None].astype(np.uint8))


def _mask(left: int, right: int, size: tuple[int, int]) -> Mask:
    instances = pixels()[1][:, left:right].astype(np.int32)
    return Mask((instances > 0).astype(np.int16), instances)


@cache
def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Light, from 0 to 235, and the numbers of the nuclei, both (512, 512)."""
    package = importlib.util.find_spec("stardist")
    if package is None or not package.submodule_search_locations:
        raise Fault("data.source nuclei needs the package stardist; `make samples` installs it")
    folder = Path(package.submodule_search_locations[0], "data", "images")
    light, instances = (np.asarray(Image.open(folder / name)) for name in ("img2d.tif", "mask2d.tif"))
    return light, instances
