"""The data section of a recipe whose images have boxes."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from cnn_keras import plugins
from pipelines.data.schema import Bits, Fraction, Positive, RecipePath, RecipePaths, Section

SOURCES = (
    "coco", "voc", "yolo", "csv", "labelme", "labelstudio", "via", "supervisely", "kitti", "dsb",
    "deepforest", "composites", "points", "cards",
)  # fmt: skip


def _source(name: str) -> str:
    if name not in SOURCES and not plugins.is_reference(name):
        raise ValueError(f"must be one of {', '.join(SOURCES)} or package.module:name, got {name!r}")
    return name


class Tile(Section):
    """How large photographs are cut, see `sources.tiles`; those of the test stay whole and are read in tiles."""

    size: Positive = 200  # pixels of a side
    overlap: Fraction = 0.25  # of tiles in training and in reading; those of the validation overlap as little as may be
    keep: Annotated[float, Field(gt=0, le=1)] = 0.4  # share of a box that must be inside


class Composites(Section):
    """What scenes are made of: see `cnn_keras.data.sources.synthetic.composites`."""

    count: Positive = 1000  # scenes
    side: Positive = 160  # pixels
    things: tuple[int, int] = (1, 5)  # the fewest and the most in a scene
    scale: tuple[float, float] = (0.15, 0.4)  # the smallest and the largest side of a thing, of the scene's
    # what is pasted; folder: PNG files with alpha below data.path
    cutouts: Literal["digits", "mnist5k", "folder"] = "digits"
    backgrounds: Literal["sklearn", "skimage"] = "sklearn"  # whose photographs are behind


class Cards(Section):
    """What pictures of cards are like: see `cnn_keras.data.sources.synthetic.cards`."""

    count: Positive = 1000  # pictures
    side: Positive = 128  # pixels
    scale: tuple[float, float] = (0.4, 0.8)  # the smallest and the largest side of a card, of the picture's
    tilt: Annotated[float, Field(ge=0, le=180)] = 40.0  # the most that a card is turned, in degrees
    empty: Fraction = 0.15  # share of pictures without a card


class Proposals(Section):
    """How selective search looks for regions: see `pipelines.data.boxes.proposals`."""

    most: Positive = 2000  # in one picture
    mode: Literal["single", "fast", "quality"] = "fast"  # how thorough: fewer or more segmentations of a picture
    side: Positive = 400  # pixels of the longer side at which a picture is searched


class Data(Section):
    """Where the images and their boxes come from, and what shape they are given."""

    layout: ClassVar[str] = "coco"  # the source of `also` where `source` reads no path

    # files of annotations in their formats, data that comes along, or a function of your own
    source: Annotated[str, AfterValidator(_source)]
    path: RecipePath | None = None  # the file or folder of the annotations
    # paths of further data that trains, too; validation and test stay what they are without it
    also: RecipePaths = ()
    images: RecipePath | None = None  # where the images are, if not where the annotations say
    classes: tuple[str, ...] | None = None  # all there are, in this order; else those found
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    # images whose difference hashes, of 128 bits, differ in at most so many stay in one split; null: only copies do
    group_similar: Bits | None = None
    size: tuple[Positive, Positive] = (416, 416)  # height, width
    channels: Literal[3] = 3  # RGB
    fit: Literal["pad", "stretch"] = "pad"  # how a picture of another shape gets this size: with borders, or distorted
    tile: Tile | None = None
    masks: bool = False  # which pixels are whose is recorded, too, where the source knows it
    proposals: Proposals | None = None  # for R-CNN and Fast R-CNN, which are given regions
    composites: Composites | None = None
    cards: Cards | None = None
    validation: Fraction = 0.1  # share that chooses the best epoch, unless the source prescribes a split
    test: Fraction = 0.2  # share that measures, unless the source prescribes a split
    crowd: Literal["ignore", "object"] = "ignore"  # what is marked as many in one: not learnt, or one object
    out_of_bounds: Literal["clip", "drop"] = "clip"  # what becomes of a box that sticks out of its image
    max_bad: Fraction = 0.1  # a larger share of unusable images, or of dropped boxes, is refused
    anchors: Positive | None = 9  # how many are found by k-means; null finds none
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed
