"""How well a detector's masks cover things: COCO's AP of instances by pycocotools, and pictures of them.

A mask counts as found as a box does, but its overlap with the truth is that of pixels. Masks are measured whole, also
where the exported map shows another thing in front.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cnn_keras.data import run_length
from cnn_keras.ops import instance_masks
from pipelines.plots import image_grid, overlays
from pipelines.tasks.detect import box_report
from pipelines.tasks.detect.error_types import Detected
from pipelines.tasks.detect.masks import Runs

Array = np.ndarray[Any, np.dtype[Any]]

LIMIT = 100  # detections an image that COCO looks at
RESAMPLES = 200
SIDE = 2.4  # inches of a picture
FIGURES = ("ap", "ap50", "ap75")


def instance_report(
    folder: Path,
    truth: Mapping[str, Any],
    detections: Sequence[Detected],
    masks: Sequence[Sequence[Runs]],
    *,
    threshold: float,
    pictures_of: Callable[[list[int]], list[Array]],
    shown: int,
) -> dict[str, Any]:
    """Measure the masks and draw some of them into `folder`: `masks`, the figures, and of them `mask_ap`, `mask_ap50`.

    Args:
        truth: COCO JSON; things without a mask are not asked for.
        detections: one for each of its images, in their order; `masks` are theirs.
        threshold: the score from which on a mask is drawn.
        pictures_of: the images, uint8, with these numbers, as large as they are.
        shown: how many images are drawn.
    """
    figures = mask_metrics(truth, detections, masks)
    draw(folder / "masks.png", truth, detections, masks, threshold=threshold, pictures_of=pictures_of, shown=shown)
    return {"masks": figures, "mask_ap": figures["ap"], "mask_ap50": figures["ap50"]}


def mask_metrics(
    truth: Mapping[str, Any], detections: Sequence[Detected], masks: Sequence[Sequence[Runs]]
) -> dict[str, Any]:
    """AP, AP50 and AP75 of masks, the interval of AP50, and AP and AP50 of each class."""
    with_masks = {**truth, "annotations": [note for note in truth["annotations"] if note.get("segmentation")]}
    boxes, runs = box_report.results(truth, detections), [run for rows in masks for run in rows]
    results = [{**result, "segmentation": run} for result, run in zip(boxes, runs, strict=True)]
    evaluation = box_report.coco_evaluation(with_masks, results, LIMIT, kind="segm")
    precision, mean = evaluation.eval["precision"][..., 0, -1], box_report.mean
    columns = [evaluation.params.catIds.index(category["id"]) for category in truth["categories"]]
    return {
        "objects": len(with_masks["annotations"]),
        **{name: mean(values) for name, values in zip(FIGURES, (precision, precision[0], precision[5]), strict=True)},
        "ap50_interval": interval(evaluation),
        "classes": [
            {"name": category["name"], "ap": mean(precision[..., k]), "ap50": mean(precision[0, :, k])}
            for category, k in zip(truth["categories"], columns, strict=True)
        ],
    }


def interval(evaluation: Any) -> list[float] | None:
    """The 95 % interval of AP50: pycocotools' own sums over images drawn with replacement; None of a single image."""
    images = len(evaluation.params.imgIds)
    if images < 2:
        return None
    matches = np.arange(len(evaluation.evalImgs)).reshape(-1, len(evaluation.params.areaRng), images)
    every, generator, values = list(evaluation.evalImgs), np.random.default_rng(0), []
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(RESAMPLES):
            sample = matches[..., generator.integers(0, images, images)]
            evaluation.evalImgs = [every[row] for row in sample.ravel()]
            evaluation.accumulate()
            values.append(box_report.mean(evaluation.eval["precision"][0, ..., 0, -1]))
    known = [value for value in values if value is not None]
    return [float(value) for value in np.percentile(known, (2.5, 97.5))] if known else None


def say(console: Console, report: Mapping[str, Any]) -> None:
    """The figures, for people."""
    ap, ap50, ap75 = ("–" if report[name] is None else f"{report[name]:.3f}" for name in FIGURES)
    ends = report["ap50_interval"]
    between = f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    console.print(f"          masks: AP [bold]{ap}[/], AP50 [bold]{ap50}[/]{between}, AP75 {ap75}")


def draw(
    path: Path,
    truth: Mapping[str, Any],
    detections: Sequence[Detected],
    masks: Sequence[Sequence[Runs]],
    *,
    threshold: float,
    pictures_of: Callable[[list[int]], list[Array]],
    shown: int,
) -> Path:
    """Draw the first images, the masks said of them from the threshold on, each in a colour, and the true ones."""
    rows = list(range(min(shown, len(detections))))
    names = [category["name"] for category in truth["categories"]]
    strips = []
    for row, image in zip(rows, pictures_of(rows), strict=True):
        size = image.shape[:2]
        rows_shown = np.flatnonzero(detections[row].scores >= threshold).tolist()  # the likeliest first
        notes = [
            note
            for note in truth["annotations"]
            if note["image_id"] == truth["images"][row]["id"] and note.get("segmentation")
        ]
        things = (
            [run_length.decode(masks[row][number]) for number in rows_shown],
            [run_length.rasterize(n["segmentation"], size) for n in notes],
        )
        pictures = [overlays.paint_instances(image, instance_masks.label_map(of, size)) for of in things]
        labels = ", ".join(names[detections[row].classes[number]] for number in rows_shown) or "nothing"
        strips.append(image_grid.Strip(labels, str(truth["images"][row].get("file_name", row)), [image, *pictures]))
    heading = f"Masks from a score of {threshold:g} on, and the true ones"
    return image_grid.strips(strips, path, heading=heading, columns=("picture", "said", "true"), size=SIDE)
