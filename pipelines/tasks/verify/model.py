"""What turns pictures of people into embeddings: the network, its training, and the SavedModel that serves it.

The model is any network of the catalogue with its logits brought to length 1; what compares two embeddings – their
squared distance or a trained head – is a second, small model, `matcher.keras`. Whoever stores embeddings, such as a
gallery, needs these two and the threshold of `verification.json`, and nothing of how they were trained.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.data.schema import Fraction, Name, Positive, Section
from pipelines.engine import recipe as recipes
from pipelines.engine import requirement
from pipelines.export import savedmodel
from pipelines.tasks.verify import dataset

if TYPE_CHECKING:
    import keras
    import numpy as np

    from cnn_keras.data.input_pipeline import Shape
    from cnn_keras.data.transforms.face_alignment import Landmarks
    from pipelines.engine.stages import Run
    from pipelines.engine.trainer import Row

COMPARED = 256  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside the model
# What an answer is given with: the threshold, what was measured on people never seen, and what is sure by how many.
RATES = ("threshold", "false_accept_rate", "false_reject_rate", "false_accept_bound", "calibration_people")
FACTS = Path("assets.extra") / "verification.json"  # beside an exported model: threshold, rates, digest
MODELS = ("model", "matcher")
COLLAPSED = 0.01  # a spread of embeddings below this is called a collapse,
PATIENCE = 5  # and after so many epochs of it in a row the training is stopped

Share = Annotated[float, Field(gt=0, lt=1)]
Metric = Literal["auc", "tar", "rank_1", "accuracy"]


class Tap(Section):
    """A layer of the network whose maps, every place by itself, become the embedding: ArcFace's head (its option E)."""

    layer: str  # such as stage4
    dropout: Fraction = 0.4  # share of the values dropped in training


class Model(recipes.Model):
    """Which network, and what is made of its logits."""

    dimension: Positive = 128  # of the embedding: the network's `classes`
    tap: Tap | None = None  # instead of all that stands behind a layer
    frozen: bool = False  # the network stays as its weights have it, and only the last layers are trained
    standardised: bool = False  # every picture is first given the mean 0 and the variance 1, whatever its light
    mirrored: bool = False  # the embedding is the mean of the picture's and its mirror image's; twice the time


class Train(recipes.Train):
    """How the weights are found: a batch holds `each` pictures of batch_size / each people."""

    batch_size: Positive = 60  # pictures of one step
    each: Annotated[int, Field(ge=2)] = 4  # pictures of each person in a batch
    steps: Positive | None = None  # batches of an epoch; as many as show every picture once unless given
    loss: Literal["triplet", "contrastive", "siamese", "arcface", "none"] = "triplet"  # none: the weights as given
    mining: Literal["random", "semi-hard", "hard"] = "semi-hard"  # of triplets
    margin: Annotated[float, Field(gt=0)] | None = None  # of triplets .2, contrastive 1, arcface .3 unless given
    scale: Annotated[float, Field(gt=0)] = 16.0  # of arcface's logits
    head: Literal["absolute", "chi-squared"] = "absolute"  # of siamese
    monitor: Literal["val_loss", "val_auc"] = "val_auc"  # type: ignore[assignment]  # no accuracy here

    @model_validator(mode="after")
    def _is_of_embeddings(self) -> Self:
        for key in ("transfer", "ensemble", "class_weights", "focal_gamma", "label_smoothing"):
            if getattr(self, key):
                raise ValueError(f"{key} is for classification; this task's losses are triplet, contrastive, siamese …")
        if self.batch_size % self.each or self.batch_size < 2 * self.each:
            raise ValueError(
                f"batch_size must be a multiple of each ({self.each}), of two people or more, got {self.batch_size}"
            )
        return self

    @property
    def kept_margin(self) -> float:
        return self.margin or {"contrastive": 1.0, "arcface": 0.3}.get(self.loss, 0.2)


