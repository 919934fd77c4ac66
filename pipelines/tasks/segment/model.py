"""What every segmenter is to the pipeline: a network behind its normalisation, the loss of its pixels, one way to ask.

`Segmenter` makes a class for each pixel of pictures and volumes of any size, and evaluate, predict and the exported
graph all go through it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import models, plugins
from cnn_keras.errors import Fault
from cnn_keras.losses import segmentation
from cnn_keras.ops import sliding_window, test_time_augmentation
from cnn_keras.ops.sliding_window import Patches, Prediction
from cnn_keras.ops.test_time_augmentation import WHOLE, View
from cnn_keras.weights import pretrained
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.segment.config import Data, Loss

LEAST = {"hidden": 1}  # arguments that make a network small enough to be built just to look at it


def check(recipe: Any) -> None:
    """Raise a Fault unless the networks of the recipe can be built and answer for pixels, before any data is read."""
    data: Data = recipe.data
    arguments = {"input_shape": (*data.size, data.channels), "classes": 2, **recipe.model.arguments}
    builder = recipe.model.builder
    for name in (*(network_before.builder for network_before in recipe.train.before), builder):
        models.check(name, **arguments)
    least = {key: value for key, value in LEAST.items() if arguments.get(key, value)}
    least = {key: value for key, value in least.items() if key in models.signature(builder).parameters}
    try:
        network = models.build(builder, **{**arguments, **least})
    except Fault:
        raise
    except (TypeError, ValueError) as error:  # what Keras makes of an argument of the wrong kind
        last = str(error).strip().splitlines()[-1]
        raise Fault(f"model: {builder} must be buildable with {recipe.model.arguments}, got: {last}") from None
    if isinstance(network.output, dict | list) or len(network.output.shape) != data.axes + 2:
        raise Fault(f"model.builder must be a segmentation network, such as unet.unet_small, got {builder}")
    if network.output.shape[1:-1] != data.size and data.fit != "patch":
        output_size = "×".join(map(str, network.output.shape[1:-1]))
        raise Fault(
            f"data.fit must be patch with {builder}, which answers for {output_size} in the middle of a picture"
        )
    keras.utils.clear_session()
    if recipe.model.weights:
        models.check(_weighted(recipe), weights=recipe.model.weights)


def assemble(recipe: Any, data: dict[str, Any], *, builder: str | None = None) -> keras.Model:
    """The network of the recipe from pixels: `image`, uint8 (batch, *size, channels), or `volume`, float32, to logits.

    `builder` is another one than the recipe's, with the same arguments. Weights to start from are the backbone's where
    there is one, and bring their own normalisation.
    """
    shape, classes = (*recipe.data.size, recipe.data.channels), len(data["classes"])
    builder, weights = builder or recipe.model.builder, recipe.model.weights
    network = models.build(builder, input_shape=shape, classes=classes, **recipe.model.arguments)
    normalization = data["normalization"]
    if weights:
        _start(network, recipe)
        normalization = pretrained.normalization(_weighted(recipe), weights) or normalization
    pictures = recipe.data.axes == 2
    entry = keras.Input(shape, dtype="uint8" if pictures else "float32", name="image" if pictures else "volume")
    settings = normalization or {"axis": None, "mean": 0.0, "variance": 1.0}  # of what is standardised already
    normalized = keras.layers.Normalization(**settings, name="normalization")(entry)
    return keras.Model(entry, network(normalized), name=recipe.name)


def network_of(model: keras.Model) -> keras.Model:
    """The network inside a model that `assemble` made."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def hand_over(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy the weights of every layer that has its like, by name and shapes, in the source; return the other layers."""
    known = {layer.name: layer for layer in source.layers if layer.weights}
    fresh = []
    for layer in (layer for layer in target.layers if layer.weights):
        weights = known[layer.name].get_weights() if layer.name in known else []
        dense = isinstance(known.get(layer.name), keras.layers.Dense) and hasattr(layer, "kernel_size")
        if dense and weights[0].size == math.prod(layer.kernel.shape):
            weights[0] = weights[0].reshape(
                layer.kernel.shape
            )  # what was dense over a map, is a convolution of its size
        if [values.shape for values in weights] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(weights)
        else:
            fresh.append(layer.name)
    return fresh


