"""What of a network that paints is converted to other formats: paintings of pictures of the size of `data.window`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.metrics.classification import wilson_interval
from cnn_keras.ops.resize import resize_image
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize.model import load_trained

BATCH = 8  # windows
NEAR = 1.0  # grey levels by which a painting may differ


def convertible(run: Run) -> Convertible:
    """From square pictures to paintings, whose decisions are their values; they are compared with the trained network.

    No painting is right, so that the metric is the share of values that are those of the trained network's painting.
    """
    model, side = load_trained(run), run.recipe.data.window
    shape = Shape((side, side), 3, "crop")

    def answer(images: Any) -> Outputs:
        return {"painting": tf.clip_by_value(tf.cast(model(images, training=False), tf.float32), 0.0, 255.0)}

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        if split != "test":  # of which there are windows
            for batch in input_pipeline.decoded_examples(run.finished("prepare"), split, shape).batch(BATCH):
                yield batch["image"].numpy(), None
            return
        for picture in dataset.contents(run.finished("prepare")):
            framed = resize_image(tf.constant(picture.pixels), shape.size, fit=shape.fit)[None]
            yield framed.numpy(), answer(framed)["painting"].numpy()

    def near(one: Any, other: Any) -> Any:
        return np.abs(one - other) <= NEAR

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        alike = near(expected["painting"], actual["painting"])
        return int((~alike).sum()), alike.size

    return Convertible(
        model=model,
        answer=answer,
        tensor=tf.TensorSpec((None, side, side, 3), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape),
            "outputs": {"painting": "RGB, 0–255, of the size of the input; round it to uint8"},
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, painting: near(outputs["painting"], painting),
        measure=_agreement,
        metric="agreement",
    )


def _agreement(scores: list[Any]) -> tuple[float, tuple[float, float]]:
    right, count = sum(int(score.sum()) for score in scores), sum(score.size for score in scores)
    return right / count, wilson_interval(right, count)
