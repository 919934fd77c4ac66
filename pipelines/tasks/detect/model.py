"""What every detector is to the pipeline: a network behind its normalisation, its family's loss, one way to read it.

The family's file knows its targets (`encode`), its `loss` and its candidates (`decode`). What is made of candidates
is a matter of `detection_reader`, and evaluate, predict and the exported graph all go through it.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from cnn_keras.errors import Fault
from pipelines.data import box_dataset
from pipelines.data.schema import Name, Positive, Section
from pipelines.engine import requirement, transfer
from pipelines.export import savedmodel
from pipelines.tasks.detect.decode import Reader, Suppress, TiledReader
from pipelines.tasks.detect.masks import MaskReader, differing

if TYPE_CHECKING:
    import keras

    from pipelines.engine.stages import Run

Share = Annotated[float, Field(ge=0, le=1)]
REGIONS = (
    " Beside each image it is given `proposals`, float32 (P, 4): regions in [0, 1] of the image, left, top, right, "
    "bottom, and rows of zeros as padding; `cnn predict` finds them by selective search."
)
MAPS = (
    " `instances_bytes` is a grey PNG as large as the image: at each pixel the number, from 1, of the detection it "
    "belongs to, or 0."
)
MAPPED = 1e-3  # of the pixels of a map of instances that may differ between the trained and the exported model
COMPARED = 32  # pictures on which the exported model must agree
TAKES = (
    "Images are encoded JPEG or PNG of any size; boxes come back as left, top, right, bottom in pixels of the image as "
    "it was sent. An EXIF orientation is not applied by the graph: send pictures upright, or through `cnn serve`."
)


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    suppress: Suppress = Suppress(threshold=0.01)  # average precision wants the unlikely ones too
    shown: Share = 0.3  # the least score that counts in pictures, in the confusion matrix and the kinds of error
    worst: Positive = 12  # the worst pictures that are drawn
    require: dict[Literal["ap", "ap50", "ap75", "voc_map50", "mask_ap50"], float] = Field(
        default_factory=dict
    )  # metric: the least it must be


class Export(Section):
    """What the exported model is called, what it answers, and how far it may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    suppress: Suppress = Suppress()
    tolerance: Annotated[float, Field(gt=0)] = 0.5  # pixels
    register_model: bool = True  # in MLflow's registry, as candidate


def family(builder: str) -> ModuleType:
    """The file of a detector, which has `encode`, `loss` and `decode` beside its builders."""
    found = importlib.import_module(f"cnn_keras.models.{builder.partition('.')[0]}")
    if missing := [name for name in ("loss", "decode") if not hasattr(found, name)]:
        raise Fault(f"model.builder must be a detector's, such as yolo.yolov3_tiny, got {builder}: no {missing[0]}")
    return found


def knows_masks(builder: str) -> bool:
    """Whether a detector also says which pixels are a thing's."""
    return hasattr(family(builder), "masks")


def check_masks(recipe: Any) -> None:
    """Raise a Fault unless masks are recorded for a detector that learns them, and for no other."""
    knows, builder = knows_masks(recipe.model.builder), recipe.model.builder
    if knows != recipe.data.masks:
        wanted = "true for one that learns masks" if knows else "false for one that does not learn masks"
        raise Fault(f"data.masks must be {wanted}, got {recipe.data.masks} with {builder}")
    if knows and (recipe.data.tile or recipe.train.sides):
        raise Fault(f"data.tile and train.sides must be left out with {builder}, whose masks are of whole pictures")


def assemble(recipe: Any, data: dict[str, Any], *, sides: tuple[int | None, int | None]) -> "keras.Model":
    """The detector of the recipe from pixels: `image`, uint8 (batch, *sides, 3), 0–255, to its raw outputs.

    Anchors are those that prepare found, unless the recipe says otherwise. A family may ask for more inputs.
    """
    import keras

    from cnn_keras import models

    arguments = {"input_shape": (*sides, 3), "classes": len(data["classes"]), **arguments_of(recipe, data)}
    network = models.build(recipe.model.builder, **arguments)
    normalization = _start(network, recipe)
    entries = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in network.inputs
    }
    entries["image"] = keras.Input((*sides, 3), dtype="uint8", name="image")
    rescaled = keras.layers.Normalization(**normalization, name="normalization")
    taken = {**entries, "image": rescaled(entries["image"])}
    outputs = network(taken if len(entries) > 1 else taken["image"])
    return keras.Model(entries if len(entries) > 1 else entries["image"], outputs, name=recipe.name)