class Evaluate(Section):
    """What is measured, and what must hold before the model is exported."""

    far: Share = 0.01  # the false-accept rate that the threshold is to keep, by a bound over the calibration people
    draws: Positive = 500  # of the bootstrap over identities
    pictures: Annotated[int, Field(ge=10)] = 3000  # of more, so many are compared, drawn at random from people drawn
    worst: Positive = 12  # the hardest pairs that are drawn, of each kind
    baselines: bool = True  # measure raw pixels and eigenfaces on the same pictures
    require: dict[Metric, float] = Field(default_factory=dict)  # metric: the least it must be
    error_below: Share | None = None  # what the equal error rate may be at most


class Export(Section):
    """What the exported model is called and how far its embeddings may stray from the trained one's."""

    name: Name | None = None  # the run's name unless given
    tolerance: Annotated[float, Field(gt=0)] = 1e-4  # the largest difference in an embedding
    register_model: bool = True  # in MLflow's registry, as candidate


def assemble(recipe: Any, data: Mapping[str, Any], *, loaded: bool = True) -> "keras.Model":
    """The network of the recipe from pixels, uint8 (height, width, channels), 0–255, to its logits.

    Unless `loaded`, it starts from chance whatever the recipe says, to see whether it can be built.
    """
    import keras

    from cnn_keras import models
    from cnn_keras.models import siamese
    from cnn_keras.weights import pretrained

    builder, weights, shape = recipe.model.builder, recipe.model.weights, (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": recipe.model.dimension, **recipe.model.arguments}
    models.check(builder, weights=weights, **arguments)
    network = models.build(builder, **arguments)
    if weights and loaded:
        pretrained.load(network, builder, weights)
    if recipe.model.frozen:
        for layer in network.layers[:-1]:
            layer.trainable = False  # normalisation too: it then runs as in inference
    if tap := recipe.model.tap:
        network = siamese.arcface_head(network, tap.layer, dimension=recipe.model.dimension, dropout=tap.dropout)
    entry = keras.Input(shape, dtype="uint8", name="image")
    normalization = (weights and pretrained.normalization(builder, weights)) or data["normalization"]
    x = keras.layers.Normalization(**normalization, name="normalization")(entry)
    if recipe.model.standardised:
        x = keras.layers.GroupNormalization(1, center=False, scale=False, name="standardised")(x)
    logits = network(x)
    if isinstance(logits, dict):
        raise Fault(f"model.builder must be a network with one output, got {builder} with {', '.join(logits)}")
    return keras.Model(entry, logits, name=recipe.name)


def trainable(network: "keras.Model", settings: Train, identities: int) -> "keras.Model":
    """The network's embedding as a model whose loss is the recipe's; see `cnn_keras.embedding.Training`."""
    from cnn_keras import embedding
    from cnn_keras.models import siamese

    return embedding.Training(
        siamese.embedding(network),
        settings.loss,
        identities=identities,
        margin=settings.kept_margin,
        mining=settings.mining,
        scale=settings.scale,
        comparison=settings.head,
    )


def watching(run: "Run") -> "Callable[[int, Row], None]":
    """What is told of every epoch: MLflow, and the user where the embeddings fall together.

    Raises:
        Fault: they have been together for several epochs (code DIVERGED).
    """
    settings: Train = run.recipe.train
    collapsed = 0

    def on_epoch(number: int, row: "Row") -> None:
        nonlocal collapsed
        run.on_epoch(number, row)
        collapsed = collapsed + 1 if row["spread"] < COLLAPSED else 0
        if collapsed == 1:
            run.console.print(f"          [yellow]{explained(row, settings)}[/]")
        if collapsed == PATIENCE:
            raise Fault(
                f"training collapsed for {PATIENCE} epochs, up to epoch {number}: {explained(row, settings)}",
                code=Fault.DIVERGED,
            )

    return on_epoch


def explained(row: "Row", settings: Train) -> str:
    """Why a training whose embeddings are all the same does not move, and what to do."""
    stands = f", and the loss stands at the margin, {settings.kept_margin:g}" if settings.loss == "triplet" else ""
    hard = settings.loss == "triplet" and settings.mining == "hard"
    other = "train.mining: semi-hard or random" if hard else "train.loss: arcface"
    return (
        f"all pictures get nearly the same embedding: their spread is {row['spread']:.4f} of 1{stands}. Take {other}, "
        f"a lower train.learning_rate (now {settings.learning_rate:g}) or train.warmup_epochs, and start again."
    )


def trained(run: "Run") -> "tuple[keras.Model, keras.Model]":
    """The two models that the stage train left: pictures to embeddings, and two embeddings to their distance."""
    folder = run.finished("train")
    embedding, matcher = (savedmodel.load_keras(folder / f"{name}.keras") for name in MODELS)
    return embedding, matcher


def distances(matcher: "keras.Model", left: "np.ndarray[Any, Any]", right: "np.ndarray[Any, Any]") -> Any:
    """The distance of every left embedding, float32 (N, dimension), to every right one, (M, dimension): (N, M)."""
    import numpy as np

    from cnn_keras import inference

    ask, columns = inference.compiled(matcher), len(right)
    rows = []
    for own in np.array_split(left, max(1, len(left) * columns // 2**18)):
        pairs = {"left": np.repeat(own, columns, axis=0), "right": np.tile(right, (len(own), 1))}
        rows.append(np.asarray(ask(pairs)).reshape(len(own), columns))
    return np.concatenate(rows)


def facts(run: "Run", report: Mapping[str, Any]) -> dict[str, Any]:
    """What whoever stores embeddings must know of the model: its threshold and rates, and what tells it from others.

    `model` is the digest of all that an embedding depends on; `false_accept_bounds` and `false_rejects` are the tables
    of thresholds and rates for `verification.threshold_for` and `rejects_at`, `least_far` is the least rate that the
    people of the calibration can show; `head` says whether `match` is more than the
    squared distance, `align` what is to be done to a picture before it is sent, null where the graph does it.
    """
    recipe, data, calibration = run.recipe, run.facts("prepare"), report["calibration"]
    align, weights = recipe.data.align, run.facts("train")["digest"]
    sight = [data["normalization"], recipe.data.size, recipe.data.channels, recipe.data.fit]
    if align:
        sight += [align.by, dataset.files_of(align)]
    sight += [recipe.model.model_dump(mode="json", exclude={"weights"})]
    return {
        **{name: calibration[name] for name in RATES},
        "far": recipe.evaluate.far,
        "dimension": recipe.model.dimension,
        "model": run_files.digest([weights, *sight]),
        "weights": weights,
        "head": recipe.train.loss == "siamese",
        "align": align.by if align and align.by != "landmarks" else None,
        "size": recipe.data.size,
        **{name: calibration[name] for name in ("false_accept_bounds", "false_rejects", "least_far", "confidence")},
        "calibration_pairs": calibration["calibration_pairs"],
    }


def write_embedder(
    embedding: "keras.Model",
    matcher: "keras.Model",
    folder: Path,
    *,
    shape: "Shape",
    rates: Mapping[str, float],
    landmarks: "Landmarks | None" = None,
) -> None:
    """Write the signatures of an embedding; with `landmarks`, faces of encoded pictures are aligned inside the graph.

    `embed`, which is `serving_default`, takes `image_bytes`, strings (N,), and `serving_tensor` takes `image`, uint8
    (N, height, width, channels); both give `embedding`, float32 (N, dimension), of length 1. `verify` takes
    `left_image_bytes` and `right_image_bytes`, strings (N,), and gives `distance` float32 (N,), `same` bool (N,), and,
    the same in every row, `threshold` with its measured `false_accept_rate` and `false_reject_rate`, the
    `false_accept_bound` that is sure and the number of `calibration_people`, int32, it rests on. `match` takes
    `left` and `right`, float32 (N, dimension), for whoever has embeddings already, and gives `distance`.
    """
    import tensorflow as tf

    from cnn_keras.data.image_file import decode
    from cnn_keras.data.transforms.face_alignment import align_face
    from cnn_keras.ops.resize import resize_image

    image = tf.TensorSpec((*shape.size, shape.channels), tf.uint8)

    def framed(image_bytes: Any) -> Any:
        picture = decode(image_bytes, channels=shape.channels)
        if landmarks is None:
            return resize_image(picture, shape.size, fit=shape.fit)
        eyes, found = landmarks.find(picture)
        aligned = partial(align_face, picture, eyes, size=shape.size)
        return tf.cond(found, aligned, partial(resize_image, picture, shape.size, fit=shape.fit))

    def vectors(image: Any) -> Any:
        return tf.cast(embedding(image, training=False), tf.float32)

    def read(image_bytes: Any) -> Any:
        return vectors(tf.map_fn(framed, image_bytes, fn_output_signature=image))

    def verify(left_image_bytes: Any, right_image_bytes: Any) -> dict[str, Any]:
        pair = {"left": read(left_image_bytes), "right": read(right_image_bytes)}
        distance = matcher(pair, training=False)
        kinds = {name: tf.int32 if isinstance(value, int) else tf.float32 for name, value in rates.items()}
        told = {name: tf.fill(tf.shape(distance), tf.constant(rates[name], kind)) for name, kind in kinds.items()}
        return {"distance": distance, "same": distance <= told["threshold"], **told}

    strings = {
        name: tf.TensorSpec((None,), tf.string, name=name)
        for name in ("image_bytes", "left_image_bytes", "right_image_bytes")
    }
    tensor = tf.TensorSpec((None, *image.shape), tf.uint8, name="image")
    sides = [tf.TensorSpec((None, embedding.output.shape[-1]), tf.float32, name=side) for side in ("left", "right")]
    embed = (lambda image_bytes: {"embedding": read(image_bytes)}, [strings["image_bytes"]])
    signatures: savedmodel.Signatures = {
        "serving_default": embed,
        "embed": embed,
        "serving_tensor": (lambda image: {"embedding": vectors(image)}, [tensor]),
        "verify": (verify, [strings["left_image_bytes"], strings["right_image_bytes"]]),
        "match": (lambda left, right: {"distance": matcher({"left": left, "right": right})}, sides),
    }
    savedmodel.write(folder, signatures)


def compare_embedder(
    models: "tuple[keras.Model, keras.Model]",
    folder: Path,
    images: "np.ndarray[Any, Any]",
    encoded: list[bytes],
    *,
    tolerance: float,
) -> dict[str, Any]:
    """Ask the trained and the exported model the same, by bytes, tensor and pairs; raise a Fault if they disagree.

    `images`, uint8 (N, height, width, channels), are the framed pictures of `encoded`; each is paired with the next.
    """
    import numpy as np
    import tensorflow as tf

    from cnn_keras import inference

    embedding, matcher = models
    exported, size, files = (
        tf.saved_model.load(str(folder)),
        inference.batch_limit(embedding),
        np.array(encoded, object),
    )
    wanted = inference.predictor(embedding)(images)
    got = (
        savedmodel.said(exported, "embed", size, image_bytes=files),
        savedmodel.said(exported, "serving_tensor", size, image=images),
    )
    difference = max(float(np.abs(wanted - answer["embedding"]).max()) for answer in got)
    following = np.roll(np.arange(len(images)), -1)
    distance = inference.compiled(matcher)({"left": wanted, "right": wanted[following]}).numpy()
    pairs = {"left_image_bytes": files, "right_image_bytes": files[following]}
    answer = savedmodel.said(exported, "verify", size, **pairs)
    changed = int((answer["same"] != (distance <= answer["threshold"])).sum())
    difference = max(difference, float(np.abs(answer["distance"] - distance).max()))
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
            f"difference of {difference:.2e} and {changed} changed decisions on {len(images)} pictures",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": len(images)}


def write_warmup(folder: Path, images: "np.ndarray[Any, Any]", encoded: list[bytes]) -> None:
    """Record real requests, which servers replay before they are ready."""
    asked = {
        "serving_default": ("image_bytes", [[data] for data in encoded[:WARMUP]]),
        "serving_tensor": ("image", [image[None] for image in images[:WARMUP]]),
    }
    savedmodel.record_requests(folder, asked)


def failed(settings: Evaluate, report: Mapping[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    found = [
        f"evaluate.require: {metric} must be at least {least}, got {report[metric]:.4f}"
        for metric, least in settings.require.items()
        if not requirement.reaches(report[metric], least)
    ]
    if settings.error_below is not None and not report["eer"] <= settings.error_below:
        found.append(f"evaluate.error_below: the equal error rate must be at most {settings.error_below}, got "
                     f"{report['eer']:.4f}")  # fmt: skip
    return found
