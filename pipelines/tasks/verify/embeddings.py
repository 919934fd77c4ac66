"""The embeddings of a split, and the distances of all of them: what is measured and drawn."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cnn_keras import inference
from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Arrays
from cnn_keras.metrics import verification
from pipelines.data import image_dataset, validation
from pipelines.engine.stages import Run
from pipelines.tasks.verify import model

Array = np.ndarray[Any, np.dtype[Any]]

ENOUGH = 20  # pictures of a person, where not all can be compared


@dataclass(frozen=True)
class Embeddings:
    """Pictures of one split as the model sees them: N of them, with their embeddings and all their distances."""

    pictures: Arrays
    embeddings: Array  # float32 (N, dimension)
    distances: Array  # float32 (N, N)

    @property
    def labels(self) -> Array:
        labels: Array = self.pictures.labels
        return labels

    @property
    def pairs(self) -> verification.Pairs:
        return verification.all_pairs(self.distances, self.labels)


def of_split(run: Run, models: tuple[keras.Model, keras.Model], split: str) -> Embeddings:
    """The model's embeddings of a split, or of people drawn from it where it is too large to compare all pairs."""
    pictures = pictures_of(run, split)
    embeddings = embed(run, models[0], pictures.images, split)
    return Embeddings(pictures, embeddings, model.distances(models[1], embeddings, embeddings))


def pictures_of(run: Run, split: str) -> Arrays:
    """The pictures of a split, or of people drawn from it where it is too large to compare all pairs."""
    recipe = run.recipe
    pictures = input_pipeline.arrays(run.finished("prepare"), split, image_dataset.shape_of(recipe.data))
    rows = _of_people(pictures.labels, recipe.evaluate.pictures, recipe.seed)
    if len(rows) < len(pictures.labels):
        run.console.print(
            f"          {split}: {len(rows):,} of {len(pictures.labels):,} pictures, of people drawn at random"
        )
    return type(pictures)(*(column[rows] for column in pictures))


def embed(run: Run, embedding: keras.Model, images: Array, what: str) -> Array:
    """The embeddings, float32 (N, dimension), of pictures, uint8 (N, height, width, channels); `what` is on the bar."""
    rows, ask = [], inference.predictor(embedding)
    with validation.progress(run.console) as bar:
        task = bar.add_task(f"embedding {what}", total=len(images))
        for batch in np.array_split(images, max(1, len(images) // 64)):
            rows.append(ask(batch))
            bar.advance(task, len(batch))
    return np.concatenate(rows)


def _of_people(labels: Array, most: int, seed: int) -> Array:
    """Rows of people drawn at random, at most so many, sorted; of each an even share, or ENOUGH where that is more."""
    if len(labels) <= most:
        return np.arange(len(labels))
    generator = np.random.default_rng(seed)
    people = generator.permutation(np.unique(labels))
    share = max(most // len(people), min(ENOUGH, most // 2))
    rows: list[int] = []
    for person in people:
        own = generator.permutation(np.flatnonzero(labels == person))[:share].tolist()
        if len(rows) + len(own) <= most:
            rows += own
    return np.array(sorted(rows))
