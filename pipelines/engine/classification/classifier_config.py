"""What the recipes of all classifiers have in common."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.data.schema import Fraction, Own, Positive, RecipePath, Section
from pipelines.engine import recipe as recipes

Baseline = Literal["majority", "logistic regression", "nearest neighbour"]


class Ensemble(Section):
    """Networks of one recipe whose answers are averaged; see `engine.ensemble`. A number alone is that of seeds."""

    members: Annotated[int, Field(ge=2)]  # how many networks
    kind: Literal["seeds", "snapshots"] = "seeds"  # one training for each seed, or one training of as many cycles


class Distill(Section):
    """What a network learns from a larger one; see `engine.classification.compression`."""

    path: RecipePath  # the folder of the teacher's run, of the same classes and size
    temperature: Annotated[float, Field(gt=0)] = 4.0  # that softens the probabilities of both
    weight: Annotated[float, Field(gt=0, le=1)] = 0.9  # of the teacher's probabilities against the labels

    @property
    def file(self) -> Path:
        """The teacher's model."""
        return self.path / "train" / "model.keras"


class Train(recipes.TransferTrain):
    """How the weights are found. The defaults suit a small network on a small data set."""

    label_smoothing: Fraction = 0.0  # share of each label spread evenly over all classes
    focal_gamma: Annotated[float, Field(gt=0)] | None = None  # the focal loss of Lin et al. (2017) instead; 2 is theirs
    # of your own, package.module:name or ./file.py:name: one-hot labels and logits, (batch, classes), to (batch,)
    loss: Own | None = None
    class_weights: Literal["balanced"] | None = None  # each class counts the same, whatever its number of examples
    ensemble: Ensemble | None = None  # train so many networks and average their answers
    # share of each kernel's weights, the smallest of `model.weights`, that are made zero and stay so
    prune: Annotated[float, Field(gt=0, lt=1)] | None = None
    distill: Distill | None = None  # learn from a trained network, beside the labels
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"  # type: ignore[assignment]  # what is best in the best epoch

    @field_validator("ensemble", mode="before")
    @classmethod
    def _members_alone(cls, values: Any) -> Any:
        return {"members": values} if isinstance(values, int) and not isinstance(values, bool) else values

    @model_validator(mode="after")
    def _loss_is_one(self) -> Self:
        if sum(map(bool, (self.loss, self.focal_gamma, self.label_smoothing))) > 1:
            raise ValueError("loss, focal_gamma and label_smoothing do not go with each other")
        return self

    @model_validator(mode="after")
    def _pruned_weights_are_not_averaged(self) -> Self:
        if self.prune and self.ema is not None:
            raise ValueError("prune and ema do not go with each other: the average is taken before zeros are put back")
        return self

    @model_validator(mode="after")
    def _cycles_are_whole(self) -> Self:
        if self.ensemble is None or self.ensemble.kind == "seeds":
            return self
        if self.epochs % self.ensemble.members:
            raise ValueError(f"epochs must be a multiple of ensemble.members ({self.ensemble.members}), one cycle each")
        if self.schedule != "cosine" or self.warmup_epochs:
            raise ValueError("snapshots require schedule: cosine, restarted in every cycle, and no warmup_epochs")
        if self.ema is not None or self.patience:
            raise ValueError(
                "snapshots are the weights at the end of each cycle: they go with neither ema nor patience"
            )
        if self.transfer and self.transfer.mode in ("cached", "staged"):
            raise ValueError(f"snapshots cannot be combined with transfer.mode: {self.transfer.mode}")
        return self


class Tune(recipes.Tune):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    metric: Literal["val_loss", "val_accuracy"] = "val_accuracy"  # type: ignore[assignment]  # of each trial's best epoch


class Evaluate(recipes.Evaluate):
    """What is measured, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = (
        "accuracy", "top_5_accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_auc", "auc",
        "average_precision", "log_loss", "calibration_error",
    )  # fmt: skip

    baselines: bool = True  # measure what needs no network on the same split
    insight: bool = True  # draw what some answers rest on; of images, what the units have learnt to see too
    calibrate: bool = True  # fit a temperature on the validation split, which the exported model divides its logits by
    # answers below a confidence are marked as not accepted, so that at most this share of the others is wrong
    reject_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    # the mean of so many passes with dropout is measured beside the single pass without: Monte Carlo dropout
    dropout_samples: Annotated[int, Field(ge=2)] | None = None
    worst: Positive = 24  # the most confident mistakes that are drawn
    # of your own: labels (N,) and probabilities (N, classes), arrays of NumPy, to a number
    metrics: tuple[Own, ...] = ()
    beat: tuple[Baseline, ...] = ()  # baselines whose accuracy it must reach

    @property
    def calibrates(self) -> bool:
        """Whether a temperature is fitted."""
        return self.calibrate

    @model_validator(mode="after")
    def _rejects_by_calibrated_answers(self) -> Self:
        if self.reject_error is not None and not self.calibrates:
            raise ValueError("reject_error requires calibrate: true, and no crops")
        return self


class Export(recipes.Export):
    """What the exported model is called and how far it may stray from the trained one."""

    tolerance: Annotated[float, Field(gt=0)] = 1e-5  # the largest difference of a probability
    dropout_samples: bool = False  # the graph averages the passes of `evaluate.dropout_samples`


class Recipe(recipes.Recipe):
    """What the recipes of images, signals and volumes have in common."""

    @model_validator(mode="after")
    def _what_is_pruned_was_trained(self) -> Self:
        recipe: Any = self
        if recipe.train.prune and not recipe.model.weights:
            raise ValueError(
                "train.prune requires model.weights, such as the model.keras of a run: chance has no small weights"
            )
        return self

    @model_validator(mode="after")
    def _samples_are_measured(self) -> Self:
        recipe: Any = self  # the sections are those of the tasks
        export, evaluate = recipe.export, recipe.evaluate
        if export.dropout_samples and (evaluate.dropout_samples is None or evaluate.calibrate):
            raise ValueError(
                "export.dropout_samples requires evaluate.dropout_samples, a number, and evaluate.calibrate: false, "
                "for the temperature is that of the single pass"
            )
        return self
