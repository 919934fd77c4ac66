"""The crops of a recipe: the images that they are cut from, and what answers for them."""

from functools import partial
from typing import Any, NamedTuple

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.ops import test_time_augmentation
from pipelines.data import image_dataset
from pipelines.engine.classification import dropout_samples, label_kind
from pipelines.export import savedmodel
from pipelines.tasks.classify.config import Recipe


class Exported(NamedTuple):
    """What an exported network answers about.

    Attributes:
        shape: of the images that it takes.
        answer: the model and a batch of them to probabilities.
        looks: of the model at each image.
        takes: what a card says of the input.
    """

    shape: Shape
    answer: savedmodel.Answer
    looks: int
    takes: str


def exported(recipe: Recipe) -> Exported:
    """The whole image, or with `export.crops` the crops of `evaluate.crops`."""
    if not recipe.export.crops:
        shape, kind = image_dataset.shape_of(recipe.data), label_kind.of(recipe)
        if kind is label_kind.MULTI:
            return Exported(shape, kind.probabilities, 1, savedmodel.IMAGES)
        return Exported(
            shape, dropout_samples.exported_answer(recipe), dropout_samples.looks(recipe), savedmodel.IMAGES
        )
    shape, answer = cropped(recipe)
    looks = count(recipe)
    sentence = f" The graph averages its predictions for {looks} crops of images of {shape.size}."
    return Exported(shape, answer, looks, savedmodel.IMAGES + sentence)


def cropped(recipe: Recipe) -> tuple[Shape, savedmodel.Answer]:
    """The shape of the images that crops are cut from, and what answers for them."""
    plan: Any = recipe.evaluate.crops
    shape, size = image_dataset.shape_of(recipe.data), recipe.data.size
    activation = label_kind.of(recipe).activation
    answer = partial(test_time_augmentation.probabilities, size=size, activation=activation, **plan.model_dump())
    return shape._replace(size=test_time_augmentation.frame_size(size, plan.kind)), answer


def count(recipe: Recipe) -> int:
    """How many views of each image are evaluated."""
    plan: Any = recipe.evaluate.crops
    return int(test_time_augmentation.count(plan.kind, mirror=plan.mirror))