def _start(network: "keras.Model", recipe: Any) -> dict[str, Any]:
    """Load the recipe's weights and freeze what is not trained; what pixels must be normalised by.

    `imagenet` are the weights of the backbone; a file holds those of the detector, or Darknet's.
    """
    from cnn_keras.weights import pretrained

    builder, weights, fresh = recipe.model.builder, recipe.model.weights, ()
    normalization: dict[str, Any] = {"axis": None, "mean": 0.0, "variance": 255.0**2}
    if weights == "imagenet":
        fresh = pretrained.load_backbone(network, backbone(recipe))
        normalization = pretrained.normalization(backbone(recipe))
    elif weights:
        fresh = pretrained.load(network, builder, weights)
    transfer.freeze(network, recipe.train.transfer, fresh=fresh)
    return normalization


def shares(recipe: Any, model: "keras.Model") -> list[float] | None:
    """Of the learning rate, what each trainable variable has: all behind the backbone, the less the further inside."""
    from cnn_keras.weights import pretrained

    plan = recipe.train.transfer
    if plan is None or plan.layer_decay is None:
        return None
    fresh = (
        pretrained.besides_backbone(network_of(model), backbone(recipe)) if recipe.model.weights == "imagenet" else ()
    )
    return transfer.shares(model, plan, fresh=fresh)


def backbone(recipe: Any) -> str:
    """The builder on whose published weights the recipe's detector starts.

    Raises:
        Fault: it stands on none of the catalogue.
    """
    from cnn_keras import models

    builder, taken = recipe.model.builder, models.signature(recipe.model.builder).parameters
    if "backbone" not in taken:
        raise Fault(
            f"model.weights must be a file for {builder}, got imagenet, which is for detectors with a backbone of the "
            f"catalogue: yolo.yolo, rcnn.faster_rcnn"
        )
    return str(recipe.model.arguments.get("backbone", taken["backbone"].default))


def arguments_of(recipe: Any, data: dict[str, Any]) -> dict[str, Any]:
    """What the builder is given: the recipe's arguments, and the anchors of the data where it takes some."""
    from cnn_keras import models

    given, taken = dict(recipe.model.arguments), models.signature(recipe.model.builder).parameters
    if "anchors" in taken and data.get("anchors"):
        given.setdefault("anchors", data["anchors"])
    if "anchors_of" in taken and recipe.train.sides:
        given.setdefault("anchors_of", recipe.data.size)
    return given


def network_of(model: "keras.Model") -> "keras.Model":
    """The family's network inside a model that `assemble` made."""
    import keras

    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


def inputs_for(model: "keras.Model", images: Any, boxes: Any = None, proposals: Any = None) -> Any:
    """What the model takes: images alone, or with the true boxes – in training, else none – or with proposals.

    In training, true boxes stand before the proposals, as regions that hold something for sure.
    """
    import tensorflow as tf

    names = {tensor.name for tensor in model.inputs}
    if names == {"image"}:
        return images
    kind = (names - {"image"}).pop()
    parts = [part for part in (boxes, proposals if kind == "proposals" else None) if part is not None]
    return {"image": images, kind: tf.concat(parts, axis=1) if parts else tf.zeros([tf.shape(images)[0], 1, 4])}


def given(model: "keras.Model") -> Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]:
    """A map from batches of {"image", "boxes", "classes", …} to what `fit` takes: the model's inputs, and the truth."""

    def apply(batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        truth: dict[str, Any] = {name: batch[name] for name in ("boxes", "classes", "mask") if name in batch}
        return inputs_for(model, batch["image"], batch["boxes"], batch.get("proposals")), truth

    return apply


def resized(place: Any, batch: dict[str, Any], *, sides: Sequence[int], seed: int) -> dict[str, Any]:
    """The batch with its images at one of the sides, drawn for the `place` of the batch in the training."""
    import tensorflow as tf

    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1], tf.int32), tf.cast(place, tf.int32))
    side = tf.gather(list(sides), tf.random.stateless_uniform([], key, 0, len(sides), tf.int32))
    images = tf.image.resize(batch["image"], tf.stack([side, side]), antialias=True)
    return {**batch, "image": tf.saturate_cast(tf.round(images), tf.uint8)}


