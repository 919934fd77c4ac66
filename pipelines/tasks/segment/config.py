"""What a recipe of this task may hold, and the digest of the files that it names."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cnn_keras.data.files import input_file
from cnn_keras.data.formats.masks import color_tables
from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.data.boxes.box_config import Composites
from pipelines.data.schema import Bits, Fraction, Own, Positive, RecipePath, RecipePaths, Section, kind_alone
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

COLOUR = re.compile("#[0-9a-fA-F]{6}")
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Millimetres = Annotated[float, Field(gt=0)]


def _number(value: Any) -> Any:
    """The number of a colour that is written as "#400080", or of digits, as keys may be; anything else as it is."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return color_tables.parse_color(value) if isinstance(value, str) and COLOUR.fullmatch(value) else value


Number = Annotated[int, BeforeValidator(_number)]


class Data(Section):
    """Where the pictures or volumes and their masks come from, and how the network sees them."""

    layout: ClassVar[str] = "folder"  # the source of `also` where `source` reads no path

    # files of masks in their formats, or data that comes along
    source: Literal[
        "folder", "voc", "coco", "labelme", "labelstudio", "supervisely", "via", "dsb", "composites", "nuclei", "mni152"
    ]
    path: RecipePath | None = None  # the folder, or the file of annotations
    # paths of further data that trains, too; validation and test stay what they are without it
    also: RecipePaths = ()
    images: RecipePath | None = None  # where the pictures are, if not where the annotations say
    # The names of the masks' numbers from 0 on, or by number; of colours by number too, such as "#400080".
    classes: tuple[str, ...] | dict[Number, str] | None = None
    ignore: Annotated[int, Field(ge=0)] | None = 255  # the number in a mask that means that nobody knows
    headers: Literal["trust", "picture"] | None = None  # of NIfTI masks that lie elsewhere than their volumes
    # Millimetres of a voxel to the right, to the front and up, to which NIfTI volumes and masks are resampled.
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    crowd: Literal["ignore", "object"] = "ignore"  # what is marked as many in one: nobody knows, or one object
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    # images whose difference hashes, of 128 bits, differ in at most so many stay in one split; null: only copies do
    group_similar: Bits | None = None
    # What the network sees at once: height, width; of volumes depth, height, width.
    size: tuple[Positive, Positive] | tuple[Positive, Positive, Positive] = (256, 256)
    channels: Positive = 3  # of each pixel or voxel
    fit: Literal["pad", "stretch", "patch"] = "pad"  # the whole picture, resized, or patches of it as it is
    overlap: Annotated[float, Field(ge=0, le=0.5)] = 0.5  # of the answers to patches that are put together
    patches: Positive | None = None  # drawn in an epoch; null takes as many as would cover the training split
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0  # the share of patches over a pixel of an evenly drawn class
    borders: Annotated[float, Field(gt=0)] | None = None  # σ, in pixels, of U-Net's weight between things
    composites: Composites | None = None
    validation: Fraction = 0.1  # share that chooses the best epoch, unless the source prescribes a split
    test: Fraction = 0.2  # share that measures, unless the source prescribes a split
    normalize: Literal["standardise", "rescale", "each"] = "standardise"  # each: a volume by itself
    max_bad: Fraction = 0.1  # a larger share of unusable files, or of pixels of unknown numbers, is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed, or refused if patches

    @model_validator(mode="after")
    def _fits_its_axes(self) -> Self:
        if len(self.size) == 3:
            if self.fit != "patch":
                raise ValueError("fit must be patch for volumes")
            if self.group_similar is not None:
                raise ValueError("group_similar is for pictures, not for volumes")
            if self.normalize == "rescale":
                raise ValueError("normalize must be standardise or each for volumes, whose values have no fixed range")
        elif self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3 for pictures, got {self.channels}")
        elif self.normalize == "each":
            raise ValueError("normalize must be standardise or rescale for pictures")
        if self.spacing and (len(self.size) != 3 or self.source != "folder"):
            raise ValueError("spacing goes with volumes of source: folder, whose files say how large a voxel is")
        if self.fit != "patch" and (self.patches or self.balance):
            raise ValueError("patches and balance require fit: patch")
        return self

    @property
    def axes(self) -> int:
        return len(self.size)


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    cutouts = data.composites is not None and data.composites.cutouts == "folder"
    if data.path is None and (data.source not in ("nuclei", "mni152", "composites") or cutouts):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None:
        return None
    folder = data.path if input_file.is_folder(data.path) else data.path.parent
    root = folder.parent if data.source == "coco" and folder.name == "annotations" else folder
    return source_files.files_digest(root, *([data.images] if data.images else []))


