"""What a recipe of this task may hold, and the digest of the files that it names."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from cnn_keras import plugins
from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from pipelines.data import image_config, run_files, source_files
from pipelines.data.schema import Fraction, Own, Positive, RecipePath, Section
from pipelines.engine import recipe as recipes

LOSSES = ("triplet", "contrastive", "siamese", "arcface", "prototypical", "none")
Share = Annotated[float, Field(gt=0, lt=1)]


class Listed(Section):
    """A list of pairs as Labeled Faces in the Wild has it."""

    path: RecipePath  # such as pairs.txt


class Align(Section):
    """What says where the eyes of each picture are; see `cnn_keras.data.transforms.face_alignment`."""

    # a file of eyes, a network of landmarks, or OpenCV's detectors
    by: Literal["annotated", "landmarks", "opencv"] = "annotated"
    # annotated: a CSV file; landmarks: a model that finds some, such as localize exports
    path: RecipePath | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.by == "opencv" and self.path:
            raise ValueError("path cannot be combined with by: opencv, which includes its detectors")
        return self

    @property
    def found(self) -> Path:
        """The path, or a Fault: here, not in the section, so that a recipe that wants one can still be shown."""
        if self.path is None:
            what = "a CSV file of eyes" if self.by == "annotated" else "a landmark model such as face-api/landmarks"
            raise Fault(f"data.align.path is required with by: {self.by}: {what}; --set data.align.path=PATH")
        return self.path


class Data(image_config.Data):
    """Where the pictures come from; a folder has one sub-folder for each person, as LFW has."""

    validation: Fraction = 0.1  # of all people; they choose the epoch
    calibration: Fraction = 0.1  # they set the threshold; where people are few, those of the validation do that too
    test: Fraction = 0.25  # share of the people that measures
    align: Align | None = None  # faces are cut out so that the eyes stand alike
    test_groups: tuple[str, ...] = ()  # groups, such as alphabets, whose people are the test split; `group` finds them
    pairs: Listed | None = None  # the test people are those of the list, and its folds give the accuracy

    @model_validator(mode="after")
    def _is_recorded(self) -> Self:
        if self.in_place:
            raise ValueError("in_place requires task: classify; here batches are drawn from the records, by person")
        if self.group and not self.test_groups:
            raise ValueError("group requires test_groups in this task, where a split is of people")
        return self


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source, the list of pairs or that of the eyes does."""
    digests = image_config.files_digest(data)
    for section in (data.pairs, data.align):
        if section and section.path:  # what is wrong with it, reading it says
            digests = run_files.digest([digests, *files_of(section)])
    return digests


def files_of(section: Listed | Align) -> list[str]:
    """The digests of the files at a path, of a folder's in their order."""
    path = section.path
    if path is None:
        return []
    readable = [file for file in source_files.regular_files(path) if file.stat().st_size <= input_file.SIZE_LIMIT]
    return [run_files.file_digest(file) for file in readable]


class Tap(Section):
    """A layer of the network whose maps, every place by itself, become the embedding: ArcFace's head (its option E)."""

    layer: str  # such as stage4
    dropout: Fraction = 0.4  # share of the values dropped in training


class Model(recipes.Model):
    """Which network, and what is made of its logits."""

    dimension: Positive = 128  # of the embedding: the network's `classes`
    tap: Tap | None = None  # instead of all that stands behind a layer
    frozen: bool = False  # the network stays as its weights have it, and only the last layers are trained
    standardised: bool = False  # every picture is first given the mean 0 and the variance 1, whatever its light
    mirrored: bool = False  # the embedding is the mean of the picture's and its mirror image's; twice the time


def _loss(name: str) -> str:
    if name not in LOSSES and not plugins.is_reference(name):
        raise ValueError(f"must be one of {', '.join(LOSSES)} or package.module:name, got {name!r}")
    return name


class Train(recipes.ImageTrain):
    """How the weights are found: a batch holds `each` pictures of batch_size / each people."""

    batch_size: Positive = 60  # pictures of one step
    each: Annotated[int, Field(ge=2)] = 4  # pictures of each person in a batch
    steps: Positive | None = None  # batches of an epoch; as many as show every picture once unless given
    # triplet, contrastive, siamese, arcface, prototypical, none for the weights as given, or of your own: identities,
    # (batch,), and embeddings of length 1, (batch, dimension), to numbers whose mean counts
    loss: Annotated[str, AfterValidator(_loss)] = "triplet"
    mining: Literal["random", "semi-hard", "hard"] = "semi-hard"  # of triplets
    margin: Annotated[float, Field(gt=0)] | None = None  # of triplets .2, contrastive 1, arcface .3 unless given
    scale: Annotated[float, Field(gt=0)] = 16.0  # of the logits of arcface and prototypical
    rotations: bool = False  # every picture turned by 90°, 180° and 270° shows other identities: four times as many
    head: Literal["absolute", "chi-squared"] = "absolute"  # of siamese
    monitor: Literal["val_loss", "val_auc"] = "val_auc"  # type: ignore[assignment]  # no accuracy here

    @model_validator(mode="after")
    def _is_of_embeddings(self) -> Self:
        if self.batch_size % self.each or self.batch_size < 2 * self.each:
            raise ValueError(
                f"batch_size must be a multiple of each ({self.each}), of two people or more, got {self.batch_size}"
            )
        return self

    @property
    def kept_margin(self) -> float:
        return self.margin or {"contrastive": 1.0, "arcface": 0.3}.get(self.loss, 0.2)


class Tune(recipes.Tune):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    metric: Literal["val_loss", "val_auc"] = "val_auc"  # type: ignore[assignment]  # of each trial's best epoch


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = ("auc", "tar", "rank_1", "accuracy", "eer")

    far: Share = 0.01  # the false-accept rate that the threshold is to keep, by a bound over the calibration people
    draws: Positive = 500  # of the bootstrap over identities
    pictures: Annotated[int, Field(ge=10)] = 3000  # of more, so many are compared, drawn at random from people drawn
    worst: Positive = 12  # the hardest pairs that are drawn, of each kind
    ways: Annotated[int, Field(ge=2)] = 20  # identities among which one picture of each must find the right one
    insight: bool = True  # draw what makes some pairs alike
    baselines: bool = True  # measure raw pixels and eigenfaces on the same pictures
    # of your own: the distances of all pairs of pictures, (pairs,), and which show one person, bool, to a number
    metrics: tuple[Own, ...] = ()
    error_below: Share | None = None  # what the equal error rate may be at most


class Export(recipes.Export):
    """What the exported model is called and how far its embeddings may stray from the trained one's."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-4  # the largest difference in an embedding


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()  # what training does to each picture, in order
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        if self.train.rotations and self.train.augment_on == "device":
            raise ValueError(
                "train.augment_on must be host with train.rotations, which turn pictures there, got device"
            )
        if self.train.rotations and self.data.size[0] != self.data.size[1]:
            raise ValueError(f"train.rotations requires square pictures, got data.size {list(self.data.size)}")
        return self

    @property
    def untrained(self) -> str | None:
        return "train.loss: none takes the weights as given" if self.train.loss == "none" else None

    @property
    def undivided(self) -> str | None:
        return "data.pairs says who is tested" if self.data.pairs else None
