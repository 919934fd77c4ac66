"""What of a localizer is converted to other formats: where the one thing of a framed picture is, and what it is."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.models.localize import Localization
from pipelines.data.boxes import box_batches, box_dataset
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.localize.decode import load_trained
from pipelines.tasks.localize.report import BATCH, Answers, measure
from pipelines.tasks.localize.training import targets_of

MEANINGS = {
    "presence": "the probability that there is anything",
    "boxes": "left, top, right, bottom in [0, 1] of the framed picture",
    "probabilities": "of each class, in the order of `classes`; their sum is 1",
    "landmarks": "x and y of each in [0, 1] of the framed picture, in the order of `landmarks`",
}


def convertible(run: Run) -> Convertible:
    """From framed pictures to a localization in their frame; a decision is the class, or that there is nothing."""
    locator, threshold = load_trained(run), run.recipe.export.threshold
    shape, encode = box_dataset.shape_of(run.recipe.data), targets_of(run)
    names = [name for name in MEANINGS if name != "landmarks" or locator.landmarks]

    def answer(images: Any) -> Outputs:
        said = locator.framed(images)
        outputs = {
            "presence": said.presence,
            "boxes": said.boxes,
            "probabilities": said.classes,
            "landmarks": said.landmarks,
        }
        return {name: outputs[name] for name in names}

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        for batch in box_batches.examples(run, split).batch(BATCH):
            truth = locator.truth(encode(batch), batch["extent"], batch["image"].shape[1:3])
            yield batch["image"].numpy(), (truth, batch["extent"])

    def score(outputs: Outputs, truth: Any) -> tuple[Localization, Localization]:
        true, extents = truth
        marks = outputs.get("landmarks", np.zeros((len(outputs["boxes"]), 0, 2), np.float32))
        parts = (outputs["presence"], outputs["boxes"], outputs["probabilities"], marks)
        said = Localization(*map(tf.constant, parts))
        return true, locator.placed(said, extents, shape.size)

    def accuracy(scores: list[Any]) -> tuple[float, tuple[float, float]]:
        truth, said = (
            Localization(*map(np.concatenate, zip(*part, strict=True))) for part in zip(*scores, strict=True)
        )
        report = measure(Answers([], truth, said), locator.names, locator.landmarks, threshold)
        low, high = report["accuracy_interval"]
        return report["accuracy"], (low, high)

    def decisions(outputs: Outputs) -> Any:
        return np.where(outputs["presence"] >= threshold, outputs["probabilities"].argmax(axis=-1), -1)

    return Convertible(
        model=locator.model,
        answer=answer,
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": {name: MEANINGS[name] for name in names},
            "classes": locator.names,
            "landmarks": locator.landmarks,
            "threshold": threshold,
        },
        examples=examples,
        changed=lambda one, other: (int((decisions(one) != decisions(other)).sum()), len(one["presence"])),
        score=score,
        measure=accuracy,
        metric="accuracy",
    )
