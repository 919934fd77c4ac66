"""What the recipes of all classifiers have in common."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.data.schema import Name, Positive, Section

Baseline = Literal["majority", "logistic regression", "nearest neighbour"]
Metric = Literal[
    "accuracy", "top_5_accuracy", "macro_precision", "macro_recall", "macro_f1", "auc", "average_precision"
]


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    baselines: bool = True  # measure what needs no network on the same split
    worst: Positive = 24  # the most confident mistakes that are drawn
    require: dict[Metric, float] = Field(default_factory=dict)  # metric: the least it must be
    beat: tuple[Baseline, ...] = ()  # baselines whose accuracy it must reach


class Export(Section):
    """What the exported model is called and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(gt=0)] = 1e-5  # the largest difference of a probability
    register_model: bool = True  # in MLflow's registry, as candidate