def fewer(place: Any, batch: dict[str, Any], *, regions: int, seed: int) -> dict[str, Any]:
    """The batch with so many of its proposals, drawn for the `place` of the batch in the training."""
    import tensorflow as tf

    key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 2], tf.int32), tf.cast(place, tf.int32))
    chance = tf.random.stateless_uniform(tf.shape(batch["proposals"])[:2], key)
    real = tf.reduce_any(batch["proposals"] != 0, axis=-1)  # padding comes last
    _, chosen = tf.math.top_k(chance + tf.cast(real, tf.float32), tf.minimum(regions, tf.shape(chance)[1]))
    return {**batch, "proposals": tf.gather(batch["proposals"], chosen, batch_dims=1)}


def trainable(model: "keras.Model", builder: str, *, size: tuple[int, int]) -> "keras.Model":
    """The same layers as a model whose loss is the family's, each of its terms a metric of the epoch.

    `size` is that of an image on which the names of the terms are found out.
    """
    import keras
    import tensorflow as tf

    kind, network = family(builder), network_of(model)
    nothing, black = tf.zeros([1, 1, 4]), tf.zeros([1, *size, 3], tf.uint8)
    truth = {"boxes": nothing, "classes": tf.zeros([1, 1], tf.int64)}
    truth |= {"mask": tf.zeros([1, *size, 1], tf.uint8)} if knows_masks(builder) else {}
    names = list(kind.loss(network, model(inputs_for(model, black)), **truth))

    class Training(keras.Model):  # type: ignore[misc]  # Keras carries no types
        """Inputs and outputs of the detector; the truth comes as {"boxes", "classes"}, and "mask" if it knows masks."""

        def __init__(self) -> None:
            super().__init__(model.input, model.output, name=model.name)
            self.terms = {name: keras.metrics.Mean(name=f"{name}_loss") for name in names}

        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            terms = kind.loss(network, y_pred, **y)
            for name, term in terms.items():
                self.terms[name].update_state(term)
            return tf.add_n(list(terms.values()))

    return Training()


def trained(run: "Run") -> "keras.Model":
    """The model that the stage train left."""
    return savedmodel.load_keras(run.finished("train") / "model.keras")


def reader(run: "Run", model: "keras.Model", settings: Suppress) -> Reader:
    """What reads the answers of a model of the run, in tiles where it was trained on some."""
    data, shape = run.recipe.data, box_dataset.shape_of(run.recipe.data)
    kind, network = family(run.recipe.model.builder), network_of(model)

    def outputs(images: Any, proposals: Any = None) -> Any:
        return model(inputs_for(model, images, proposals=proposals), training=False)

    def candidates(images: Any, proposals: Any = None) -> Any:
        return kind.decode(network, outputs(images, proposals))

    if knows_masks(run.recipe.model.builder):
        masking = {"candidates": partial(kind.decode, network), "masks": partial(kind.masks, network)}
        return MaskReader(outputs, settings=settings, shape=shape, **masking)
    if data.tile is None:
        return Reader(candidates, settings, shape=shape)
    plan = {"size": data.tile.size, "overlap": data.tile.overlap}
    return TiledReader(candidates, settings, shape=shape, classes=len(run.facts("prepare")["classes"]), **plan)


def write_detector(model: "keras.Model", reader: Reader, folder: Path, *, names: list[str]) -> None:
    """Write the two signatures of a detector.

    `serving_default` takes `image_bytes`, strings (N,); `serving_tensor` takes `image`, uint8 (N, height, width, 3) of
    any height and width. Both give `boxes` float32 (N, limit, 4) – left, top, right, bottom in pixels of the picture as
    it came –, `scores` float32 (N, limit), `class_id` int64 and `label` string (N, limit), and `count` int32 (N,): so
    many of the rows are detections, the best first, and the others are zeros and empty names. A detector that knows
    masks gives `instances_bytes` (N,), too: see `pipelines.tasks.detect.masks`.
    """
    import tensorflow as tf

    labels = tf.constant(names)

    def answer(images: Any, sizes: Any, proposals: Any = None) -> dict[str, Any]:
        (boxes, scores, classes, count), more = reader.answer(images, sizes, proposals)
        real = tf.sequence_mask(count, tf.shape(scores)[1])
        label = tf.where(real, tf.gather(labels, classes), "")
        return {"boxes": boxes, "scores": scores, "class_id": classes, "label": label, "count": count, **more}

    asked = any(tensor.name == "proposals" for tensor in model.inputs)
    savedmodel.write_seer(model, folder, shape=reader.shape, answer=answer, whole=reader.whole, proposals=asked)


def compare_detector(
    reader: Reader,
    folder: Path,
    examples: Iterable[dict[str, Any]],
    requests: list[dict[str, Any]],
    *,
    tolerance: float,
) -> dict[str, Any]:
    """Ask the trained and the exported model about the same pictures; raise a Fault where boxes or names differ.

    `examples` are those of `requests`, one by one: {"image", "extent"} in batches of one.
    """
    import numpy as np
    import tensorflow as tf

    exported = tf.saved_model.load(str(folder)).signatures["serving_default"]
    ask = tf.function(reader.answer, autograph=False, reduce_retracing=True)
    difference, changed, pictures, compared = 0.0, 0, 0, 0
    for example, request in zip(examples, requests, strict=True):
        wanted, more = ask(example["image"], example["extent"], example.get("proposals"))
        got = exported(**{name: tf.constant(value) for name, value in request.items()})
        pictures += 1
        if int(wanted.count[0]) != int(got["count"][0]) or (wanted.classes.numpy() != got["class_id"].numpy()).any():
            changed += 1
            continue
        maps = [differing(value[0].numpy(), got[name][0].numpy()) for name, value in more.items()]
        changed += int(max(maps, default=0.0) > MAPPED)
        compared += int(wanted.count[0])
        difference = max(difference, float(np.abs(wanted.boxes.numpy() - got["boxes"].numpy()).max(initial=0.0)))
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance} pixels, got a largest "
            f"difference of {difference:.2f} and {changed} of {pictures} pictures with other detections",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": pictures, "boxes": compared}


def write_card(
    path: Path, model: "keras.Model", *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a detector."""
    masks = report.get("masks")
    masked = ["", f"Its masks: AP {_figure(masks['ap'])}, AP50 **{_figure(masks['ap50'])}**."] if masks else []
    measured = [
        f"AP **{_figure(report['ap'])}**, AP50 **{_figure(report['ap50'])}**, AP75 {_figure(report['ap75'])} on "
        f"{report['objects']:,} objects in {report['images']:,} images ({report['settings']['decoding']}). It answers "
        f"with {recipe.export.suppress.said}. The exported model's boxes differ from the trained one's by at most "
        f"{agreement['difference']:.1e} pixels: {agreement['boxes']} boxes in {agreement['images']} images.",
        *masked,
        "",
        "| class | AP | AP50 | objects |",
        "|---|---|---|---|",
        *(
            f"| {row['name']} | {_figure(row['ap'])} | {_figure(row['ap50'])} | {row['objects']} |"
            for row in report["classes"]
        ),
    ]
    what = (
        f"`{recipe.model.builder}`, {model.count_params():,} parameters, on `{data['source']}`; the classes are "
        f"{', '.join(data['classes'])}."
    )
    savedmodel.write_card(
        path,
        model,
        recipe=recipe,
        data=data,
        what=what,
        measured=measured,
        takes=TAKES + (REGIONS if recipe.data.proposals else "") + (MAPS if recipe.data.masks else ""),
        input_shape=(*recipe.data.size, 3) if recipe.train.sides else None,
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the detector does not meet."""
    return [
        f"evaluate.require: {metric} must be at least {least}, got {_figure(report.get(metric))}"
        for metric, least in settings.require.items()
        if not requirement.reaches(report.get(metric), least)
    ]
