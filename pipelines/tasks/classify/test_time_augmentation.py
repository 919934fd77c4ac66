"""The crops of a recipe: the images that they are cut from, and what answers for them."""

from functools import partial
from typing import Any

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.ops import test_time_augmentation
from pipelines.data import image_dataset
from pipelines.export import savedmodel
from pipelines.tasks.classify.config import Recipe


def cropped(recipe: Recipe) -> tuple[Shape, savedmodel.Answer]:
    """The shape of the images that crops are cut from, and what answers for them."""
    plan: Any = recipe.evaluate.crops
    shape, size = image_dataset.shape_of(recipe.data), recipe.data.size
    answer = partial(test_time_augmentation.probabilities, size=size, **plan.model_dump())
    return shape._replace(size=test_time_augmentation.frame_size(size, plan.kind)), answer


def count(recipe: Recipe) -> int:
    """How many views of each image are evaluated."""
    plan: Any = recipe.evaluate.crops
    return int(test_time_augmentation.count(plan.kind, mirror=plan.mirror))
