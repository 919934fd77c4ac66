"""Pascal VOC's segmentation: `JPEGImages/`, `SegmentationClass/` with masks, `ImageSets/Segmentation/`.

Everingham et al., "The Pascal visual object classes challenge", 2010. 0 is the background, 1 to 20 are the classes in
alphabetical order, 255 is the border that nobody judges. `SegmentationObject/` tells things apart. Masks are indexed,
or, as some tools write them, in the colours of VOC's palette.
"""

from functools import partial
from pathlib import Path

from cnn_keras.data.formats.masks import color_tables, mask_folders
from cnn_keras.data.formats.masks.color_tables import Legend
from cnn_keras.data.label_map import BACKGROUND, LabelMaps

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
           "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
VOID = 255


def read(path: Path) -> LabelMaps:
    """A folder in VOC's layout; a `class_names.txt` or CVAT's `labelmap.txt` in it takes the place of VOC's classes.

    Only pictures with a mask are taken: most of VOC's have boxes alone.
    """
    legend = color_tables.read_legend(path)
    if not legend.names:
        pairs = [
            (name, color_tables.color_number(*_colour(place))) for place, name in enumerate((BACKGROUND, *CLASSES))
        ]
        legend = color_tables.legend_of_colors(pairs)
    border = (VOID, color_tables.color_number(*_colour(VOID)))
    legend = Legend(legend.names, tuple({*legend.ignored, *border} - legend.names.keys()))
    kind = mask_folders.PICTURES._replace(read=partial(mask_folders.read_mask, legend.colours))
    items = [item for item in mask_folders.pair_items(path, kind) if not mask_folders.lacks_mask(item)]
    return LabelMaps(items, legend.names, legend.ignored)


def _colour(number: int) -> tuple[int, int, int]:
    """The colour of VOC's palette: the bits of the number, dealt out to red, green and blue from the highest on."""
    red, green, blue = (
        sum((number >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue
