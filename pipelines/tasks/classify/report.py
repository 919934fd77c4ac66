"""Evaluation of classification: the report of every classifier, crops, the training split, what units have learnt."""

from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.ops import test_time_augmentation
from pipelines.data import image_dataset
from pipelines.engine import baselines
from pipelines.engine.classification import (
    classifier,
    classifier_report,
    ensemble,
    ensemble_gain,
    label_kind,
    visualization,
)
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.classify import multi_label_report
from pipelines.tasks.classify import test_time_augmentation as crops
from pipelines.tasks.classify.config import Evaluate
from pipelines.tasks.classify.dataset import batches, pictures


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    if label_kind.of(run.recipe) is label_kind.MULTI:
        return multi_label_report.evaluate(run, folder)
    prepared, shape = run.finished("prepare"), image_dataset.shape_of(run.recipe.data)
    split = image_dataset.test_split(run.facts("prepare"))
    facts = classifier_report.evaluate(
        run,
        folder,
        batches=lambda name: batches(prepared, name, shape),
        baselines=lambda: _baselines(run, prepared, split, shape),
        pictures_of=lambda rows: pictures(prepared, split, shape, rows),
        further=partial(_further, run),
    )
    if not run.recipe.evaluate.insight:
        return facts
    model, names = classifier.load_trained(run), run.facts("prepare")["classes"]
    if members := ensemble.members(model):
        run.console.print("          the visualizations are those of the first member")
        model = members[0]
    visualization.draw(model, prepared, split=split, shape=shape, names=names, folder=folder, console=run.console)
    return facts


def _further(run: Run, model: keras.Model, right: Any) -> dict[str, Any]:
    """What the recipe wants to know besides: of many crops, of the training split."""
    settings: Evaluate = run.recipe.evaluate
    figures: dict[str, Any] = {}
    if settings.crops:
        figures["crops"] = _measure_crops(run, model, right)
    if settings.gap:
        training = batches(run.finished("prepare"), "train", image_dataset.shape_of(run.recipe.data))
        answer = inference.predictor(model, partial(savedmodel.probabilities, model))
        accuracy = classifier_report.correct(run, answer, training, "train").mean()
        figures |= {"train": {"accuracy": float(accuracy)}, "gap": float(accuracy - right.mean())}
    return figures


def _measure_crops(run: Run, model: keras.Model, right: Any) -> dict[str, Any]:
    """The gain and the cost of many crops of the test images beside the whole images, which were `right` or not.

    `centre_accuracy` is that of the centre alone, at the first scale: what the papers compare ten crops with.
    """
    recipe, prepared, split = run.recipe, run.finished("prepare"), image_dataset.test_split(run.facts("prepare"))
    shape, answer = crops.cropped(recipe)
    plan, size = recipe.evaluate.crops.model_dump(), recipe.data.size

    looks = crops.count(recipe)

    def mean_and_centre(frames: Any) -> Any:
        probabilities = test_time_augmentation.view_probabilities(model, frames, size, **plan)
        centre = test_time_augmentation.center_view(mirror=plan["mirror"])
        return tf.stack([tf.reduce_mean(probabilities, axis=1), probabilities[:, centre]], axis=1)

    predict = inference.predictor(model, mean_and_centre, looks=looks)
    cropped = classifier_report.correct(run, predict, batches(prepared, split, shape), split)
    whole = ensemble_gain.Combined(model, partial(answer, model), (None, *shape.size, shape.channels), looks)
    figures = {**plan, "count": whole.looks, "centre_accuracy": float(cropped[:, 1].mean())}
    return {**figures, **ensemble_gain.gain(right, cropped[:, 0]), "cost": ensemble_gain.cost(model, whole)}


def _baselines(run: Run, prepared: Path, split: str, shape: Shape) -> dict[str, Any]:
    budget = int(run.recipe.data.memory_gb * 2**30 / (shape.size[0] * shape.size[1] * shape.channels))
    train, test = (input_pipeline.arrays(prepared, name, shape, limit=budget) for name in ("train", split))
    figures = baselines.baselines(train.images, train.labels, test.images, test.labels, seed=run.recipe.seed)
    note = figures.note + (f", tested on {len(test.labels):,} images" if len(test.labels) == budget else "")
    return {"accuracy": figures.accuracy, "note": note}
