"""What `evaluate` measures of a detector: its boxes and, where it knows them, its masks."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras

from cnn_keras import inference
from pipelines.data import image_dataset, run_files, validation
from pipelines.data.boxes import box_batches
from pipelines.engine import heat_maps, plugins, requirement
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array
from pipelines.tasks.detect import box_report, decode, explanation, instance_report
from pipelines.tasks.detect import masks as detect_masks
from pipelines.tasks.detect.config import Evaluate
from pipelines.tasks.detect.error_types import Detected
from pipelines.tasks.detect.model import crops_reader, load_trained, make_reader

BATCH = 16  # pictures that are measured at once, at most
OF_CROPS = ("ap", "ap50", "ap75", "voc_map50", "mask_ap", "mask_ap50")  # what is measured of several views


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the detector on the test split as COCO and VOC do; say which requirements failed."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split = image_dataset.test_split(data)
    truth = run_files.read_json(run.finished("prepare") / f"truth-{split}.json")
    model, pictures_of = load_trained(run), partial(box_batches.original_pictures, run, split)
    reader = make_reader(run, model, settings.suppress)
    answers, masks = _answers(run, model, reader, split)
    report = box_report.detection_report(
        folder,
        truth,
        detections=answers,
        threshold=settings.shown,
        pictures_of=pictures_of,
        decoding=settings.suppress.description,
        shown=settings.worst,
        square=recipe.data.tile and recipe.data.tile.size,
    )
    box_report.say(run.console, report)
    if masks:
        count_shown, threshold = settings.worst, settings.shown
        report |= instance_report.instance_report(
            folder, truth, answers, masks, threshold=threshold, pictures_of=pictures_of, shown=count_shown
        )
        instance_report.say(run.console, report["masks"])
    if settings.insight:
        _explain(run, folder, truth, pictures_of)
    if settings.crops:
        report["crops"] = _crops(run, model, split, truth)
        _say_crops(run, report)
    if settings.metrics:
        report |= plugins.measure(settings.metrics, truth, box_report.results(truth, answers))
    run_files.write_json(folder / "report.json", report)
    names = (*settings.MEASURED, *map(plugins.short, settings.metrics))
    test_metrics = {f"test_{key}": report[key] for key in names if report.get(key) is not None}
    crop_report = report.get("crops", {})
    test_metrics |= {f"test_crops_{key}": crop_report[key] for key in OF_CROPS if crop_report.get(key) is not None}
    return {"metrics": test_metrics, "failed": requirement.failed_requirements(settings, report)}


def _explain(
    run: Run, folder: Path, truth: Mapping[str, Any], pictures_of: Callable[[list[int]], Sequence[Array]]
) -> None:
    """Draw what the likeliest objects of the first pictures rest on."""
    names = [str(image["file_name"]) for image in truth["images"]][: heat_maps.SHOWN]
    examples = zip(pictures_of(list(range(len(names)))), names, strict=True)
    heading = "What objects rest on: LayerCAM of the score of each"
    heat_maps.report(explanation.explainer(run), examples, folder, heading=heading)


def _crops(run: Run, model: keras.Model, split: str, truth: Mapping[str, Any]) -> dict[str, Any]:
    """What the detector is worth where it looks at each picture in several ways."""
    plan, reader = run.recipe.evaluate.crops.model_dump(), crops_reader(run, model, run.recipe.evaluate.suppress)
    answers, masks = _answers(run, model, reader, split)
    metrics = box_report.figures(truth, answers)
    if masks:
        mask_metrics = instance_report.mask_metrics(truth, answers, masks)
        metrics |= {"mask_ap": mask_metrics["ap"], "mask_ap50": mask_metrics["ap50"]}
    return {**plan, "count": len(reader.views), **{key: metrics[key] for key in OF_CROPS if key in metrics}}


def _say_crops(run: Run, report: Mapping[str, Any]) -> None:
    crops = report["crops"]
    figures = ", ".join(
        f"{name} {box_report.figure(crops[key])} instead of {box_report.figure(report[key])}"
        for key, name in (("ap", "AP"), ("ap50", "AP50"), ("mask_ap", "AP of masks"))
        if key in crops
    )
    run.console.print(f"          {crops['count']} views of each picture: {figures}")


def _answers(
    run: Run, model: keras.Model, reader: decode.Reader, split: str
) -> tuple[list[Detected], list[list[detect_masks.Runs]]]:
    """One pass over a split: what is found, and its masks where the detector knows them."""
    limit = inference.batch_limit(model, looks=len(reader.views), input_shape=(*run.recipe.data.size, 3))
    batch_size = 1 if reader.whole else min(BATCH, limit)
    examples = box_batches.examples(run, split, whole=reader.whole).batch(batch_size)
    with validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=run.facts("prepare")["splits"][split])
        return _found(reader, examples, lambda done: bar.advance(task, done))


def _found(
    reader: decode.Reader, examples: Any, advance: Callable[[int], Any]
) -> tuple[list[Detected], list[list[detect_masks.Runs]]]:
    """What is found in the examples, and the masks of it where the detector knows them."""
    if isinstance(reader, detect_masks.MaskReader):
        return detect_masks.detect(reader, examples, advance)
    return decode.detect(reader, examples, advance), []
