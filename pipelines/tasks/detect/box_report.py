"""How well a detector's boxes are: COCO's figures, VOC's, every class, what went wrong, and pictures.

COCO's AP and AR are pycocotools', at most 100 detections an image or as many as were given. What it has no figures for
is measured by `error_types`, with the same matching at IoU 0.5. AP takes every detection; what is counted,
listed or drawn takes those from the threshold on, and says so.
"""

import contextlib
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnn_keras.data.files import durable
from cnn_keras.metrics import average_precision as voc
from pipelines.data import run_files
from pipelines.plots import annotate, charts, image_grid
from pipelines.tasks.detect import error_types
from pipelines.tasks.detect.error_types import KINDS, OVERLAP, TOUCHING, Detected, Objects, Scene, Square

Array = np.ndarray[Any, np.dtype[Any]]

BACKGROUND = "background"
LIMIT = 100  # detections an image that COCO looks at
RESAMPLES = 500
LISTED = 20  # classes that are printed
SIDE = 3.4  # inches of a picture
MEANINGS = (
    "wrong class",
    f"IoU {TOUCHING} to {OVERLAP}",
    "wrong class and place",
    "found already",
    "nothing there",
    "",
)
RIGHT, WRONG, NEITHER = 0, 1, 5  # colours of drawing.PALETTE


def detection_report(
    folder: Path,
    truth: Mapping[str, Any],
    *,
    detections: Sequence[Detected],
    threshold: float,
    pictures_of: Callable[[list[int]], list[Array]],
    decoding: str = "",
    shown: int = 12,
    square: int | None = None,
) -> dict[str, Any]:
    """Measure the detections; write report.json, detections.json, predictions.csv and the pictures into `folder`.

    Args:
        truth: COCO JSON, its boxes in pixels of the original images; objects that are `iscrowd` or `difficult` need
            not be found. The number of a class is its place among the categories, whatever their ids.
        detections: one for each of truth's images, in their order.
        threshold: the score from which on a detection is counted, listed and drawn.
        pictures_of: the images, uint8, with these numbers; they may be smaller than the originals.
        decoding: how the detections came about, as "scores from 0.01, NMS at IoU 0.5"; stands on the figures.
        shown: how many of the best and of the worst images are drawn.
        square: pixels of the side of parts that are drawn, and drawn anew for the interval, instead of whole images.

    Raises:
        ValueError: there are not as many detections as images.
    """
    image_grid.fits("detections", detections, truth["images"])
    classes = [category["name"] for category in truth["categories"]]
    objects = objects_of(truth)
    scenes = [error_types.scene(*pair) for pair in zip(objects, detections, strict=True)]
    shown_scenes = [error_types.scene(*pair, threshold=threshold) for pair in zip(objects, detections, strict=True)]
    results_ = results(truth, [scene.found for scene in scenes])
    table = error_types.table(scenes, len(classes))
    limit = max(LIMIT, *(len(scene.found.scores) for scene in scenes), 0)
    report: dict[str, Any] = {
        "images": len(scenes),
        "objects": int(table.positives.sum()),
        "difficult": int(sum(scene.truth.difficult.sum() for scene in scenes)),
        "detections": len(results_),
        "settings": {"threshold": threshold, "overlap": OVERLAP, "limit": limit, "decoding": decoding},
    }
    metrics, by_class = _coco(truth, results_, limit)
    report |= metrics | _voc(scenes, len(classes)) | _counted(shown_scenes)
    parts, shown_parts = (_parts(truth, some_scenes, square) for some_scenes in (scenes, shown_scenes))
    report["ap50_interval"] = _interval(error_types.table([part.scene for part in parts], len(classes)))
    report["classes"] = _rows(table, by_class, classes, threshold)
    report["errors"] = _errors(scenes, shown_scenes, len(classes))
    report["confusion"] = error_types.confusion(shown_scenes, len(classes)).tolist()
    run_files.write_json(folder / "report.json", report)
    run_files.write_json(folder / "detections.json", results_)
    durable.write_text(folder / "predictions.csv", _predictions_csv(truth, shown_scenes, classes))
    _draw_figures(folder, report, table)
    _draw_images(folder, truth, shown_parts, report, pictures_of=pictures_of, shown=shown)
    return report


