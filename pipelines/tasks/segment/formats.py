"""What of a segmenter is converted to other formats: patches to the probabilities of their pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data.input_pipeline import Shape
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.export.runtimes import Array, Ask
from pipelines.tasks.segment import records, tally
from pipelines.tasks.segment.model import Segmenter, exported_segmenter
from pipelines.tasks.segment.tally import Answer


class Converted(Segmenter):
    """Says of each pixel what a network in another format does: pictures are cut and put together as ever."""

    def __init__(self, segmenter: Segmenter, ask: Ask, classes: int) -> None:
        super().__init__(segmenter.model, segmenter.data)  # of one view: the network has averaged them
        self._converted, self._classes = ask, classes

    def _seen(self, batch: Any) -> Any:
        def ask(patches: Any) -> Any:
            return np.asarray(self._converted(np.asarray(patches))["probabilities"], np.float32)

        said = tf.numpy_function(ask, [batch], tf.float32)
        return tf.ensure_shape(said, (None, *self.patches.answered, self._classes))


def convertible(run: Run) -> Convertible:
    """From patches or framed pictures to probabilities; a decision is a pixel of a whole picture."""
    recipe, names = run.recipe, run.facts("prepare")["classes"]
    segmenter, data = exported_segmenter(run), recipe.data
    model = segmenter.model
    converted: dict[Ask, Any] = {}  # compiled once for each network

    def ask(network: Ask, picture: Array) -> Outputs:
        if network not in converted:
            converted[network] = Converted(segmenter, network, len(names)).asked()
        return {name: part.numpy() for name, part in converted[network](picture)._asdict().items()}

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        return ((example.image, example) for example in records.of_run(run, split))

    def score(outputs: Outputs, example: Any) -> Answer:
        truth, labels = example.compared(outputs["labels"].astype(np.int64), data.spacing)
        return Answer(example.id, truth, labels, float(outputs["confidence"].mean()), example.spacing)

    def overlap(scores: list[Answer]) -> tuple[float, tuple[float, float]]:
        return tally.mean_iou(tally.tally(scores, len(names), tolerance=recipe.evaluate.tolerance))

    shape = Shape(tuple(data.size), data.channels, data.fit)
    return Convertible(
        model=model,
        answer=lambda batch: {"probabilities": segmenter.probabilities(batch)},
        tensor=tf.TensorSpec((None, *data.size, data.channels), model.input.dtype, name=model.input.name),
        about={
            "preprocessing": image_preprocessing(shape)
            | {
                "kind": "image" if data.axes == 2 else "volume",
                "normalize": data.normalize,
                "answered": list(segmenter.patches.answered),
                "overlap": data.overlap,
            },
            "outputs": {"probabilities": "of each class at each pixel, in the order of `classes`; their sum is 1"},
            "classes": names,
        },
        examples=examples,
        changed=lambda one, other: (int((one["labels"] != other["labels"]).sum()), one["labels"].size),
        score=score,
        measure=overlap,
        metric="mean_iou",
        ask=ask,
    )
