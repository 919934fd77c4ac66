"""Export: the SavedModel of a network that answers with numbers, the proof that it agrees, its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files, value_records
from pipelines.engine import reference_statistics
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.regress import dataset, model
from pipelines.tasks.regress.config import Recipe
from pipelines.tasks.regress.model import Regressor

COMPARED = 32  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
TAKES = (
    "Images are encoded JPEG or PNG of any size; numbers come back in their units, in the order of `names`. An EXIF "
    "orientation is not applied by the graph: send pictures upright, or through `cnn serve`."
)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, numbers and intervals out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings = recipe.export
    name, split = settings.name or recipe.name, image_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved, reader = folder / name / str(version), model.regressor(run)
    savedmodel.write(saved, served(run))
    encoded = value_records.encoded_images(run.finished("prepare"), split, COMPARED, dataset.example(data))
    images = next(iter(dataset.examples(run, split).batch(COMPARED)))["image"]
    agreement = compare(reader, saved, images, encoded, tolerance=settings.tolerance)
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", [[image] for image in encoded[:WARMUP]])})
    reference_statistics.export(run, saved)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    write_card(saved / "card.md", reader.model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: numbers differ by at most {agreement['difference']:.1e} deviations on "
        f"{agreement['images']} images"
    )
    facts = {"name": name, "version": version, "names": data["names"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="r2")
    return facts


def served(run: Run) -> savedmodel.Signatures:
    """The signatures of the exported model, which give the same.

    `values`, `low` and `high` are float32 (N, values), in their units; `names` and `units` string (N, values);
    `interval` float32 (N,), the share of true numbers that lie between `low` and `high`.
    """
    reader, interval = model.regressor(run), run.recipe.head.interval
    names, units = tf.constant([reader.names]), tf.constant([reader.units])

    def answer(images: Any, sizes: Any) -> dict[str, Any]:
        count = tf.shape(images)[0]
        named = {"names": tf.tile(names, (count, 1)), "units": tf.tile(units, (count, 1))}
        return {**reader.answer(images), **named, "interval": tf.fill((count,), tf.constant(interval))}

    return savedmodel.picture_signatures(shape=image_dataset.shape_of(run.recipe.data), answer=answer)


def compare(
    reader: Regressor, folder: Path, images: Any, encoded: Sequence[bytes], *, tolerance: float
) -> dict[str, Any]:
    """Ask the trained and the exported model about the same pictures; raise a Fault if they disagree."""
    exported, size = tf.saved_model.load(str(folder)), inference.batch_limit(reader.model)
    actual = savedmodel.call_signature(exported, "serving_default", size, image_bytes=np.array(encoded, object))
    expected = inference.predictor(reader.model, reader.answer)(images)
    unit = reader.standard.deviation
    difference = max(float((np.abs(expected[key] - actual[key]) / unit).max()) for key in ("values", "low", "high"))
    if not difference <= tolerance:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
            f"difference of {difference:.2e} on {len(encoded)} pictures",
            code=Fault.GATE,
        )
    return {"difference": difference, "images": len(encoded)}


def write_card(
    path: Path, model: keras.Model, *, recipe: Recipe, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that answers with numbers."""
    lines = [
        f"On {report['examples']:,} images of the {report['split']} split, with 95 % intervals:",
        "",
        "| number | mean absolute error | root mean square | R² | "
        f"intervals of {report['interval']:.0%} hold | their width |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['name']} {row['unit']} | {_figure(row, 'mae')} | {_figure(row, 'rmse')} | {_figure(row, 'r2')} | "
            f"{row['coverage']:.1%} | {row['width']:.4g} |"
            for row in report["values"]
        ),
        *(
            f"| {row['name']} by {name} | {_figure(row, 'mae')} | {_figure(row, 'rmse')} | {_figure(row, 'r2')} | | |"
            for name, baseline in report["baselines"].items()
            for row in baseline["values"]
        ),
        "",
        f"The exported model differs from the trained one by at most {agreement['difference']:.1e} deviations on "
        f"{agreement['images']} images.",
    ]
    what = (
        f"`{recipe.model.builder}` with the head `{recipe.head.kind}`, {model.count_params():,} parameters, on "
        f"`{data['source']}`; the numbers are {', '.join(data['names'])}."
    )
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, metrics=lines, takes=TAKES)


def _figure(row: dict[str, Any], key: str) -> str:
    low, high = row[f"{key}_interval"]
    return f"{row[key]:.4g} ({low:.4g} to {high:.4g})"
