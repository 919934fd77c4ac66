"""Trees from the air: the four photographs that come with the package deepforest (MIT), 951 boxes drawn by hand.

Weinstein et al., "DeepForest: a Python package for RGB deep learning tree crown delineation", 2020. The photographs are
the National Ecological Observatory Network's, 10 cm a pixel. `make samples` installs the package.
"""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.formats import voc
from cnn_keras.data.sources import tiles
from cnn_keras.errors import Fault

HELD_OUT = "2019_YELL_2_541000_4977000_image_crop"  # Yellowstone; tested on
LARGEST = "2019_YELL_2_528000_4978000_image_crop2"  # Yellowstone; its southern fifth chooses the epoch
TRAINING = ("OSBS_029", "SOAP_061")  # Florida, California
CUT = 0.8  # of the height of LARGEST


def read() -> Annotations:
    """Five pictures of trees: the largest photograph's north and two others to train on, its south, and the test.

    Boxes are cut where the largest photograph is. The photograph from California tells living trees from dead ones;
    here both are trees.

    Raises:
        Fault: the package is not installed.
    """
    spec = importlib.util.find_spec("deepforest")
    if spec is None or not spec.submodule_search_locations:
        raise Fault("data.source deepforest needs the package deepforest; `make samples` installs it")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    items = [_item(folder, name)._replace(split="train") for name in TRAINING]
    whole = _item(folder, LARGEST)
    height, width = whole.size  # type: ignore[misc]  # `_item` has given it one
    line = round(CUT * height)
    for part, window, split in (
        ("north", (0, 0, width, line), "train"),
        ("south", (0, line, width, height), "validation"),
    ):
        items.append(_part(whole, part, window)._replace(split=split))
    return Annotations([*items, _item(folder, HELD_OUT)._replace(split="test")], ("tree",))


def _item(folder: Path, name: str) -> Item:
    root = ElementTree.parse(folder / f"{name}.xml").getroot()
    objects_, _ = voc.objects(root, first=0)  # these files count pixels from 0
    size = (int(root.findtext("size/height", "")), int(root.findtext("size/width", "")))
    objects = tuple(Object(object_.box, "tree") for object_ in objects_)
    return Item(f"{name}.png", (folder / f"{name}.png").read_bytes, objects, group=name, size=size)


def _part(whole: Item, part: str, window: tuple[int, int, int, int]) -> Item:
    return tiles.crop(whole, window, keep=0.5)._replace(
        id=f"{Path(whole.id).stem}-{part}.png", group=f"{whole.group}-{part}"
    )
