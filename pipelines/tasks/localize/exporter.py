"""A localizer as it is served: its signatures, the proof that it agrees with the trained one, its card."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files
from pipelines.data.boxes import box_batches, box_dataset
from pipelines.engine import reference_statistics
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.localize.config import Export
from pipelines.tasks.localize.decode import Locator, load_trained
from pipelines.tasks.localize.report import ALPHA, OVERLAP

COMPARED = 32  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
TAKES = (
    "Images are encoded JPEG or PNG of any size; the box comes back as left, top, right, bottom, landmarks as x, y, in "
    "pixels of the image as it was sent. An EXIF orientation is not applied by the graph: send pictures upright, or "
    "through `cnn serve`."
)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, pixels and names out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, image_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    locator = load_trained(run)
    savedmodel.write(saved, served(run))
    encoded = box_batches.encoded_images(run, split, COMPARED)
    examples = box_batches.examples(run, split).take(len(encoded)).batch(1)
    agreement = compare_localizer(locator, saved, examples, encoded, tolerance=settings.tolerance)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", [[image] for image in encoded[:WARMUP]])})
    reference_statistics.export(run, saved)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    write_card(saved / "card.md", locator.model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: coordinates differ by at most {agreement['difference']:.1e} pixels on "
        f"{agreement['images']} images"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="accuracy")
    return facts


def served(run: Run) -> savedmodel.Signatures:
    """The signatures of the exported model: a detector's, with at most one thing in a picture.

    They give `boxes` float32 (N, 1, 4), left, top, right, bottom in pixels of the picture as it came, `scores`
    float32 (N, 1), its p_c, `class_id` int64 and `label` string (N, 1), and `count` int32 (N,), 1 where p_c is at
    least `export.threshold`; the rows of others are zeros and empty names. `presence` float32 (N,) is p_c in any case,
    `probabilities` float32 (N, classes). Where there are landmarks, `landmarks` float32 (N, 1, L, 2) are x and y in
    pixels, `landmark_names` string (N, L).
    """
    locator = load_trained(run)
    labels, names = tf.constant(locator.names), tf.constant(locator.landmarks, tf.string)
    threshold = run.recipe.export.threshold

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        answer = locator(images, sizes)
        real = answer.presence >= threshold
        best = tf.where(real, tf.argmax(answer.classes, axis=-1), 0)
        outputs = {
            "boxes": tf.where(real[:, None], answer.boxes, 0.0)[:, None],
            "scores": tf.where(real, answer.presence, 0.0)[:, None],
            "class_id": best[:, None],
            "label": tf.where(real, tf.gather(labels, best), "")[:, None],
            "count": tf.cast(real, tf.int32),
            "presence": answer.presence,
            "probabilities": answer.classes,
        }
        if locator.landmarks:
            outputs["landmarks"] = tf.where(real[:, None, None], answer.landmarks, 0.0)[:, None]
            outputs["landmark_names"] = tf.tile(names[None], [tf.shape(images)[0], 1])
        return outputs

    return savedmodel.picture_signatures(shape=box_dataset.shape_of(run.recipe.data), answer=answer)


def compare_localizer(
    locator: Locator, folder: Path, examples: Iterable[dict[str, Any]], encoded: Sequence[bytes], *, tolerance: float
) -> dict[str, Any]:
    """Ask the trained and the exported model about the same pictures; raise a Fault if they disagree.

    `examples` are those of `encoded`, one by one: {"image", "extent"} in batches of one.
    """
    exported = tf.saved_model.load(str(folder)).signatures["serving_default"]
    ask = inference.predictor(locator.model, locator)
    difference, changed = 0.0, 0
    for example, data in zip(examples, encoded, strict=True):
        expected = ask(example["image"], example["extent"])
        actual = exported(image_bytes=tf.constant([data]))
        changed += int(np.argmax(expected.classes[0]) != np.argmax(actual["probabilities"][0]))
        changed += int(abs(float(expected.presence[0] - actual["presence"][0])) > 1e-3)
        if actual["count"][0]:
            pairs = [(expected.boxes, actual["boxes"][:, 0])]
            pairs += [(expected.landmarks, actual["landmarks"][:, 0])] if locator.landmarks else []
            far = [float(np.abs(ours - other.numpy()).max()) for ours, other in pairs]
            difference = max(difference, *far)
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance} pixels, got a "
            f"largest difference of {difference:.2f} and {changed} other answers on {len(encoded)} pictures",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": len(encoded)}


def write_card(
    path: Path, model: keras.Model, *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that says where one thing is."""
    low, high = report["accuracy_interval"]
    classes = [f"| {row['name']} | {row['things']} | {_figure(row['accuracy'])} |" for row in report["classes"]]
    marks = [
        f"| {row['name']} | {row['seen']} | {_figure(row['pck'])} | {_figure(row['nme'])} |"
        for row in report.get("landmarks", [])
    ]
    if marks:
        marks = ["", f"| landmark | seen | PCK@{ALPHA:g} | NME |", "|---|---|---|---|", *marks]
    metric_lines = [
        f"On the {report['split']} split, {report['images']:,} images with {report['things']:,} things: whether there "
        f"is one {report['presence_accuracy']:.2%} right at p_c {report['threshold']:g}; mean IoU "
        f"{report['mean_iou']:.3f}; class, box and presence **{report['accuracy']:.2%}** right at IoU {OVERLAP:g} "
        f"(95 % interval {low:.2%} to {high:.2%}). It answers from p_c {recipe.export.threshold:g} on. The exported "
        f"model differs from the trained one by at most {agreement['difference']:.1e} pixels on "
        f"{agreement['images']} images.",
        "",
        f"| class | things | right at IoU {OVERLAP:g} |",
        "|---|---|---|",
        *classes,
        *marks,
    ]
    what = (
        f"`{recipe.model.builder}` with a head for one thing in a picture, {model.count_params():,} parameters, on "
        f"`{data['source']}`; the classes are {', '.join(data['classes'])}."
    )
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, metrics=metric_lines, takes=TAKES)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
