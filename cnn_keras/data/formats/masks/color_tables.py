"""What the numbers and colours in masks mean, as the files beside them say: legends.

A colour is a number too: a grey one is its level, any other 2²⁴ and its red, green and blue, so that no number of a
class is ever taken for a colour.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault

COLOURED = 2**24  # what is added to a colour that is not grey
VOIDS = ("void", "ignore", "ignored", "__ignore__", "unlabeled", "unlabelled")  # what nobody knows, by its name
NAMES = ("classes.txt", "codes.txt", "class_names.txt", "labels.txt")
TABLES = ("labelmap.txt", "label_colors.txt", "class_dict.csv", "class_dict_seg.csv")
TRIPLE = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
NUMBERED = re.compile(r"(\d+)\s*[:,;\t ]\s*(\S.*)")
SNAP = re.compile(r'(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+\d\s+\d\s+"(.*)"')  # a line of ITK-SNAP's label descriptions
CAMVID = {  # Brostow et al., "Semantic object classes in video", 2009; Void is what nobody judges
    "Animal": "#408040", "Archway": "#c00080", "Bicyclist": "#0080c0", "Bridge": "#008040", "Building": "#800000",
    "Car": "#400080", "CartLuggagePram": "#4000c0", "Child": "#c08040", "Column_Pole": "#c0c080", "Fence": "#404080",
    "LaneMkgsDriv": "#8000c0", "LaneMkgsNonDriv": "#c00040", "Misc_Text": "#808040", "MotorcycleScooter": "#c000c0",
    "OtherMoving": "#804040", "ParkingBlock": "#40c080", "Pedestrian": "#404000", "Road": "#804080",
    "RoadShoulder": "#8080c0", "Sidewalk": "#0000c0", "SignSymbol": "#c08080", "Sky": "#808080",
    "SUVPickupTruck": "#4080c0", "TrafficCone": "#000040", "TrafficLight": "#004040", "Train": "#c04080",
    "Tree": "#808000", "Truck_Bus": "#c080c0", "Tunnel": "#400040", "VegetationMisc": "#c0c000", "Void": "#000000",
    "Wall": "#40c000",
}  # fmt: skip
CITYSCAPES = {  # Cordts et al., "The Cityscapes dataset", 2016: the labels that are judged
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
CITYSCAPES_LABELS = 34  # numbers from 0 on


class Legend(NamedTuple):
    """names: of the classes by number, in their order; ignored: numbers that mean that nobody knows."""

    names: dict[int, str]
    ignored: tuple[int, ...] = ()

    @property
    def colours(self) -> frozenset[int]:
        """The numbers that are colours, those that nobody knows among them."""
        known = {*self.names, *self.ignored}
        return frozenset(known) if any(number >= COLOURED for number in known) else frozenset()


def color_number(red: int, green: int, blue: int) -> int:
    """The number of a colour."""
    return red if red == green == blue else COLOURED + (red << 16) + (green << 8) + blue


def parse_color(colour: str) -> int:
    """The number of a colour that is written as "#400080"."""
    return color_number(*bytes.fromhex(colour.removeprefix("#")))


def format_number(number: int) -> str:
    """A number as a person writes it: "7", or "#400080" of a colour."""
    return f"#{number - COLOURED:06x}" if number >= COLOURED else str(number)


def camvid() -> Legend:
    """CamVid's own table."""
    return legend_of_colors([(name, parse_color(colour)) for name, colour in CAMVID.items()])


def cityscapes(*, training: bool) -> Legend:
    """Cityscapes' labels by their ids, or by the ids that its scripts make for training."""
    if training:
        return Legend(dict(enumerate(CITYSCAPES.values())), (255,))
    return Legend(CITYSCAPES, tuple(number for number in range(CITYSCAPES_LABELS) if number not in CITYSCAPES))


def read_legend(path: Path) -> Legend:
    """What the files in a folder of masks and pictures say; an empty legend where there is none.

    Raises:
        Fault: a file that cannot be read, or that is not what its name says.
    """
    readers: dict[str, Callable[[Path], Legend]] = {
        "dataset.json": _nnunet,
        **dict.fromkeys(TABLES, _table),
        "obj_class_to_machine_color.json": _supervisely,
        "_classes.csv": _roboflow,
        **dict.fromkeys(NAMES, _lines),
    }
    places = [path, *(path / name for name in ("train", "valid", "test"))]
    for name, reader in readers.items():
        for place in places if name == "_classes.csv" else [path]:
            if input_file.is_regular(place / name):
                return reader(place / name)
    return Legend({})


