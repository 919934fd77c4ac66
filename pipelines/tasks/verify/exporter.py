"""Exported embedders: a graph from pictures to embeddings and from pairs to answers, and the proof that it agrees.

Whoever stores embeddings, such as a gallery, needs this and `verification.json`, and nothing of how it was trained.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.data import input_pipeline, records
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.transforms.face_alignment import Landmarks, align_face
from cnn_keras.errors import Fault
from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset, run_files
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.inference.embedding import FACTS
from pipelines.tasks.verify import dataset, model_card
from pipelines.tasks.verify.config import Export, files_of
from pipelines.tasks.verify.model import load_trained
from pipelines.tasks.verify.report import RATES, rates_of

COMPARED = 256  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside the model


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: pictures to embeddings, pairs to answers; prove that it agrees."""
    recipe, data, prepared = run.recipe, run.facts("prepare"), run.finished("prepare")
    settings: Export = recipe.export
    name, shape, split = (
        settings.name or recipe.name,
        image_dataset.shape_of(recipe.data),
        image_dataset.test_split(data),
    )
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    models, align = load_trained(run), recipe.data.align
    rates = rates_of(report)
    landmarks: Any = dataset.aligner_of(align) if align and align.by == "landmarks" else None
    write_embedder(*models, saved, shape=shape, rates=rates, landmarks=landmarks)
    pictures = input_pipeline.arrays(prepared, split, shape, limit=COMPARED)
    if landmarks:  # of the records the eyes have been aligned already
        encoded = dataset.originals(recipe.data, pictures.ids)
    else:
        encoded = [row["image"] for row in records.read(prepared, split).take(len(pictures.ids)).as_numpy_iterator()]
    agreement = compare_embedder(models, saved, pictures.images, encoded, tolerance=settings.tolerance)
    write_warmup(saved, pictures.images, encoded)
    facts = facts_of(run, report)
    run_files.write_json(saved / FACTS, facts)
    model_card.write(saved / "card.md", models[0], recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} pictures"
    )
    result = {"name": name, "version": version, "agreement": agreement, **facts}
    if settings.register_model:
        result["register"] = savedmodel.registration(run, name, version, metric="auc")
    return result


def facts_of(run: Run, report: Mapping[str, Any]) -> dict[str, Any]:
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
        sight += [align.by, files_of(align)]
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
    embedding: keras.Model,
    matcher: keras.Model,
    folder: Path,
    *,
    shape: Shape,
    rates: Mapping[str, float],
    landmarks: Landmarks | None = None,
) -> None:
    """Write the signatures of an embedding; with `landmarks`, faces of encoded pictures are aligned inside the graph.

    `embed`, which is `serving_default`, takes `image_bytes`, strings (N,), and `serving_tensor` takes `image`, uint8
    (N, height, width, channels); both give `embedding`, float32 (N, dimension), of length 1. `verify` takes
    `left_image_bytes` and `right_image_bytes`, strings (N,), and gives `distance` float32 (N,), `same` bool (N,), and,
    the same in every row, `threshold` with its measured `false_accept_rate` and `false_reject_rate`, the
    `false_accept_bound` that is sure and the number of `calibration_people`, int32, it rests on. `match` takes
    `left` and `right`, float32 (N, dimension), for whoever has embeddings already, and gives `distance`.
    """
    image = tf.TensorSpec((*shape.size, shape.channels), tf.uint8)

    def read_image(image_bytes: Any) -> Any:
        picture = decode(image_bytes, channels=shape.channels)
        if landmarks is None:
            return resize_image(picture, shape.size, fit=shape.fit)
        eyes, is_found = landmarks.find(picture)
        aligned = partial(align_face, picture, eyes, size=shape.size)
        return tf.cond(is_found, aligned, partial(resize_image, picture, shape.size, fit=shape.fit))

    def vectors(image: Any) -> Any:
        return tf.cast(embedding(image, training=False), tf.float32)

    def read(image_bytes: Any) -> Any:
        return vectors(tf.map_fn(read_image, image_bytes, fn_output_signature=image))

    def verify(left_image_bytes: Any, right_image_bytes: Any) -> dict[str, Any]:
        pair = {"left": read(left_image_bytes), "right": read(right_image_bytes)}
        distance = matcher(pair, training=False)
        kinds = {name: tf.int32 if isinstance(value, int) else tf.float32 for name, value in rates.items()}
        rate_tensors = {
            name: tf.fill(tf.shape(distance), tf.constant(rates[name], kind)) for name, kind in kinds.items()
        }
        return {"distance": distance, "same": distance <= rate_tensors["threshold"], **rate_tensors}

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
    models: tuple[keras.Model, keras.Model],
    folder: Path,
    images: np.ndarray[Any, Any],
    encoded: list[bytes],
    *,
    tolerance: float,
) -> dict[str, Any]:
    """Ask the trained and the exported model the same, by bytes, tensor and pairs; raise a Fault if they disagree.

    `images`, uint8 (N, height, width, channels), are the framed pictures of `encoded`; each is paired with the next.
    """
    embedding, matcher = models
    exported, size, files = (
        tf.saved_model.load(str(folder)),
        inference.batch_limit(embedding),
        np.array(encoded, object),
    )
    expected = inference.predictor(embedding)(images)
    actual = (
        savedmodel.call_signature(exported, "embed", size, image_bytes=files),
        savedmodel.call_signature(exported, "serving_tensor", size, image=images),
    )
    difference = max(float(np.abs(expected - answer["embedding"]).max()) for answer in actual)
    following = np.roll(np.arange(len(images)), -1)
    distance = inference.compiled(matcher)({"left": expected, "right": expected[following]}).numpy()
    pairs = {"left_image_bytes": files, "right_image_bytes": files[following]}
    answer = savedmodel.call_signature(exported, "verify", size, **pairs)
    changed = int((answer["same"] != (distance <= answer["threshold"])).sum())
    difference = max(difference, float(np.abs(answer["distance"] - distance).max()))
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
            f"difference of {difference:.2e} and {changed} changed decisions on {len(images)} pictures",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": len(images)}


def write_warmup(folder: Path, images: np.ndarray[Any, Any], encoded: list[bytes]) -> None:
    """Record real requests, which servers replay before they are ready."""
    requests = {
        "serving_default": ("image_bytes", [[data] for data in encoded[:WARMUP]]),
        "serving_tensor": ("image", [image[None] for image in images[:WARMUP]]),
    }
    savedmodel.record_requests(folder, requests)
