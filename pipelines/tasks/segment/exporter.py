"""Exported segmenters: a graph that answers with a mask of the picture's size, the proof that it agrees, its card."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.data.image_decoding import decode
from cnn_keras.errors import Fault
from cnn_keras.ops.sliding_window import Prediction
from pipelines.data import image_dataset, run_files
from pipelines.engine import reference_statistics
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.inference.segmentation import SPACING, mask_of
from pipelines.tasks.segment import lesion_report, records
from pipelines.tasks.segment.config import Export
from pipelines.tasks.segment.model import Segmenter, exported_segmenter

COMPARED = 16  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
SIDE = 96  # voxels along each side of the part of a volume on which it must agree

TAKES = {
    2: "Images are encoded JPEG or PNG of any size; `mask_bytes` is a grey PNG of the same size whose pixels are "
    "numbers, 0 for the first of `classes`. An EXIF orientation is not applied by the graph: send pictures upright, or "
    "through `cnn serve`.",
    3: "`volume` is float32 (N, depth, height, width, channels) of any sizes, its axes pointing right, anterior and "
    "superior; `mask` has the same sizes, its numbers those of `classes`. Voxels are assumed to have the size of those "
    "in the training data: where `data.spacing` is set, resample to it first, as `cnn predict` does.",
}


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: a picture in, a mask of its size and its legend out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name, split = settings.name or recipe.name, image_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    asking = exported_segmenter(run)
    savedmodel.write(saved, signatures(asking, names=data["classes"]))
    pairs = list(_compared(run, split))
    agreement = compare(asking, saved, pairs, tolerance=settings.tolerance)
    if recipe.data.axes == 2:
        requests = {"serving_default": ("image_bytes", [[encoded] for _, encoded in pairs[:WARMUP]])}
    else:
        requests = {"serving_default": ("volume", [encoded[None] for _, encoded in pairs])}
    savedmodel.record_requests(saved, requests)
    if recipe.data.axes == 2:
        reference_statistics.export(run, saved)
    if recipe.data.spacing:
        run_files.write_json(saved / SPACING, {"spacing": recipe.data.spacing})
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    card = {"recipe": recipe, "data": data, "report": report, "agreement": agreement}
    write_card(saved / "card.md", asking.model, **card)
    run.console.print(
        f"          {name} version {version}: {agreement['changed']:,} of {agreement['pixels']:,} pixels differ in "
        "class from the trained model"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric="mean_iou")
        if settings.crops:
            facts["register"]["metrics"]["test_mean_iou"] = run.facts("evaluate")["metrics"]["test_crops_mean_iou"]
    return facts


def _compared(run: Run, split: str) -> Iterator[tuple[Any, Any]]:
    """Pictures as the trained model takes them and as they are sent; of the first volume the middle."""
    if run.recipe.data.axes == 2:
        encoded = records.encoded_images(run.recipe, run.finished("prepare"), split, COMPARED)
        yield from ((example.image, data) for example, data in zip(records.of_run(run, split), encoded, strict=False))
        return
    first = next(records.of_run(run, split)).image
    edges = [max(0, length - SIDE) // 2 for length in first.shape[:3]]
    middle = first[tuple(slice(edge, edge + SIDE) for edge in edges)]
    yield middle, middle


def served(run: Run) -> savedmodel.Signatures:
    """The signatures of the exported model of a trained run."""
    return signatures(exported_segmenter(run), names=run.facts("prepare")["classes"])


def signatures(segmenter: Segmenter, *, names: Sequence[str]) -> savedmodel.Signatures:
    """The signatures of a segmenter.

    Of pictures, `serving_default` takes `image_bytes`, strings (N,), and `serving_tensor` takes `image`, uint8 (N,
    height, width, channels); both give `mask_bytes`, strings (N,): a grey PNG of the picture's own size, a pixel the
    number of its class. Of volumes, `serving_default` takes `volume`, float32 (N, depth, height, width, channels), and
    gives `mask`, uint8 (N, depth, height, width). With either come, for each row and class, `classes` string (N, K),
    the legend, `shares` float32 (N, K) of the pixels, and `confidence` float32 (N, K), the mean probability where the
    class was said.
    """
    of = _of_pictures if segmenter.data.axes == 2 else _of_volumes
    return of(segmenter, names)


def _of_pictures(segmenter: Segmenter, names: Sequence[str]) -> savedmodel.Signatures:
    channels, count = segmenter.data.channels, len(names)
    kinds = {
        "mask_bytes": tf.TensorSpec((), tf.string),
        "shares": tf.TensorSpec((count,), tf.float32),
        "confidence": tf.TensorSpec((count,), tf.float32),
    }

    def answer_one(image: Any) -> dict[str, Any]:
        prediction = segmenter(image)
        return {"mask_bytes": tf.io.encode_png(prediction.labels[..., None]), **_summed(prediction, count)}

    def from_tensor(image: Any) -> dict[str, Any]:
        return _with_legend(tf.map_fn(answer_one, image, fn_output_signature=kinds), names)

    def from_bytes(image_bytes: Any) -> dict[str, Any]:
        def read(encoded: Any) -> dict[str, Any]:
            return answer_one(decode(encoded, channels=channels))

        return _with_legend(tf.map_fn(read, image_bytes, fn_output_signature=kinds), names)

    strings = [tf.TensorSpec((None,), tf.string, name="image_bytes")]
    tensor = [tf.TensorSpec((None, None, None, channels), tf.uint8, name="image")]
    return {"serving_default": (from_bytes, strings), "serving_tensor": (from_tensor, tensor)}


def _of_volumes(segmenter: Segmenter, names: Sequence[str]) -> savedmodel.Signatures:
    channels, count = segmenter.data.channels, len(names)
    kinds = {
        "mask": tf.TensorSpec((None, None, None), tf.uint8),
        "shares": tf.TensorSpec((count,), tf.float32),
        "confidence": tf.TensorSpec((count,), tf.float32),
    }

    def answer_one(volume: Any) -> dict[str, Any]:
        prediction = segmenter(volume)
        return {"mask": prediction.labels, **_summed(prediction, count)}

    def from_tensor(volume: Any) -> dict[str, Any]:
        return _with_legend(tf.map_fn(answer_one, volume, fn_output_signature=kinds), names)

    spec = [tf.TensorSpec((None, None, None, None, channels), tf.float32, name="volume")]
    return {"serving_default": (from_tensor, spec)}


def _summed(prediction: Prediction, count: int) -> dict[str, Any]:
    """The share of the pixels of each class, and the mean confidence where it was said, 0 where it was not."""
    labels = tf.cast(tf.reshape(prediction.labels, [-1]), tf.int32)
    pixels = tf.cast(tf.math.bincount(labels, minlength=count, maxlength=count), tf.float32)
    sure = tf.math.unsorted_segment_sum(tf.reshape(prediction.confidence, [-1]), labels, count)
    return {"shares": pixels / tf.cast(tf.size(labels), tf.float32), "confidence": tf.math.divide_no_nan(sure, pixels)}


def _with_legend(outputs: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {**outputs, "classes": tf.tile(tf.constant(names)[None], [tf.shape(outputs["shares"])[0], 1])}


def compare(
    segmenter: Segmenter, folder: Path, examples: Iterable[tuple[Any, Any]], *, tolerance: float
) -> dict[str, Any]:
    """Ask the trained and the exported model about the same pictures; raise a Fault where their masks differ.

    Args:
        examples: pairs of a picture or volume as the trained model takes it and as the exported one does.
        tolerance: the share of pixels that may be of another class, where two are as likely.
    """
    exported, ask = tf.saved_model.load(str(folder)).signatures["serving_default"], segmenter.asked()
    name = next(iter(exported.structured_input_signature[1]))
    changed, pixels, count = 0, 0, 0
    for image, encoded in examples:
        expected, actual = ask(image).labels.numpy(), exported(**{name: tf.constant(encoded)[None]})
        changed += int((expected != mask_of({key: value.numpy()[0] for key, value in actual.items()})).sum())
        pixels, count = pixels + expected.size, count + 1
    if changed > tolerance * pixels:
        raise Fault(
            f"the exported model must agree with the trained one but for export.tolerance {tolerance} of the pixels, "
            f"got {changed:,} of {pixels:,} of another class in {count} pictures",
            code=Fault.GATE,
        )
    return {"difference": changed / max(pixels, 1), "changed": changed, "pixels": pixels, "images": count}


def write_card(
    path: Path, model: keras.Model, *, recipe: Any, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a segmenter."""
    low, high = report["mean_iou_interval"]
    metric_lines = [
        f"Mean IoU **{report['mean_iou']:.3f}** (95 % interval {low:.3f} to {high:.3f} {report['interval']}), mean "
        f"Dice {report['mean_dice']:.3f}, pixel accuracy {report['pixel_accuracy']:.2%} on {report['pixels']:,} pixels "
        f"of {report['pictures']}; a pixel's own value alone gives a mean Dice of "
        f"{report['baseline']['mean_dice']:.3f}. Of {agreement['pixels']:,} pixels the exported model calls "
        f"{agreement['changed']:,} otherwise than the trained one.",
        "",
        "| class | IoU | Dice | 95 % interval | precision | recall | borders | "
        f"HD95, {report['distance_unit']} | pixels |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in report["classes"] if row["iou"] is not None),
        "",
        *(f"{line}.\n" for line in lesion_report.lines(report)),
    ]
    what = (
        f"`{recipe.model.builder}`, {model.count_params():,} parameters, on `{data['source']}`; the classes, by their "
        f"numbers in a mask, are {', '.join(f'{number} {name}' for number, name in enumerate(data['classes']))}."
    )
    takes = TAKES[recipe.data.axes]
    if recipe.export.crops:
        takes += f" The graph averages its answers to several views, `{recipe.evaluate.crops.kind}`."
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, metrics=metric_lines, takes=takes)


def _row(row: Mapping[str, Any]) -> str:
    low, high = row["dice_interval"]
    figures = [row["iou"], row["dice"], None, row["precision"], row["recall"], row["boundary_f"]]
    cells = ["–" if value is None else f"{value:.3f}" for value in figures]
    cells[2] = f"{low:.3f} to {high:.3f}"
    far = "–" if row["hausdorff_95"] is None else f"{row['hausdorff_95']:.2f}"
    return f"| {row['name']} | {' | '.join(cells)} | {far} | {row['pixels']:,} |"
