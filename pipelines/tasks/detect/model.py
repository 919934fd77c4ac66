"""What every detector is to the pipeline: a network behind its normalisation, its family's loss, one way to read it.

The family's file knows its targets (`encode`), its `loss` and its candidates (`decode`). What is made of candidates
is a matter of `reader`, and evaluate, predict and the exported graph all go through it.
"""

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf

from cnn_keras import models
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import backbone_weights
from cnn_keras.ops import test_time_augmentation
from cnn_keras.ops.test_time_augmentation import WHOLE, View
from cnn_keras.weights import pretrained
from pipelines.data.boxes import box_dataset
from pipelines.engine.stages import Run
from pipelines.engine.training import transfer
from pipelines.export import savedmodel
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader, TiledReader
from pipelines.tasks.detect.masks import MaskReader


def family(builder: str) -> ModuleType:
    """The file of a detector, which has `encode`, `loss` and `decode` beside its builders."""
    module: ModuleType = models.family(builder)
    if missing := [name for name in ("loss", "decode") if not hasattr(module, name)]:
        raise Fault(f"model.builder must be a detector, such as yolo.yolov3_tiny, got {builder}: no {missing[0]}")
    return module


def knows_masks(builder: str) -> bool:
    """Whether a detector also says which pixels are a thing's."""
    return hasattr(family(builder), "masks")


def check(recipe: Any) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    builder = recipe.model.builder
    arguments = {"input_shape": (*recipe.data.size, 3), "classes": 2, **recipe.model.arguments}
    if recipe.model.weights == "imagenet":
        pretrained.check(backbone(recipe), "imagenet")
    models.check(builder, weights=None if recipe.model.weights == "imagenet" else recipe.model.weights, **arguments)
    check_masks(recipe)
    inputs = {tensor.name for tensor in models.build(builder, **arguments).inputs}
    if ("proposals" in inputs) != (recipe.data.proposals is not None):
        expectation = "say how regions are searched for, as in {}," if "proposals" in inputs else "be null"
        raise Fault(f"data.proposals must {expectation} with model.builder {builder}, got {recipe.data.proposals}")


def check_masks(recipe: Any) -> None:
    """Raise a Fault unless masks are recorded for a detector that learns them, and for no other."""
    knows, builder = knows_masks(recipe.model.builder), recipe.model.builder
    if knows != recipe.data.masks:
        expectation = "true for a network with masks" if knows else "false for a network without masks"
        raise Fault(f"data.masks must be {expectation}, got {recipe.data.masks} with {builder}")
    if knows and (recipe.data.tile or recipe.train.sides):
        raise Fault(f"data.tile and train.sides must be left out with {builder}, whose masks are of whole pictures")


def assemble(recipe: Any, data: dict[str, Any], *, sides: tuple[int | None, int | None]) -> keras.Model:
    """The detector of the recipe from pixels: `image`, uint8 (batch, *sides, 3), 0–255, to its raw outputs.

    Anchors are those that prepare found, unless the recipe says otherwise. A family may ask for more inputs.
    """
    arguments = {"input_shape": (*sides, 3), "classes": len(data["classes"]), **arguments_of(recipe, data)}
    network = models.build(recipe.model.builder, **arguments)
    normalization = _start(network, recipe)
    entries = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs
    }
    entries["image"] = keras.Input((*sides, 3), dtype="uint8", name="image")
    rescaled = keras.layers.Normalization(**normalization, name="normalization")
    inputs = {**entries, "image": rescaled(entries["image"])}
    outputs = network(inputs if len(entries) > 1 else inputs["image"])
    return keras.Model(entries if len(entries) > 1 else entries["image"], outputs, name=recipe.name)


def _start(network: keras.Model, recipe: Any) -> dict[str, Any]:
    """Load the recipe's weights and freeze what is not trained; what pixels must be normalised by.

    `imagenet` are the weights of the backbone; `coco`, or a file, are those of the detector, whose last layers count as
    fresh: they are trained in any case.
    """
    builder, weights = recipe.model.builder, recipe.model.weights
    fresh: tuple[str, ...] = ()
    normalization: dict[str, Any] = {"axis": None, "mean": 0.0, "variance": 255.0**2}
    if weights == "imagenet":
        fresh = backbone_weights.load_backbone(network, backbone(recipe))
        normalization = pretrained.normalization(backbone(recipe)) or normalization
    elif weights:
        fresh = pretrained.load(network, builder, weights) + _last_layers(network)
    transfer.freeze(network, recipe.train.transfer, fresh=fresh)
    return normalization