def trainable(model: keras.Model, settings: Loss, *, pixels: dict[str, int]) -> keras.Model:
    """The same layers as a model of pictures to masks, whose loss is the recipe's; its terms and mean IoU are metrics.

    `pixels` are those of each class in the training split.
    """
    weights: Any = settings.class_weights
    if weights == "balanced":
        weights = segmentation.balanced_weights(list(pixels.values()))
    elif weights and len(weights) != len(pixels):
        raise Fault(f"train.loss.class_weights must be {len(pixels)} numbers, one for each class, got {len(weights)}")
    own = plugins.load(settings.own) if settings.own else None
    balance = {"class_weights": None if weights is None else np.asarray(weights, np.float32)}

    def terms(labels: Any, logits: Any, ground: Any) -> dict[str, Any]:
        counted, losses = {**balance, "pixel_weights": ground}, {}
        if settings.cross_entropy:
            losses["cross_entropy"] = segmentation.cross_entropy(labels, logits, **counted)
        if settings.dice:
            losses["dice"] = segmentation.dice(labels, logits)
        if settings.focal:
            losses["focal"] = segmentation.focal(labels, logits, gamma=settings.gamma, **counted)
        if own:
            losses["own"] = tf.reduce_mean(own(labels, logits))
        return losses

    class Training(keras.Model):
        """Inputs and outputs of the segmenter; the truth is a mask as it is recorded."""

        def __init__(self) -> None:
            super().__init__(model.input, model.output, name=model.name)
            names = [name for name in ("cross_entropy", "dice", "focal", "own") if getattr(settings, name)]
            self.terms = {name: keras.metrics.Mean(name=f"{name}_loss") for name in names}
            self.overlap = keras.metrics.MeanIoU(
                len(pixels), name="mean_iou", ignore_class=-1, sparse_y_pred=False, axis=-1
            )

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            mask = tf.cast(_middle(y, y_pred.shape[1:-1]), tf.int32)
            labels = mask[..., 0] - 1
            ground = None
            if mask.shape[-1] > 1:
                ground = 1 + settings.borders / 255 * tf.cast(mask[..., 1], tf.float32)
            losses = terms(labels, y_pred, ground)
            for name, term in losses.items():
                self.terms[name].update_state(term)
            self.overlap.update_state(labels, y_pred)
            weights = {**settings.model_dump(), "own": 1.0}
            return tf.add_n([weights[name] * term for name, term in losses.items()])

    return Training()


def model_inputs(batch: dict[str, Any]) -> tuple[Any, Any]:
    """The parts of a batch that `fit` takes: the model's input, and the truth."""
    return batch["image"], batch["mask"]


def load_trained(run: Run, path: str = "model.keras") -> keras.Model:
    """Load a model that the stage train wrote."""
    return savedmodel.load_keras(run.finished("train") / path)


def patches_of(model: keras.Model, data: Data) -> Patches:
    """What the network sees at once, and what it answers for."""
    return Patches(tuple(data.size), tuple(model.output.shape[1:-1]), data.overlap)


def exported_segmenter(run: Run) -> "Segmenter":
    """What is exported: of the trained model, with the views of `evaluate.crops` where `export.crops` wants them."""
    recipe = run.recipe
    plan = recipe.evaluate.crops.model_dump() if recipe.export.crops else None
    views = test_time_augmentation.whole_views(**plan) if plan else [WHOLE]
    return Segmenter(load_trained(run), recipe.data, views=views)


class Segmenter:
    """Says of each pixel of a picture or volume of any size what it shows.

    The probabilities are the mean of those of several `views` of what the network sees.
    """

    def __init__(self, model: keras.Model, data: Data, *, views: Sequence[View] = (WHOLE,)) -> None:
        self.model, self.data, self.views = model, data, views
        self.patches = patches_of(model, data)

    def __call__(self, image: tf.Tensor) -> Prediction:
        """The class of each pixel.

        Args:
            image: uint8 (height, width, channels), or float32 (depth, height, width, channels).
        """
        if self.data.fit != "patch":
            return sliding_window.predict_whole(self.probabilities, image, self.data.size, fit=self.data.fit)
        if self.data.normalize == "each":
            mean, variance = tf.nn.moments(image, list(range(self.data.axes)))
            image = (image - mean) / tf.where(variance > 0, tf.sqrt(variance), 1.0)
        return sliding_window.predict_patches(self.probabilities, image, self.patches)

    def asked(self) -> Callable[[Any], Prediction]:
        """The same, compiled once for images of any size."""
        sizes = [None] * self.data.axes
        spec = tf.TensorSpec([*sizes, self.data.channels], self.model.input.dtype)
        ask: Callable[[Any], Prediction] = tf.function(self, input_signature=[spec], autograph=False)
        return ask

    def probabilities(self, batch: Any) -> Any:
        """Those of framed pictures or of patches, (batch, *sizes, channels): float32 (batch, *answered, classes)."""
        views = [view.maps_back(self._seen(view.picture(batch))) for view in self.views]
        return tf.add_n(views) / len(views)

    def _seen(self, batch: Any) -> Any:
        return tf.nn.softmax(tf.cast(self.model(batch, training=False), tf.float32))


def _weighted(recipe: Any) -> str:
    """The builder that given weights are for: the backbone, or where there is none the network itself."""
    parameters = models.signature(recipe.model.builder).parameters
    backbone = recipe.model.arguments.get(
        "backbone", parameters["backbone"].default if "backbone" in parameters else None
    )
    return str(backbone or recipe.model.builder)


def _start(network: keras.Model, recipe: Any) -> None:
    """Give a network the weights that its recipe names; those of a backbone are read into the whole backbone first."""
    builder = _weighted(recipe)
    if builder == recipe.model.builder:
        pretrained.load(network, builder, recipe.model.weights)
        return
    parameters = models.signature(builder).parameters
    sized = {"hidden": recipe.model.arguments.get("hidden") or 1} if "hidden" in parameters else {}
    hand_over(models.build(builder, weights=recipe.model.weights, **sized), network)


def _middle(mask: Any, sizes: Sequence[int]) -> Any:
    """The part of a batch of masks that a network without padding answers for."""
    for axis, size in enumerate(sizes, start=1):
        edge = (mask.shape[axis] - size) // 2
        mask = mask[(slice(None),) * axis + (slice(edge, edge + size),)]
    return mask