def legend_of_colors(pairs: list[tuple[str, int]]) -> Legend:
    """A legend of names and the numbers of their colours; where masks hold lines of the table instead, those too."""
    names = {number: name for name, number in pairs if name.lower() not in VOIDS}
    ignored = {number: None for name, number in pairs if name.lower() in VOIDS}
    own = all(number >= len(pairs) or number == place for place, (_, number) in enumerate(pairs))
    for place, (name, _) in enumerate(pairs if own else []):
        if place not in names and place not in ignored:
            (ignored.update({place: None}) if name.lower() in VOIDS else names.update({place: name}))
    return Legend(names, tuple(ignored))


def _table(path: Path) -> Legend:
    """Lines `name:r,g,b::` as CVAT writes them, `r g b name` as CamVid does, or `name,r,g,b`."""
    pairs = []
    for line in input_file.read_text(path).splitlines():
        bare = line.strip()
        behind, before = (
            re.fullmatch(rf"(.+?)\s*[:,;\t ]\s*{TRIPLE}\s*(?::.*)?", bare),
            re.fullmatch(rf"{TRIPLE}\s+(.+)", bare),
        )
        if not bare or bare.startswith("#"):
            continue
        if behind:
            name, *levels = behind.groups()
        elif before:
            *levels, name = before.groups()
        else:
            continue
        if all(int(level) < 256 for level in levels):
            pairs.append((name.strip(), color_number(*map(int, levels))))
    if not pairs:
        raise Fault(f"{path} must name colours, a line such as road:128,64,128:: for each", code=Fault.DATA)
    return legend_of_colors(pairs)


def _roboflow(path: Path) -> Legend:
    pairs = [line.split(",", 1) for line in input_file.read_text(path).splitlines() if "," in line]
    names = {int(number): name.strip() for number, name in pairs if number.strip().isdecimal() and len(number) < 9}
    if not names:
        raise Fault(f"{path} must name the pixels' values, a line such as 0, background for each", code=Fault.DATA)
    return Legend(names)


def _supervisely(path: Path) -> Legend:
    """Names and the colours of `masks_machine/`; the background is black, and stands in no file."""
    try:
        pairs = [(str(name), color_number(*map(int, colour))) for name, colour in input_file.read_json(path).items()]
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise Fault(f"{path} must name classes and their colours: {error}", code=Fault.DATA) from None
    return Legend({0: "background"} | {number: name for name, number in pairs})


def _nnunet(path: Path) -> Legend:
    """What nnU-Net's dataset.json says of the labels: names by number, or numbers by name; `ignore` is no class."""
    content: Any = input_file.read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise Fault(f"{path} must name the labels by their numbers, in `labels`", code=Fault.DATA)
    if any(isinstance(number, list) for number in labels.values()):
        raise Fault(f"{path} must name one number for each label, got regions; make classes of them", code=Fault.DATA)
    try:
        pairs = [(name, number) if str(number).isdecimal() else (number, name) for name, number in labels.items()]
        names = {int(number): str(name) for name, number in sorted(pairs, key=lambda pair: int(pair[1]))}
    except (TypeError, ValueError) as error:
        raise Fault(f"{path} must name the labels by their numbers: {error}", code=Fault.DATA) from None
    ignored = tuple(number for number, name in names.items() if name == "ignore")
    return Legend({number: name for number, name in names.items() if number not in ignored}, ignored)


def _lines(path: Path) -> Legend:
    """A name in each line, of the numbers from 0 on; or numbers before the names; or ITK-SNAP's label descriptions."""
    lines = [line.strip() for line in input_file.read_text(path).splitlines()]
    lines = [line for line in lines if line and line != "__ignore__" and not line.startswith("#")]
    if lines and all(SNAP.fullmatch(line) for line in lines):
        pairs = [SNAP.fullmatch(line).groups() for line in lines]  # type: ignore[union-attr]  # all of them do
        return Legend({int(number): "background" if name == "Clear Label" else name for number, name in pairs})
    matches = [NUMBERED.fullmatch(line) for line in lines]
    if all(matches) and len({match.group(1) for match in matches if match}) == len(lines):
        return Legend({int(match.group(1)[:9]): match.group(2) for match in matches if match})
    return Legend(dict(enumerate(lines)))
