"""The recipe of signals."""

from typing import Annotated

from pydantic import Field

from pipelines.data import array_config
from pipelines.data.schema import Positive
from pipelines.engine.classification import classifier_config
from pipelines.engine.classification.classifier_config import Evaluate, Export, Train, Tune
from pipelines.engine.recipe import Model


class Data(array_config.Data):
    """Where the signals come from and what length they are given."""

    length: Positive | None = None  # that of the longest unless given
    window: Annotated[float, Field(gt=0)] | None = None  # of source wfdb: seconds around each beat; 1 unless given


class Recipe(classifier_config.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[array_config.Augment, ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries
