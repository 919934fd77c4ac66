"""The recipe of classification."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, model_validator

from cnn_keras import plugins
from pipelines.data import image_config
from pipelines.data.boxes.box_config import Composites
from pipelines.data.schema import Bits, RecipePath, Section, kind_alone
from pipelines.engine.classification import classifier_config
from pipelines.engine.classification.classifier_config import Baseline
from pipelines.engine.recipe import ImageTrain, Model

MULTI_SOURCES = ("csv", "coco", "voc", "composites")  # of images with any number of labels


class Data(image_config.Data):
    """Where the images come from and what shape they are given."""

    # single: each image is of one class; multi: it has any number of labels, from source csv (a table, CSV or Parquet:
    # a column labels of names, or a column of 0 and 1 for each class), coco, voc, composites or a function of your own
    # that returns annotations – of boxes the classes that are in the image
    labels: Literal["single", "multi"] = "single"
    separator: str | None = None  # of names in the column labels, in place of |, ; and ,
    images: RecipePath | None = None  # the folder of the images, if not where the table or the annotations say
    composites: Composites | None = None  # what scenes of source composites are made of
    # images whose difference hashes, of 128 bits, differ in at most so many stay in one split; null: only copies do
    group_similar: Bits | None = None

    @property
    def layout(self) -> str:  # type: ignore[override]
        return "csv" if self.labels == "multi" else "folder"

    @model_validator(mode="after")
    def _fits_its_labels(self) -> Self:
        multi = self.labels == "multi"
        if multi and self.source not in MULTI_SOURCES and not plugins.is_reference(self.source):
            raise ValueError(f"source must be {', '.join(MULTI_SOURCES)} with labels: multi, got {self.source}")
        if not multi and (given := next((key for key in ("separator", "images", "composites") if self._has(key)), "")):
            raise ValueError(f"{given} requires labels: multi")
        if self.composites and self.source != "composites":
            raise ValueError(f"composites requires source: composites, got {self.source}")
        return self

    def _has(self, key: str) -> bool:
        return getattr(self, key) is not None


class Train(classifier_config.Train, ImageTrain):
    """How the weights are found. The defaults suit a small network on a small data set."""

    # what is best in the best epoch; the last one with data.labels: multi
    monitor: Literal["val_loss", "val_accuracy", "val_mean_average_precision"] = "val_loss"  # type: ignore[assignment]


class Tune(classifier_config.Tune):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    # of each trial's best epoch; with data.labels: multi the default is the last one
    metric: Literal["val_loss", "val_accuracy", "val_mean_average_precision"] = "val_accuracy"  # type: ignore[assignment]


class Crops(Section):
    """Views of an image, probabilities averaged; see `ops.test_time_augmentation`. A word alone is the kind."""

    kind: Literal["ten", "multiscale"]  # the corners and the middle, mirrored too, at one scale or at five
    mirror: bool = True  # false for what is not itself in a mirror, such as digits: five views instead of ten


class Evaluate(classifier_config.Evaluate):
    """What is measured of images."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        *classifier_config.Evaluate.MEASURED, "mean_average_precision", "micro_f1", "subset_accuracy",
    )  # fmt: skip

    # baselines whose accuracy it must reach; with data.labels: multi, label shares, whose mean average precision
    beat: tuple[Baseline | Literal["label shares"], ...] = ()  # type: ignore[assignment]
    crops: Annotated[Crops | None, BeforeValidator(kind_alone)] = None  # measured beside the single view
    gap: bool = False  # measure the training split too, as it is: how far the test split falls behind

    @property
    def calibrates(self) -> bool:
        """Whether a temperature is fitted: not beside crops, whose mean is another answer than the single view's."""
        return self.calibrate and self.crops is None


class Export(classifier_config.Export):
    """What is exported for images."""

    crops: bool = False  # the graph looks at the crops of `evaluate.crops`


class Recipe(classifier_config.Recipe):
    """A recipe of this task."""

    data: Data
    # what training does to each image, in order; `cnn augment` draws it
    augment: tuple[str | dict[str, dict[str, Any]], ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries

    @model_validator(mode="after")
    def _several_labels_are_tuned_by_their_own_metric(self) -> Self:
        tune = self.tune
        if self.data.labels == "multi" and tune and "metric" not in tune.model_fields_set:
            own = tune.model_copy(update={"metric": "val_mean_average_precision"})
            object.__setattr__(self, "tune", own)  # a default; the section is frozen for everybody else
        return self

    @model_validator(mode="after")
    def _crops_are_measured(self) -> Self:
        if self.export.crops and self.evaluate.crops is None:
            raise ValueError("export.crops requires evaluate.crops: ten or multiscale")
        if self.export.crops and self.export.dropout_samples:
            raise ValueError("export.crops and export.dropout_samples do not go with each other")
        return self

    @model_validator(mode="after")
    def _labels_are_of_one_kind(self) -> Self:
        """What is only for images of one class, or only for those of several, by its key."""
        multi, tune, beat = self.data.labels == "multi", self.tune, self.evaluate.beat
        of_several = {
            "train.monitor": self.train.monitor == "val_mean_average_precision",
            "tune.metric": tune is not None and tune.metric == "val_mean_average_precision",
            "evaluate.beat: [label shares]": "label shares" in beat,
        }
        of_one = {
            "train.monitor: val_accuracy": self.train.monitor == "val_accuracy",
            "tune.metric: val_accuracy": tune is not None and tune.metric == "val_accuracy",
            "train.loss with train.class_weights": bool(self.train.loss and self.train.class_weights),
            "train.distill": self.train.distill is not None,
            "evaluate.dropout_samples": self.evaluate.dropout_samples is not None,
            "evaluate.reject_error": self.evaluate.reject_error is not None,
            "evaluate.beat: all but label shares": bool(set(beat) - {"label shares"}),
        }
        if misplaced := next((key for key, is_there in (of_one if multi else of_several).items() if is_there), None):
            kind = "single" if multi else "multi"
            raise ValueError(f"{misplaced} requires data.labels: {kind}")
        return self