class Loss(Section):
    """What is minimised: a sum of terms, each by its weight; see `cnn_keras.losses.segmentation`."""

    cross_entropy: Weight = 1.0  # what it counts, pixel by pixel
    dice: Weight = 0.0  # what the overlap of each class counts
    focal: Weight = 0.0  # what cross-entropy counts that leaves easy pixels out
    gamma: Annotated[float, Field(gt=0)] = 2.0  # of focal
    class_weights: Literal["balanced"] | tuple[Weight, ...] | None = None  # of cross_entropy and focal
    borders: Weight = 10.0  # U-Net's w0, what ground between things counts more; needs data.borders
    # of your own, added: classes (batch, …), int32, -1 where nobody knows, and logits (batch, …, classes), to numbers
    # whose mean counts; its name in the place of the section takes it alone
    own: Own | None = None


def _own_alone(given: Any) -> Any:
    """A loss of the user's own alone, before the section is checked: whole."""
    return {"cross_entropy": 0.0, "own": given} if isinstance(given, str) else given


class Before(Section):
    """A network that is trained first, and whose weights the next one starts from."""

    builder: Annotated[str, Field(pattern=r"^\w+\.\w+$")]  # as of the model, which begins with its weights
    epochs: Positive  # of this network


class Train(recipes.ImageTrain):
    """How the weights are found. A batch holds pictures or patches."""

    batch_size: Positive = 8  # pictures or patches of one step
    loss: Annotated[Loss, BeforeValidator(_own_alone)] = Loss()
    before: tuple[Before, ...] = ()  # networks trained one after the other, as FCN-32s and FCN-16s before FCN-8s

    @property
    def before_epochs(self) -> int:
        return sum(network.epochs for network in self.before)


class Lesions(Section):
    """Connected parts of classes, each of them found or missed; see `cnn_keras.metrics.lesions`."""

    classes: tuple[str, ...] = ()  # whose parts are counted; all but the first unless named
    # intersection over union with what is claimed, from which a lesion is found; 0 is a pixel in common
    overlap: Share = 0.0


class Tune(recipes.Tune):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    metric: Literal["val_loss", "val_mean_iou"] = "val_loss"  # type: ignore[assignment]  # of each trial's best epoch


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        "pixel_accuracy", "mean_iou", "mean_dice", "boundary_f", "hausdorff_95", "surface_distance",
        "lesion_sensitivity", "lesion_false_positives", "lesion_f1", "lesion_dice",
    )  # fmt: skip

    crops: Annotated[recipes.Views | None, BeforeValidator(kind_alone)] = None  # measured beside the single view
    tolerance: Annotated[float, Field(ge=0)] | None = None  # pixels a border may be off; null is 0.75 % of the diagonal
    lesions: Lesions | None = None  # count the connected parts of classes that are found
    worst: Positive = 6  # the worst pictures that are drawn
    insight: bool = True  # draw what some answers rest on
    # of your own: classes of the pixels of a picture, integers, -1 where nobody knows: the truth and the answer, to a
    # number; its mean over the pictures counts
    metrics: tuple[Own, ...] = ()
    require_dice: dict[str, Share] = Field(default_factory=dict)  # class: the least its Dice must be


class Export(recipes.Export):
    """What the exported model is called and how far it may stray from the trained one."""

    tolerance: Annotated[float, Field(ge=0)] = 1e-4  # the share of pixels that may be of another class
    crops: bool = False  # the graph looks at the views of `evaluate.crops`


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # what training does to each image and its mask, in order
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries

    @model_validator(mode="after")
    def _fits_segmentation(self) -> Self:
        loss = self.train.loss
        if not (loss.cross_entropy or loss.dice or loss.focal or loss.own):
            raise ValueError("train.loss must have a term with a weight above 0, or one of your own")
        crops = self.evaluate.crops
        if crops and crops.kind == "multiscale" and self.data.fit == "patch":
            raise ValueError("evaluate.crops must be flip or null with data.fit: patch, whose patches have one scale")
        if self.export.crops and not crops:
            raise ValueError("export.crops requires evaluate.crops: flip or multiscale")
        return self
