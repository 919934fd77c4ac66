"""Pascal VOC's segmentation: `JPEGImages/`, `SegmentationClass/` with indexed masks, `ImageSets/Segmentation/`.

Everingham et al., "The Pascal visual object classes challenge", 2010. 0 is the background, 1 to 20 are the classes in
alphabetical order, 255 is the border that nobody judges. `SegmentationObject/` tells things apart.
"""

from pathlib import Path

from cnn_keras.data import mask_folders
from cnn_keras.data.label_maps import BACKGROUND, LabelMaps

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
VOID = 255


def read(path: Path) -> LabelMaps:
    """A folder in VOC's layout; a `class_names.txt` in it takes the place of VOC's own classes.

    Only pictures with a mask are taken: most of VOC's have boxes alone.
    """
    found = mask_folders.read(path)
    items = [item for item in found.items if getattr(item.mask, "func", None) is mask_folders.mask]
    return LabelMaps(items, found.names or dict(enumerate((BACKGROUND, *CLASSES))), (VOID,))
