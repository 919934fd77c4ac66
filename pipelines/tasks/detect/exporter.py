"""A detector as it is served: its signatures, the proof that it agrees with the trained one, its card."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files
from pipelines.data.boxes import box_batches, proposals
from pipelines.engine import reference_statistics
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.detect.box_report import figure
from pipelines.tasks.detect.config import Export
from pipelines.tasks.detect.decode import Reader
from pipelines.tasks.detect.masks import differing
from pipelines.tasks.detect.model import exported_reader, load_trained

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
WARMUP = 2  # requests recorded beside it
TAKES = (
    "Images are encoded JPEG or PNG of any size; boxes come back as left, top, right, bottom in pixels of the image as "
    "it was sent. An EXIF orientation is not applied by the graph: send pictures upright, or through `cnn serve`."
)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, named boxes out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, image_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    model = load_trained(run)
    reader = exported_reader(run, model)
    savedmodel.write(saved, signatures(model, reader, names=data["classes"]))
    requests = box_batches.requests(run, split, COMPARED)
    examples = box_batches.examples(run, split, whole=reader.whole).take(len(requests)).batch(1)
    agreement = compare_detector(reader, saved, examples, requests, tolerance=settings.tolerance)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", requests[:WARMUP])})
    reference_statistics.export(run, saved)
    if recipe.data.proposals:
        run_files.write_json(saved / "assets.extra" / proposals.SETTINGS, recipe.data.proposals.model_dump())
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    write_card(saved / "card.md", model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: {agreement['boxes']} boxes in {agreement['images']} images differ by at "
        f"most {agreement['difference']:.1e} pixels"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="ap50")
        if settings.crops:
            facts["register"]["metrics"]["test_ap50"] = run.facts("evaluate")["metrics"]["test_crops_ap50"]
    return facts


def served(run: Run) -> savedmodel.Signatures:
    """The signatures of the exported model of a trained run."""
    model = load_trained(run)
    return signatures(model, exported_reader(run, model), names=run.facts("prepare")["classes"])


def signatures(model: keras.Model, reader: Reader, *, names: list[str]) -> savedmodel.Signatures:
    """The two signatures of a detector.

    `serving_default` takes `image_bytes`, strings (N,); `serving_tensor` takes `image`, uint8 (N, height, width, 3) of
    any height and width. Both give `boxes` float32 (N, limit, 4) – left, top, right, bottom in pixels of the picture as
    it came –, `scores` float32 (N, limit), `class_id` int64 and `label` string (N, limit), and `count` int32 (N,): so
    many of the rows are detections, the best first, and the others are zeros and empty names. A detector that knows
    masks gives `instances_bytes` (N,), too: see `pipelines.tasks.detect.masks`.
    """
    labels = tf.constant(names)

    def answer(images: Any, sizes: Any, proposals: Any = None) -> dict[str, Any]:
        (boxes, scores, classes, count), more = reader.answer(images, sizes, proposals)
        real = tf.sequence_mask(count, tf.shape(scores)[1])
        label = tf.where(real, tf.gather(labels, classes), "")
        return {"boxes": boxes, "scores": scores, "class_id": classes, "label": label, "count": count, **more}

    takes_proposals = any(tensor.name == "proposals" for tensor in model.inputs)
    return savedmodel.picture_signatures(
        shape=reader.shape, answer=answer, whole=reader.whole, proposals=takes_proposals
    )


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
    exported = tf.saved_model.load(str(folder)).signatures["serving_default"]
    ask = tf.function(reader.answer, autograph=False, reduce_retracing=True)
    difference, changed, pictures, compared = 0.0, 0, 0, 0
    for example, request in zip(examples, requests, strict=True):
        expected, more = ask(example["image"], example["extent"], example.get("proposals"))
        actual = exported(**{name: tf.constant(value) for name, value in request.items()})
        pictures += 1
        if (
            int(expected.count[0]) != int(actual["count"][0])
            or (expected.classes.numpy() != actual["class_id"].numpy()).any()
        ):
            changed += 1
            continue
        maps = [differing(value[0].numpy(), actual[name][0].numpy()) for name, value in more.items()]
        changed += int(max(maps, default=0.0) > MAPPED)
        compared += int(expected.count[0])
        difference = max(difference, float(np.abs(expected.boxes.numpy() - actual["boxes"].numpy()).max(initial=0.0)))
    if difference > tolerance or changed:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance} pixels, got a largest "
            f"difference of {difference:.2f} and {changed} of {pictures} pictures with other detections",
            code=Fault.GATE,
        )
    return {"difference": difference, "changed": changed, "images": pictures, "boxes": compared}


def write_card(
    path: Path, model: keras.Model, *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a detector."""
    masks = report.get("masks")
    masked = ["", f"Its masks: AP {figure(masks['ap'])}, AP50 **{figure(masks['ap50'])}**."] if masks else []
    metric_lines = [
        f"AP **{figure(report['ap'])}**, AP50 **{figure(report['ap50'])}**, AP75 {figure(report['ap75'])} on "
        f"{report['objects']:,} objects in {report['images']:,} images ({report['settings']['decoding']}). It answers "
        f"with {recipe.export.suppress.description}. The exported model's boxes differ from the trained one's by at "
        f"most {agreement['difference']:.1e} pixels: {agreement['boxes']} boxes in {agreement['images']} images.",
        *masked,
        "",
        "| class | AP | AP50 | objects |",
        "|---|---|---|---|",
        *(
            f"| {row['name']} | {figure(row['ap'])} | {figure(row['ap50'])} | {row['objects']} |"
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
        metrics=metric_lines,
        takes=TAKES
        + (REGIONS if recipe.data.proposals else "")
        + (MAPS if recipe.data.masks else "")
        + (f" The graph looks at {report['crops']['count']} views of each image." if recipe.export.crops else ""),
        input_shape=(*recipe.data.size, 3) if recipe.train.sides else None,
    )
