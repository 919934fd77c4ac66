"""Export of images with any number of labels: encoded images in, probabilities and the labels that reach theirs out."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.metrics import multi_label as metrics
from pipelines.data import image_dataset
from pipelines.engine.classification import classifier, classifier_export
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.plots.image_grid import Array
from pipelines.tasks.classify import multi_label_report
from pipelines.tasks.classify import test_time_augmentation as crops
from pipelines.tasks.classify.dataset import batches


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves, with the thresholds of the evaluation in it; prove that it agrees.

    Besides `probabilities` its signatures give `classes` string (N, classes), whose they are, `chosen` bool (N,
    classes), whether each reaches its threshold, and `label` string (N, classes), the chosen names, the likeliest
    first, and "" behind them.
    """
    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    split, (shape, answer, looks, takes) = image_dataset.test_split(data), crops.exported(recipe)
    names, thresholds = data["classes"], multi_label_report.thresholds_of(run)

    def write(model: keras.Model, saved: Path) -> dict[str, Any]:
        decide = partial(chosen_labels, thresholds=thresholds, names=names)
        savedmodel.write_classifier(model, saved, shape=shape, names=names, answer=answer, decide=decide)
        agreement = savedmodel.compare_classifier(
            model,
            saved,
            prepared,
            split,
            shape,
            tolerance=recipe.export.tolerance,
            answer=answer,
            looks=looks,
            decisions=lambda probabilities: probabilities >= thresholds,
        )
        savedmodel.write_warmup(saved, prepared, split, shape)
        return agreement

    metric = "mean_average_precision"
    facts = classifier_export.export(run, folder, write=write, write_card=_write_card, metric=metric, takes=takes)
    if recipe.export.crops and "register" in facts:
        facts["register"]["metrics"][f"test_{metric}"] = run.facts("evaluate")["metrics"][f"test_crops_{metric}"]
    return facts


def chosen_labels(probabilities: Any, *, thresholds: Array, names: Sequence[str]) -> dict[str, Any]:
    """What is decided by probabilities, float32 (N, classes): `chosen`, `classes` and `label`; see `export`."""
    chosen = probabilities >= tf.constant(thresholds, tf.float32)
    order = tf.argsort(tf.where(chosen, probabilities, -1.0), axis=-1, direction="DESCENDING", stable=True)
    label = tf.where(tf.gather(chosen, order, batch_dims=1), tf.gather(tf.constant(names), order), "")
    classes = tf.broadcast_to(tf.constant(names), tf.shape(probabilities))
    return {"chosen": chosen, "classes": classes, "label": label}


def convertible(run: Run) -> Convertible:
    """What is written in other formats: from images of the network's size to probabilities; thresholds are beside."""
    data, prepared, (shape, answer, *_) = run.facts("prepare"), run.finished("prepare"), crops.exported(run.recipe)
    model, thresholds = classifier.load_trained(run), multi_label_report.thresholds_of(run)

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        return ((images.numpy(), labels) for images, labels, _ in batches(prepared, split, shape))

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        decisions, others = (outputs["probabilities"] >= thresholds for outputs in (expected, actual))
        return int((decisions != others).sum()), int(decisions.size)

    return Convertible(
        model=model,
        answer=lambda batch: {"probabilities": answer(model, batch)},
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": {"probabilities": "of each label, in the order of `classes`; each by itself"},
            "classes": data["classes"],
            "thresholds": [round(float(threshold), 6) for threshold in thresholds],
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, labels: (outputs["probabilities"], labels >= 0.5),
        measure=partial(_measure, thresholds=thresholds),
        metric="mean_average_precision",
    )


def _measure(scores: list[Any], *, thresholds: Array) -> tuple[float, tuple[float, float]]:
    probabilities, truth = (np.concatenate(column) for column in zip(*scores, strict=True))
    average = float(np.nanmean(metrics.average_precisions(probabilities, truth)))
    return average, metrics.intervals(probabilities, truth, thresholds)["mean_average_precision"]


def _write_card(
    path: Path,
    model: keras.Model,
    *,
    recipe: Any,
    data: Mapping[str, Any],
    report: dict[str, Any],
    agreement: dict[str, Any],
    gain: Sequence[str],
    takes: str,
) -> None:
    what = (
        f"`{recipe.model.builder}` on `{data['source']}`, any number of labels an image; they are "
        f"{', '.join(data['classes'])}."
    )
    lines = [
        *multi_label_report.card_lines(report),
        "",
        f"The exported model differs from the trained one by at most {agreement['difference']:.1e} on "
        f"{agreement['images']} images.",
    ]
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, metrics=lines, takes=takes)