def _last_layers(network: keras.Model) -> tuple[str, ...]:
    """The names of the layers with weights that the outputs come from, but for what only shapes them anew."""
    ends = [tensor._keras_history.operation for tensor in network.outputs]
    for place, layer in enumerate(ends):
        while not layer.weights and isinstance(layer.input, keras.KerasTensor):
            layer = layer.input._keras_history.operation
        ends[place] = layer
    return tuple(layer.name for layer in ends if layer.weights)


def shares(recipe: Any, model: keras.Model) -> list[float] | None:
    """Of the learning rate, what each trainable variable has: all that is fresh, the less the further inside."""
    plan, network = recipe.train.transfer, network_of(model)
    if plan is None or plan.layer_decay is None:
        return None
    fresh = _last_layers(network)
    if recipe.model.weights == "imagenet":
        fresh = backbone_weights.besides_backbone(network, backbone(recipe))
    return transfer.shares(model, plan, fresh=fresh)


def backbone(recipe: Any) -> str:
    """The builder on whose published weights the recipe's detector starts.

    Raises:
        Fault: it stands on none of the catalogue.
    """
    builder, parameters = recipe.model.builder, models.signature(recipe.model.builder).parameters
    if "backbone" not in parameters:
        raise Fault(
            f"model.weights must be a file for {builder}, got imagenet, which is for detectors with a backbone of the "
            f"catalogue: yolo.yolo, rcnn.faster_rcnn; coco is for centernet.centernet, yolo.yolov3 and yolo.yolov3_tiny"
        )
    return str(recipe.model.arguments.get("backbone", parameters["backbone"].default))


def arguments_of(recipe: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What the builder is given: the recipe's arguments, and the anchors of the data where it takes some."""
    arguments, parameters = dict(recipe.model.arguments), models.signature(recipe.model.builder).parameters
    if "anchors" in parameters and data.get("anchors"):
        arguments.setdefault("anchors", data["anchors"])
    if "anchors_of" in parameters and recipe.train.sides:
        arguments.setdefault("anchors_of", recipe.data.size)
    return arguments


def network_of(model: keras.Model) -> keras.Model:
    """The family's network inside a model that `assemble` made."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def inputs_for(model: keras.Model, images: Any, boxes: Any = None, proposals: Any = None) -> Any:
    """What the model takes: images alone, or with the true boxes – in training, else none – or with proposals.

    In training, true boxes stand before the proposals, as regions that hold something for sure.
    """
    names = {tensor.name for tensor in model.inputs}
    if names == {"image"}:
        return images
    kind = (names - {"image"}).pop()
    parts = [part for part in (boxes, proposals if kind == "proposals" else None) if part is not None]
    return {"image": images, kind: tf.concat(parts, axis=1) if parts else tf.zeros([tf.shape(images)[0], 1, 4])}


def load_trained(run: Run) -> keras.Model:
    """Load the model that the stage train wrote."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def exported_reader(run: Run, model: keras.Model) -> Reader:
    """What is exported: the answers to one view or, where `export.crops` wants it, to those of `evaluate.crops`."""
    recipe = run.recipe
    settings = recipe.export.suppress
    return crops_reader(run, model, settings) if recipe.export.crops else make_reader(run, model, settings)


def crops_reader(run: Run, model: keras.Model, settings: Suppress) -> Reader:
    """What reads the answers to the views of `evaluate.crops`."""
    views = test_time_augmentation.whole_views(**run.recipe.evaluate.crops.model_dump())
    # What is found twice is one thing: the soft penalty would leave both.
    return make_reader(run, model, settings.model_copy(update={"soft": None}), views=views)


def make_reader(run: Run, model: keras.Model, settings: Suppress, *, views: Sequence[View] = (WHOLE,)) -> Reader:
    """What reads the answers of a model of the run, to each picture or to several views of it, in tiles where it was
    trained on some.
    """
    data, shape = run.recipe.data, box_dataset.shape_of(run.recipe.data)
    kind, network = family(run.recipe.model.builder), network_of(model)

    def outputs(images: Any, proposals: Any = None) -> Any:
        return model(inputs_for(model, images, proposals=proposals), training=False)

    def candidates(images: Any, proposals: Any = None) -> Any:
        return kind.decode(network, outputs(images, proposals))

    if knows_masks(run.recipe.model.builder):
        masking = {"candidates": partial(kind.decode, network), "masks": partial(kind.masks, network)}
        return MaskReader(outputs, settings=settings, shape=shape, views=views, **masking)
    if data.tile is None:
        return Reader(candidates, settings, shape=shape, views=views)
    plan = {"size": data.tile.size, "overlap": data.tile.overlap, "views": views}
    return TiledReader(candidates, settings, shape=shape, classes=len(run.facts("prepare")["classes"]), **plan)
