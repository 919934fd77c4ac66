"""What a task tells of its training, and the one way from there to trained weights.

`cnn train`, `cnn lr`, a dry run, a search and cross-validation all start from the `training_inputs` of a task.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.engine.recipe import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
from pipelines.engine.training.input_profile import Probe
from pipelines.engine.training.trainer import Row


@dataclass(frozen=True)
class Training:
    """What a training needs of its task.

    Attributes:
        assembled: makes the model that is kept; called when the seeds are set.
        compiled: gives the model that is fit of one that was assembled – itself, or another around the same layers –,
            compiled at these settings, which are the recipe's or like them.
        batches: what `fit` takes of the epochs in a range, for the model that is fit.
        validation: what chooses the best epoch, for the same model.
        examples: how many an epoch has.
        noun: what an example is called.
        plain: endless batches of a few examples without augmentation, whose speed is compared.
        ordered: the examples of a split in their order and as they are, (examples, labels) in batches, where features
            may be cached.
        targets: a map from such batches to what `fit` takes, for a model; `weighted` where it is trained on them.
        before: epochs of networks that are trained before this one.
    """

    assembled: Callable[[], keras.Model]
    compiled: Callable[[keras.Model, Any], keras.Model]
    batches: Callable[[keras.Model, range], tf.data.Dataset]
    validation: Callable[[keras.Model], tf.data.Dataset]
    examples: int
    noun: str = "image"
    plain: Callable[[], tf.data.Dataset] | None = None
    ordered: Callable[[str], tf.data.Dataset] | None = None
    targets: Callable[..., Callable[..., Any]] | None = None
    before: int = 0


def check(run: Run) -> None:
    """Raise a Fault unless the recipe trains a network by minibatches and its task tells how."""
    if reason := run.recipe.untrained:
        raise Fault(f"RECIPE must train a network by minibatches: {reason}")
    if not hasattr(run.task, "training_inputs"):
        raise Fault(f"RECIPE must be of a task that has training_inputs, got one of {run.recipe.task}")


def inputs(run: Run) -> Training:
    """What a training of the run needs; the run has been checked, its data prepared."""
    return run.task.training_inputs(run)  # type: ignore[no-any-return]


def initial_model(run: Run, training: Training) -> keras.Model:
    """The model at the start of a training: seeds and number format are set as the recipe says."""
    trainer.set_up(run.recipe.seed, run.recipe.train)
    return training.assembled()


def announce(run: Run, training: Training, model: keras.Model) -> None:
    """Say what is trained, and on how much."""
    plan = getattr(run.recipe.train, "transfer", None)
    part = f", {trained_parameters(model):,} of them trained ({plan.mode})" if plan else ""
    run.console.print(
        f"          {run.recipe.model.builder}: {model.count_params():,} parameters{part}, "
        f"{run.facts('prepare')['splits']['train']:,} {training.noun}s"
    )


def trained_parameters(model: keras.Model) -> int:
    """The number of parameters that the training changes."""
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def fit(
    run: Run,
    training: Training,
    model: keras.Model,
    settings: Train,
    folder: Path,
    *,
    done: int = 0,
    extend_to: int | None = None,
    on_epoch: Callable[[int, Row], None] | None = None,
) -> list[Row]:
    """Train a model that was compiled at these settings in `folder`; `done` epochs of the run are behind it.

    Returns:
        The history. The model has its best weights.
    """
    report_epoch = on_epoch or run.on_epoch
    return trainer.fit(
        model,
        settings,
        folder,
        batches=lambda epochs: training.batches(model, range(done + epochs.start, done + epochs.stop)),
        validation=training.validation(model),
        images=training.examples,
        console=run.console,
        on_epoch=lambda number, row: report_epoch(done + number, row),
        extend_to=extend_to,
        probe=Probe(run, training.plain, training.noun) if training.plain else None,
    )
