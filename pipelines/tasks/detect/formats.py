"""What of a detector is converted to other formats: its candidates, of which whoever runs it suppresses what overlaps.

Non-maximum suppression is no part of it: it has no counterpart that all formats share.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.spatial import distance

from pipelines.data import image_dataset, run_files
from pipelines.data.boxes import box_batches, box_dataset
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.export.runtimes import Array
from pipelines.tasks.detect import box_report
from pipelines.tasks.detect.error_types import Detected
from pipelines.tasks.detect.model import exported_reader, load_trained, make_reader
from pipelines.tasks.detect.report import BATCH

MEANINGS = {
    "boxes": "of each candidate: left, top, right, bottom in [0, 1] of the framed picture",
    "scores": "of each candidate for each class, in the order of `classes`; suppress candidates that overlap",
}


def convertible(run: Run) -> Convertible:
    """From framed pictures to candidates; a decision is what is found in a picture, boxes to `export.tolerance`."""
    settings, split = run.recipe.export, image_dataset.test_split(run.facts("prepare"))
    model, shape = load_trained(run), box_dataset.shape_of(run.recipe.data)
    serving, measuring = exported_reader(run, model), make_reader(run, model, run.recipe.evaluate.suppress)
    truth = run_files.read_json(run.finished("prepare") / f"truth-{split}.json")

    def answer(images: Any) -> Outputs:
        candidates, scores = serving.all_candidates(images)
        return {"boxes": tf.cast(candidates, tf.float32), "scores": tf.cast(scores, tf.float32)}

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for batch in box_batches.examples(run, split).batch(BATCH):
            yield batch["image"].numpy(), batch["extent"]

    def found(reader: Any, outputs: Outputs, extents: Any) -> list[Detected]:
        frames = tf.zeros((len(extents), *shape.size, 1))  # of which the size is looked at
        detections = reader.told(tf.constant(outputs["boxes"]), tf.constant(outputs["scores"]), frames, extents)
        columns = [column.numpy() for column in detections[:3]]
        counts = enumerate(detections.count.numpy())
        return [Detected(*(column[row, :count] for column in columns)) for row, count in counts]

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        frames = tf.tile(tf.constant([shape.size]), [len(expected["boxes"]), 1])
        one, other = (found(serving, outputs, frames) for outputs in (expected, actual))
        alike = [_alike(*pair, tolerance=settings.tolerance) for pair in zip(one, other, strict=True)]
        return alike.count(False), len(alike)

    def difference(expected: Outputs, actual: Outputs) -> float:
        rows = [np.concatenate([outputs["boxes"], outputs["scores"]], axis=-1) for outputs in (expected, actual)]
        return max(
            candidate_difference(*pair, threshold=serving.settings.threshold) for pair in zip(*rows, strict=True)
        )

    def precision(scores: list[list[Detected]]) -> tuple[float, tuple[float, float]]:
        return box_report.ap50(truth, [one for batch in scores for one in batch])

    return Convertible(
        model=model,
        answer=answer,
        tensor=tf.TensorSpec((None, *shape.size, 3), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": MEANINGS,
            "classes": run.facts("prepare")["classes"],
            "suppress": {
                **serving.settings.model_dump(include={"threshold", "limit", "soft"}),
                "iou_threshold": serving.settings.iou_threshold,
            },
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, extents: found(measuring, outputs, extents),
        measure=precision,
        metric="ap50",
        difference=difference,
    )


def candidate_difference(one: Array, other: Array, *, threshold: float) -> float:
    """The largest difference of a coordinate or a score between a candidate and the one of the other most like it.

    Looked at are candidates, rows of a box in [0, 1] and its scores, of which a score reaches `threshold`. They have no
    order: that of two with nearly one score is left to rounding.
    """
    pairs = [(rows[rows[:, 4:].max(axis=1) >= threshold], rest) for rows, rest in ((one, other), (other, one))]
    nearest = [distance.cdist(rows, rest, "chebyshev").min(axis=1) for rows, rest in pairs if len(rows)]
    return float(max((values.max() for values in nearest), default=0.0))


def _alike(one: Detected, other: Detected, *, tolerance: float) -> bool:
    """Whether the same classes are found in the same places, whatever the order of those with nearly one score."""
    if len(one.classes) != len(other.classes):
        return False
    left = list(range(len(other.classes)))
    for box, number in zip(one.boxes, one.classes, strict=True):
        near = [
            row for row in left if other.classes[row] == number and np.abs(other.boxes[row] - box).max() <= tolerance
        ]
        if not near:
            return False
        left.remove(near[0])
    return True
