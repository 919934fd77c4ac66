"""The network of classification."""

from pathlib import Path
from typing import Any

import keras

from cnn_keras.data.transforms import augment
from pipelines.engine.classification import classifier
from pipelines.tasks.classify.config import Recipe


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    classifier.check(recipe, (*recipe.data.size, recipe.data.channels), cacheable=True)


def assemble(recipe: Recipe, data: dict[str, Any], prepared: Path | None = None) -> keras.Model:
    """The network of the recipe behind its normalisation: uint8 (height, width, channels), 0–255, to logits."""
    return classifier.assemble(recipe, data, shape=(*recipe.data.size, recipe.data.channels), prepared=prepared)
