"""What of an embedder is converted to other formats: from pictures to embeddings of length 1."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.metrics import verification
from pipelines.data import image_dataset, run_files
from pipelines.engine.stages import Run
from pipelines.export.formats import Convertible, Outputs, image_preprocessing
from pipelines.tasks.verify import embeddings
from pipelines.tasks.verify.model import distances, load_trained
from pipelines.tasks.verify.report import rates_of

BATCH = 64  # pictures, whose pairs are decided about


def convertible(run: Run) -> Convertible:
    """From pictures of the network's size to embeddings; a decision is whether two pictures show one person."""
    recipe = run.recipe
    embedding, matcher = load_trained(run)
    shape = image_dataset.shape_of(recipe.data)
    rates = rates_of(run_files.read_json(run.finished("evaluate") / "report.json"))
    threshold = rates["threshold"]

    def examples(split: str) -> Iterator[tuple[Any, Any]]:
        pictures = embeddings.pictures_of(run, split)
        for start in range(0, len(pictures.labels), BATCH):
            rows = slice(start, start + BATCH)
            yield pictures.images[rows], pictures.labels[rows]

    def same(outputs: Outputs) -> Any:
        left, right = np.triu_indices(len(outputs["embedding"]), 1)
        return (distances(matcher, outputs["embedding"], outputs["embedding"]) <= threshold)[left, right]

    def changed(expected: Outputs, actual: Outputs) -> tuple[int, int]:
        one, other = same(expected), same(actual)
        return int((one != other).sum()), len(one)

    def area(scores: list[Any]) -> tuple[float, tuple[float, float]]:
        vectors, labels = map(np.concatenate, zip(*scores, strict=True))
        pairs = verification.all_pairs(distances(matcher, vectors, vectors), labels)
        draws = verification.bootstrap(pairs, labels, draws=recipe.evaluate.draws, seed=recipe.seed)
        low, high = np.quantile([verification.roc_auc(rates) for rates in draws], (0.025, 0.975))
        return verification.roc_auc(verification.rates(pairs.distance, pairs.same)), (float(low), float(high))

    return Convertible(
        model=embedding,
        answer=lambda images: {"embedding": tf.cast(embedding(images, training=False), tf.float32)},
        tensor=tf.TensorSpec((None, *shape.size, shape.channels), tf.uint8, name="image"),
        about={
            "preprocessing": image_preprocessing(shape) | {"align": recipe.data.align and recipe.data.align.by},
            "outputs": {"embedding": "of length 1; the squared distance of two is smaller for one person"},
            "threshold": threshold,
            "rates": rates,
            "head": recipe.train.loss == "siamese",
        },
        examples=examples,
        changed=changed,
        score=lambda outputs, labels: (outputs["embedding"], labels),
        measure=area,
        metric="auc",
    )
