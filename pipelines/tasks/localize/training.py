"""How a localizer is trained: the target of the largest thing in each picture, the loss of its head, its metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras import plugins
from cnn_keras.data.transforms import augment
from cnn_keras.models import localize
from pipelines.data import image_dataset
from pipelines.data.boxes import box_batches
from pipelines.engine.recipe import Train
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.task_training import Training, announce, fit, initial_model
from pipelines.tasks.localize.model import assemble


def train(run: Run, folder: Path, *, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    run = precision_choice.settled(run, folder)
    augmentation, settings = _augmentation(run), run.recipe.train
    training = _inputs(run, augmentation)
    model = initial_model(run, training)
    announce(run, training, model)
    if augmentation is not None:
        box_batches.draw_augmented(run, augmentation, folder / "augmented.png")
    history = fit(run, training, training.compiled(model, settings), settings, folder, extend_to=extend_to)
    return trainer.conclude(model, history, settings, folder, console=run.console, metric="mean_iou")


def inputs(run: Run) -> Training:
    """What a training of the run needs."""
    return _inputs(run, _augmentation(run))


def _inputs(run: Run, augmentation: Any) -> Training:
    recipe, data = run.recipe, run.facts("prepare")
    count, to_fit = data["splits"]["train"], inputs_and_targets(run)

    def compiled(model: keras.Model, settings: Train) -> keras.Model:
        steps = -(-count // settings.batch_size)
        trainer.compile_model(model, settings, steps=steps, **objective(recipe, data))
        return model

    return Training(
        assembled=lambda: assemble(recipe, data),
        compiled=compiled,
        batches=lambda model, epochs: box_batches.training(run, epochs, augmentation).map(to_fit),
        validation=lambda model: box_batches.ordered_batches(run, image_dataset.validation_split(data)).map(to_fit),
        examples=count,
    )


def _augmentation(run: Run) -> Any:
    recipe, fitted = run.recipe, box_batches.fitted_arguments(run)
    return augment.compose(recipe.augment, size=recipe.data.size, fitted=fitted, on=recipe.train.augment_on)


def targets_of(run: Run) -> Callable[[dict[str, Any]], tf.Tensor]:
    """What `localize.encode` makes of a batch: the target of its largest thing."""
    names = len(run.facts("prepare")["classes"])
    return lambda batch: localize.encode(batch["boxes"], batch["classes"], batch.get("landmarks"), names=names)


def inputs_and_targets(run: Run) -> Callable[[dict[str, Any]], tuple[Any, Any]]:
    """What `fit` takes of a batch: its images and their targets."""
    targets = targets_of(run)
    return lambda batch: (batch["image"], targets(batch))


def objective(recipe: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What `trainer.compile_model` is to minimise and to measure."""
    classes, head = len(data["classes"]), recipe.head
    settings = head.model_dump(include={"box", "landmark", "box_weight", "landmark_weight"})

    def loss(target: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.add_n(list(localize.loss(target, y, classes=classes, **settings).values()))

    def presence(target: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.cast((y[:, 0] > 0) == (target[:, 0] > 0), tf.float32)

    def named(target: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        true_classes, predicted_classes = (tf.argmax(values[:, 5 : 5 + classes], axis=-1) for values in (target, y))
        return tf.cast(true_classes == predicted_classes, tf.float32)

    metrics = [_mean("presence_accuracy", presence, everywhere=True), _mean("mean_iou", localize.iou)]
    if classes > 1:
        metrics.append(_mean("class_accuracy", named))
    return {"loss": plugins.load(recipe.train.loss) if recipe.train.loss else loss, "metrics": metrics}


def _mean(name: str, measure: Any, *, everywhere: bool = False) -> keras.metrics.Metric:
    """The mean of what is measured of each example, of those alone that show something unless `everywhere`."""

    class Shown(keras.metrics.Mean):
        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            super().update_state(measure(y_true, y_pred), None if everywhere else y_true[:, 0])

    return Shown(name=name)
