"""The network that paints in one pass: assembled, trained on a style's loss, asked.

Johnson, Alahi and Fei-Fei, 2016, for one style; Dumoulin, Shlens and Kudlur, 2017, for several, of which every training
picture is shown one. The exported model takes pictures of any size and gives back the same size.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import models
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.losses.style import Objective, Style
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset, feature_extractor
from pipelines.tasks.stylize.config import Recipe

TERMS = ("content", "style", "variation", "histogram")


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    feature_extractor.check(recipe.train.loss)
    if recipe.model is None:
        return
    composed = augment.compose(recipe.augment, size=(recipe.data.window, recipe.data.window))
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix images for style transfer")
    parameters = models.signature(recipe.model.builder).parameters
    if "styles" not in parameters:
        raise Fault(
            f"model.builder must be a transformation network, such as stylize.transformer, got {recipe.model.builder}"
        )
    arguments = {"input_shape": (64, 64, 3), "styles": len(recipe.data.styles), **recipe.model.arguments}
    models.check(recipe.model.builder, weights=recipe.model.weights, **arguments)


def assemble(recipe: Recipe) -> keras.Model:
    """The network of the recipe from pixels.

    `image`, uint8 (batch, height, width, 3), RGB 0–255, of any size, and where there are several styles `style`,
    float32 (batch, styles), to `painting`, float32 (batch, height, width, 3), 0–255.
    """
    assert recipe.model is not None  # the recipe of a network has one
    count = len(recipe.data.styles)
    arguments = {"input_shape": (None, None, 3), "styles": count, **recipe.model.arguments}
    network = models.build(recipe.model.builder, weights=recipe.model.weights, **arguments)
    image = keras.Input((None, None, 3), dtype="uint8", name="image")
    floats = keras.layers.Rescaling(1.0, name="floats")(image)
    if count == 1:
        return keras.Model(image, network(floats), name=recipe.name)
    style = keras.Input((count,), name="style")
    return keras.Model({"image": image, "style": style}, network([floats, style]), name=recipe.name)


def trainable(model: keras.Model, objective: Objective, style_targets: Sequence[Style]) -> keras.Model:
    """The same layers as a model whose loss is J, each of its terms a metric of the epoch; the truth is the picture."""
    tables = [
        {
            layer: tf.concat([getattr(style, kind)[layer] for style in style_targets], axis=0)
            for layer in getattr(style_targets[0], kind)
        }
        for kind in ("grams", "quantiles")
    ]
    weights = objective.weights._asdict()

    class Training(keras.Model):
        """Inputs and outputs of the network."""

        def __init__(self) -> None:
            super().__init__(model.input, model.output, name=model.name)
            self.terms = {name: keras.metrics.Mean(name=name) for name in TERMS if weights[name]}

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            shares = x["style"] if isinstance(x, dict) else tf.ones([tf.shape(y)[0], 1])
            grams, spread = ({layer: tf.tensordot(shares, table[layer], 1) for layer in table} for table in tables)
            content_targets = objective.content_of(tf.cast(y, tf.float32))
            terms = objective.terms(tf.cast(y_pred, tf.float32), content_targets, Style(grams, spread))
            for name, term in terms.items():
                self.terms[name].update_state(term)
            return tf.reduce_mean(tf.add_n(list(terms.values())))

    return Training()


def styles_of(objective: Objective, prepared: Path) -> list[Style]:
    """The styles as the objective sees them."""
    return [objective.style_of(style.pixels[None].astype(np.float32)) for style in dataset.styles(prepared)]


def load_trained(run: Run) -> keras.Model:
    """Load the model that the stage train wrote."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def painter(model: keras.Model, styles: int) -> Callable[[Array, int], Array]:
    """What paints a picture, uint8 (height, width, 3), of any size in one of the styles: uint8 of the same shape."""

    @tf.function(
        input_signature=[tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int32)], autograph=False
    )
    def painting(picture: Any, style: Any) -> Any:
        inputs = {"image": picture[None], "style": tf.one_hot([style], styles)} if styles > 1 else picture[None]
        return tf.saturate_cast(tf.round(tf.cast(model(inputs, training=False)[0], tf.float32)), tf.uint8)

    return lambda picture, style: painting(tf.constant(picture), tf.constant(style)).numpy()