def figures(truth: Mapping[str, Any], detections: Sequence[Detected]) -> dict[str, float | None]:
    """The figures of COCO and of VOC alone, of detections as of `detection_report`; nothing is written."""
    scenes = [error_types.scene(*pair) for pair in zip(objects_of(truth), detections, strict=True)]
    limit = max(LIMIT, *(len(scene.found.scores) for scene in scenes), 0)
    metrics, _ = _coco(truth, results(truth, [scene.found for scene in scenes]), limit)
    return metrics | _voc(scenes, len(truth["categories"]))


def say(console: Console, report: Mapping[str, Any]) -> None:
    """Print the figures, and the classes from the worst on."""
    interval = report["ap50_interval"]
    between = f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    console.print(
        f"          AP [bold]{figure(report['ap'])}[/], AP50 [bold]{figure(report['ap50'])}[/]{between}, "
        f"AP75 {figure(report['ap75'])}, VOC mAP {figure(report['voc_map50'])}; {report['objects']:,} objects in "
        f"{report['images']:,} images"
    )
    console.print(
        f"          with {_condition(report)}: precision {report['precision']:.3f}, recall {report['recall']:.3f}"
    )
    rows = sorted((row for row in report["classes"] if row["objects"]), key=lambda row: float(row["ap50"]))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("class", "objects", "AP", "AP50", "best F1", "at score", "precision", "recall"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows[:LISTED]:
        best = row["best"] or {}
        columns = (row["ap"], row["ap50"], *(best.get(key) for key in ("f1", "score", "precision", "recall")))
        table.add_row(escape(row["name"]), f"{row['objects']:,}", *map(figure, columns))
    console.print(table)
    if len(rows) > LISTED:
        console.print(f"          [dim]the {LISTED} worst of {len(rows)} classes; all are in report.json[/]")


def figure(value: float | None) -> str:
    """A figure of a report for people; – where there is none."""
    return "–" if value is None else f"{value:.3f}"


def _condition(report: Mapping[str, Any]) -> str:
    return f"score ≥ {report['settings']['threshold']:.2f}, IoU ≥ {report['settings']['overlap']}"


def objects_of(truth: Mapping[str, Any]) -> list[Objects]:
    """What is in each image, in order."""
    number = {category["id"]: number for number, category in enumerate(truth["categories"])}
    notes: dict[Any, list[Any]] = {image["id"]: [] for image in truth["images"]}
    for note in truth["annotations"]:
        notes[note["image_id"]].append(note)
    objects = []
    for rows in notes.values():
        boxes = np.array([note["bbox"] for note in rows], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        numbers = np.array([number[note["category_id"]] for note in rows], int)
        objects.append(Objects(boxes, numbers, np.array([_difficult(note) for note in rows], bool)))
    return objects


def _difficult(note: Mapping[str, Any]) -> bool:
    return bool(note.get("iscrowd") or note.get("difficult"))


def results(truth: Mapping[str, Any], detections: Sequence[Detected]) -> list[dict[str, Any]]:
    """The detections in COCO's format of results, in their order."""
    return [
        {
            "image_id": image["id"],
            "category_id": truth["categories"][number]["id"],
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "score": score,
        }
        for image, detected in zip(truth["images"], detections, strict=True)
        for box, score, number in zip(*(column.tolist() for column in detected), strict=True)
    ]


def detected(truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> list[Detected]:
    """What is found in each image, in order: the reverse of `results`."""
    numbers = {category["id"]: number for number, category in enumerate(truth["categories"])}
    rows: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for row in found:
        rows[row["image_id"]].append(row)
    images = []
    for own in rows.values():
        boxes = np.array([row["bbox"] for row in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores, classes = [row["score"] for row in own], [numbers[row["category_id"]] for row in own]
        images.append(Detected(boxes, np.array(scores, np.float64), np.array(classes, np.int64)))
    return images


def _coco(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], limit: int
) -> tuple[dict[str, float | None], list[tuple[float | None, float | None]]]:
    """The figures of pycocotools, and AP and AP50 of each class; None where there is nothing to find."""
    evaluation = coco_evaluation(truth, results, limit)
    # Overlaps, recalls, classes, sizes, detections an image; −1 where there is nothing to find.
    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
    figures = {"ap": mean(precision[..., 0]), "ap50": mean(precision[0, ..., 0]), "ap75": mean(precision[5, ..., 0])}
    for size, name in enumerate(("small", "medium", "large"), 1):
        figures[f"ap_{name}"] = mean(precision[..., size])
    for number, name in enumerate(("ar_1", "ar_10", "ar")):
        figures[name] = mean(recall[:, :, 0, number])
    columns = [evaluation.params.catIds.index(category["id"]) for category in truth["categories"]]
    return figures, [(mean(precision[..., k, 0]), mean(precision[0, :, k, 0])) for k in columns]


def coco_evaluation(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], limit: int, *, kind: str = "bbox"
) -> Any:
    """pycocotools' COCOeval of results, evaluated and accumulated, by boxes or by masks ("segm")."""
    notes = [
        {"area": note["bbox"][2] * note["bbox"][3], **note, "id": number, "iscrowd": int(_difficult(note))}
        for number, note in enumerate(truth["annotations"], 1)  # an id of 0 counts as not found
    ]
    messages = [
        {"area": result["bbox"][2] * result["bbox"][3], **result, "id": number, "iscrowd": 0}
        for number, result in enumerate(results, 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(truth, notes), _indexed(truth, messages), kind)
        evaluation.params.maxDets = [1, 10, limit]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _indexed(truth: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]) -> Any:
    coco = COCO()
    coco.dataset = {"images": truth["images"], "categories": truth["categories"], "annotations": notes}
    coco.createIndex()
    return coco


def mean(values: Array) -> float | None:
    """The mean of pycocotools' figures; None where there was nothing to detect, which it marks by −1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def _voc(scenes: Sequence[Scene], classes: int) -> dict[str, float | None]:
    """VOC's mean over the classes of the average precision, as of 2010 and as of 2007, with VOC's own matching."""
    exact, eleven = [], []
    for number in range(classes):
        scores, outcomes, positives = [np.zeros(0)], [np.zeros(0, np.int8)], 0
        for scene in scenes:
            mine, theirs = scene.found.classes == number, scene.truth.classes == number
            difficult = scene.truth.difficult[theirs]
            matched = voc.match(
                scene.found.boxes[mine], scene.found.scores[mine], scene.truth.boxes[theirs], difficult=difficult
            )
            scores.append(scene.found.scores[mine])
            outcomes.append(matched.outcomes)
            positives += int((~difficult).sum())
        if positives:
            curve = voc.precision_recall(np.concatenate(scores), np.concatenate(outcomes), positives)
            exact.append(voc.average_precision(curve.recall, curve.precision))
            eleven.append(voc.average_precision(curve.recall, curve.precision, points=11))
    return {
        "voc_map50": float(np.mean(exact)) if exact else None,
        "voc2007_map50": float(np.mean(eleven)) if eleven else None,
    }


def _counted(scenes: Sequence[Scene]) -> dict[str, float]:
    """Precision, recall and F1 of all detections together."""
    right, wrong, missed_objects = (
        sum(getattr(scene, name) for scene in scenes) for name in ("right", "wrong", "wanted")
    )
    return {
        "precision": right / max(right + wrong, 1),
        "recall": right / max(missed_objects, 1),
        "f1": 2 * right / max(right + wrong + missed_objects, 1),
    }


def ap50(truth: Mapping[str, Any], detections: Sequence[Detected]) -> tuple[float, tuple[float, float]]:
    """AP50 with its interval of 95 %, of detections as of `detection_report`; NaN where there are no objects."""
    scenes = [error_types.scene(*pair) for pair in zip(objects_of(truth), detections, strict=True)]
    low, high = _interval(error_types.table(scenes, len(truth["categories"]))) or (float("nan"), float("nan"))
    value = figures(truth, detections)["ap50"]
    return float("nan") if value is None else value, (low, high)


def _parts(truth: Mapping[str, Any], scenes: Sequence[Scene], square: int | None) -> list[Square]:
    """The images, or squares of them of about so many pixels a side."""
    if square is None:
        return [Square(row, None, scene) for row, scene in enumerate(scenes)]
    extents = [(image["height"], image["width"]) for image in truth["images"]]
    pairs = enumerate(zip(scenes, extents, strict=True))
    return [part for row, pair in pairs for part in error_types.squares(row, *pair, side=square)]


def _interval(table: error_types.Table) -> list[float] | None:
    """The 95 % interval of AP50 by the bootstrap over images, or parts; None of a single one or without objects."""
    images = len(table.positives)
    if images < 2 or not table.positives.any():
        return None
    weights = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
    drawn = table.resampled_ap50(weights)
    return [float(value) for value in np.nanpercentile(drawn, (2.5, 97.5))]


def _rows(
    table: error_types.Table,
    by_class: Sequence[tuple[float | None, float | None]],
    classes: Sequence[str],
    threshold: float,
) -> list[dict[str, Any]]:
    """A row for each class: its figures, its best threshold, and what it is worth there and at the common one."""
    rows = []
    for number, (name, (ap, ap50)) in enumerate(zip(classes, by_class, strict=True)):
        curve, objects = table.curve(number), int(table.positives[:, number].sum())
        best = voc.best_point(curve) if objects else None
        rows.append(
            {
                "name": name,
                "objects": objects,
                "detections": int((table.classes == number).sum()),
                "ap": ap,
                "ap50": ap50,
                "best": best and best._asdict(),
                "at_threshold": voc.operating_point(curve, threshold)._asdict() if objects else None,
            }
        )
    return rows


def _errors(scenes: Sequence[Scene], shown_scenes: Sequence[Scene], classes: int) -> dict[str, dict[str, float]]:
    """How many errors of each kind there are from the threshold on, and what each kind costs AP50 over all scores."""
    counts, gains = error_types.counts(shown_scenes), error_types.gains(scenes, classes)
    return {kind: {"count": counts[kind], "ap50_gain": round(gains[kind], 6)} for kind in KINDS}


def _predictions_csv(truth: Mapping[str, Any], scenes: Sequence[Scene], classes: Sequence[str]) -> str:
    """A row for each detection from the threshold on and, without a score, for each missed object."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "class", "score", "left", "top", "right", "bottom", "outcome"])
    for image, scene in zip(truth["images"], scenes, strict=True):
        name = image.get("file_name", image["id"])
        for row in np.argsort(-scene.found.scores, kind="stable"):
            outcome = {1: "right", -1: "difficult"}.get(int(scene.outcomes[row])) or KINDS[scene.kinds[row]]
            box = [f"{side:.2f}" for side in scene.found.boxes[row]]
            writer.writerow([name, classes[scene.found.classes[row]], f"{scene.found.scores[row]:.6f}", *box, outcome])
        for row in np.flatnonzero(scene.missed):
            box = [f"{side:.2f}" for side in scene.truth.boxes[row]]
            writer.writerow([name, classes[scene.truth.classes[row]], "", *box, "missed"])
    return out.getvalue()


def _draw_figures(folder: Path, report: Mapping[str, Any], table: error_types.Table) -> None:
    names, where = [row["name"] for row in report["classes"]], _condition(report)
    objects = f"{report['objects']:,} objects"
    decoding = f" ({report['settings']['decoding']})" if report["settings"]["decoding"] else ""
    scored = f"AP50 {figure(report['ap50'])} over all scores{decoding}"
    curves = [
        charts.Precision(row["name"], row["ap50"], curve.recall, curve.precision, (at["recall"], at["precision"]))
        for number, row in enumerate(report["classes"])
        if (at := row["at_threshold"])
        for curve in [table.curve(number)]
    ]
    heading = f"{objects}, {scored}; dots at {where}"
    charts.precision_recall(curves, folder / "pr_curves.png", heading=heading)
    matrix, heading = np.array(report["confusion"]), f"{objects}, {where}"
    charts.confusion_matrix(matrix, [*names, BACKGROUND], folder / "confusion_matrix.png", heading=heading)
    labels = [f"{kind}\n{meaning}".strip() for kind, meaning in zip(KINDS, MEANINGS, strict=True)]
    panels = [
        charts.Panel(
            quantity, bars={label: errors[key] for label, errors in zip(labels, report["errors"].values(), strict=True)}
        )
        for quantity, key in (
            (f"errors at {where}", "count"),
            ("AP50 gained without them, over all scores", "ap50_gain"),
        )
    ]
    charts.panels(panels, folder / "errors.png", heading=f"{objects}, {scored}")


def _draw_images(
    folder: Path,
    truth: Mapping[str, Any],
    parts: Sequence[Square],
    report: Mapping[str, Any],
    *,
    pictures_of: Callable[[list[int]], list[Array]],
    shown: int,
) -> None:
    """Draw the images, or parts, with the highest and the lowest F1; more objects or more mistakes come first."""
    informative = [part for part in parts if part.scene.wanted or part.scene.right or part.scene.wrong]
    names = [row["name"] for row in report["classes"]]
    shown = min(shown, -(-len(informative) // 2))  # no image is among both, but of an odd number the middle one
    for which, selection in (
        ("best", sorted(informative, key=lambda part: (-part.scene.f1, -part.scene.wanted))),
        ("worst", sorted(informative, key=lambda part: (part.scene.f1, -part.scene.mistakes))),
    ):
        selection = selection[:shown]
        images = sorted({part.image for part in selection})
        pixels = dict(zip(images, pictures_of(images) if images else [], strict=True))
        pictures, captions = [], []
        for part in selection:
            scene, facts = part.scene, truth["images"][part.image]
            pictures.append(_drawn(pixels[part.image], facts, part, names))
            where = f" at {part.window[0]}, {part.window[1]}" if part.window else ""
            captions.append(
                [
                    f"{scene.right} of {scene.wanted} found, {scene.wrong} wrong",
                    f"{facts.get('file_name', facts['id'])}{where}",
                ]
            )
        what = f"{len(parts)} {'parts' if parts and parts[0].window else 'images'}"
        heading = f"The {which} {len(selection)} of {what}, {_condition(report)}" if selection else "Nothing to show"
        legend = "blue: right · orange: wrong · dashed: truth" + " · light blue: difficult" * bool(report["difficult"])
        image_grid.detections(pictures, captions, folder / f"{which}.png", heading=f"{heading} · {legend}", size=SIDE)


def _drawn(image: Array, facts: Mapping[str, Any], part: Square, names: Sequence[str]) -> Array:
    """The image with its boxes; the name of an only class is left out, and of true objects those missed are named."""
    height, width = facts.get("height", image.shape[0]), facts.get("width", image.shape[1])
    scale = np.tile([image.shape[1] / width, image.shape[0] / height], 2)
    left, top, right, bottom = np.round(np.array(part.window or (0, 0, width, height)) * scale).astype(int)
    move, scene = np.array([left, top, left, top]), part.scene
    shades = {1: RIGHT, 0: WRONG, -1: NEITHER}
    names = names if len(names) > 1 else [""]
    missed_names = [
        names[number] if lost else "" for number, lost in zip(scene.truth.classes, scene.missed, strict=True)
    ]
    return annotate.draw_boxes(
        image[top:bottom, left:right],
        scene.found.boxes * scale - move,
        [names[number] for number in scene.found.classes],
        scene.found.scores.tolist(),
        classes=[shades[int(outcome)] for outcome in scene.outcomes],
        truth=annotate.Truth(scene.truth.boxes * scale - move, missed_names),
        side=round(SIDE * image_grid.DOTS),
    )
