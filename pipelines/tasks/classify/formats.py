"""What of a classifier of images is converted to other formats."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pipelines.engine.classification import calibration, classifier_formats, label_kind
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, image_preprocessing
from pipelines.tasks.classify import multi_label_exporter
from pipelines.tasks.classify import test_time_augmentation as crops
from pipelines.tasks.classify.dataset import batches


def convertible(run: Run) -> Convertible:
    """From images of the network's size to probabilities; with `export.crops`, to their mean over the crops."""
    if label_kind.of(run.recipe) is label_kind.MULTI:
        return multi_label_exporter.convertible(run)
    recipe, prepared = run.recipe, run.finished("prepare")
    shape, answer, *_ = crops.exported(recipe)

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        return ((images.numpy(), labels) for images, labels, _ in batches(prepared, split, shape))

    return classifier_formats.convertible(
        run,
        calibration.load_calibrated(run),
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        preprocessing=image_preprocessing(shape),
        examples=examples,
        answer=answer,
    )
