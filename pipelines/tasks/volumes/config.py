"""The recipe of volumes."""

from pipelines.data import array_config
from pipelines.data.schema import Positive
from pipelines.engine.classification import classifier_config
from pipelines.engine.classification.classifier_config import Evaluate, Export, Train, Tune
from pipelines.engine.recipe import Model


class Data(array_config.Data):
    """Where the volumes come from and what shape they are given."""

    size: tuple[Positive, Positive, Positive] = (32, 32, 32)  # depth, height, width
    channels: Positive = 1  # of each voxel


class Recipe(classifier_config.Recipe):
    """A recipe of this task."""

    data: Data
    augment: tuple[array_config.Augment, ...] = ()
    model: Model
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    tune: Tune | None = None  # what `cnn tune` tries
