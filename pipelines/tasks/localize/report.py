"""What `evaluate` measures of a localizer, beside an answer that never changes: figures, predictions, pictures."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.metrics.classification import wilson_interval
from cnn_keras.models import localize
from cnn_keras.models.localize import Localization
from cnn_keras.ops import boxes
from cnn_keras.ops import landmarks as points
from pipelines.data import image_dataset, run_files, validation
from pipelines.data.boxes import box_batches
from pipelines.engine import heat_maps, plugins, requirement
from pipelines.engine.stages import Run
from pipelines.plots import annotate, image_grid
from pipelines.tasks.localize import explanation
from pipelines.tasks.localize.config import Evaluate
from pipelines.tasks.localize.decode import Locator, load_trained
from pipelines.tasks.localize.training import targets_of

BATCH = 32  # pictures that are measured at once
ALPHA = 0.1  # of the longer side of a thing: a landmark missed by no more is found
OVERLAP = 0.5  # IoU from which a box is right


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside an answer that never changes; say which requirements failed."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split, names, landmarks = image_dataset.test_split(data), data["classes"], data["landmarks"]
    locator = load_trained(run)
    with validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        examples = box_batches.examples(run, split).batch(BATCH)
        answers = predict(locator, examples, targets_of(run), lambda done: bar.advance(task, done))
    report = {"split": split, **measure(answers, names, landmarks, settings.threshold)}
    report |= plugins.measure(settings.metrics, answers.truth, answers.predicted)
    report["baseline"] = _baseline(run, locator, answers)
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", predictions_csv(answers, names, landmarks))
    _draw(run, folder, answers, split)
    if settings.insight:
        pictures = box_batches.original_pictures(run, split, range(min(heat_maps.SHOWN, len(answers.ids))))
        heading = "What the answers rest on: Grad-CAM of the presence and the class"
        heat_maps.report(explanation.explainer(run), zip(pictures, answers.ids, strict=False), folder, heading=heading)
    say(run, report)
    metrics = {f"test_{key}": value for key, value in report.items() if isinstance(value, float) and key != "alpha"}
    return {"metrics": metrics, "failed": requirement.failed_requirements(settings, report)}


class Answers(NamedTuple):
    """What is true and what was predicted of the pictures of a split, in their order; coordinates in pixels."""

    ids: list[str]
    truth: Localization  # of NumPy arrays
    predicted: Localization


def predict(locator: Locator, examples: tf.data.Dataset, encode: Any, advance: Any) -> Answers:
    """One pass over a split: `examples` in batches with `image`, `extent` and `id`; `encode` makes their targets."""
    ask = inference.predictor(locator.model, locator)
    ids: list[str] = []
    truths, answers = [], []
    for batch in examples:
        truths.append(locator.truth(encode(batch), batch["extent"], batch["image"].shape[1:3]))
        answers.append(ask(batch["image"], batch["extent"]))
        ids += [name.decode() for name in batch["id"].numpy()]
        advance(len(batch["id"]))
    joined = [
        Localization(*(np.concatenate(column) for column in zip(*parts, strict=True))) for parts in (truths, answers)
    ]
    return Answers(ids, *joined)


def measure(answers: Answers, names: Sequence[str], landmarks: Sequence[str], threshold: float) -> dict[str, Any]:
    """The report: of all pictures whether anything is there; of those that show something what and where.

    `accuracy` is the share of the things that are found: p_c from the threshold on, the right class, an IoU of at least
    OVERLAP. `mean_iou` and `class_accuracy` are over all things, whatever p_c is.
    """
    truth, predicted = answers.truth, answers.predicted
    here, is_found = truth.presence > 0, predicted.presence >= threshold
    overlap = np.asarray(boxes.iou(truth.boxes, predicted.boxes))[here]
    named = (truth.classes.argmax(-1) == predicted.classes.argmax(-1))[here]
    right = named & is_found[here] & (overlap >= OVERLAP)
    report: dict[str, Any] = {
        "images": len(here),
        "things": int(here.sum()),
        "threshold": threshold,
        "presence_accuracy": float((here == is_found).mean()),
        "class_accuracy": float(named.mean()),
        "mean_iou": float(overlap.mean()),
        "accuracy": float(right.mean()),
        "accuracy_interval": list(wilson_interval(int(right.sum()), len(right))),
        "classes": [
            {"name": name, "things": int(own.sum()), "accuracy": float(right[own].mean()) if own.any() else None}
            for name, own in ((name, truth.classes[here].argmax(-1) == row) for row, name in enumerate(names))
        ],
    }
    if landmarks:
        far = points.distances(truth.landmarks[here], predicted.landmarks[here])
        report |= {
            "alpha": ALPHA,
            "pck": points.pck(far, truth.boxes[here], alpha=ALPHA),
            "nme": points.nme(far, truth.boxes[here]),
            "landmarks": [
                {
                    "name": name,
                    "seen": int((~np.isnan(far[:, row])).sum()),
                    "pck": points.pck(far[:, row : row + 1], truth.boxes[here], alpha=ALPHA),
                    "nme": points.nme(far[:, row : row + 1], truth.boxes[here]),
                }
                for row, name in enumerate(landmarks)
            ],
        }
    return report


def constant_answer(target: np.ndarray[Any, Any], classes: int) -> np.ndarray[Any, Any]:
    """The vector that says the same of every picture: the mean box and landmarks of these targets, their usual class.

    What a network must beat: float32 (5 + classes + 2 · landmarks,), before any sigmoid.
    """
    here = target[target[:, 0] > 0]
    marks = here[:, 5 + classes :].reshape(len(here), -1, 3)
    visible = marks[..., 2:]
    middle = (marks[..., :2] * visible).sum(axis=0) / np.maximum(visible.sum(axis=0), 1)
    places = np.clip(np.concatenate([here[:, 1:5].mean(axis=0), middle.ravel()]), 1e-6, 1 - 1e-6)
    logits = np.log(places / (1 - places))
    presence = [20.0 if 2 * len(here) >= len(target) else -20.0]
    return np.concatenate([presence, logits[:4], here[:, 5 : 5 + classes].sum(axis=0), logits[4:]]).astype(np.float32)


def say(run: Run, report: dict[str, Any]) -> None:
    """The figures, for people."""
    low, high = report["accuracy_interval"]
    line = (
        f"          {report['split']}: object or none [bold]{report['presence_accuracy']:.2%}[/] right at p_c "
        f"{report['threshold']:g} ({report['images']:,} images); mean IoU {report['mean_iou']:.3f}; class, box and "
        f"presence [bold]{report['accuracy']:.2%}[/] right at IoU {OVERLAP:g} (95 % interval {low:.2%} to {high:.2%}, "
        f"{report['things']:,} things)"
    )
    run.console.print(line)
    if "pck" in report:
        run.console.print(
            f"          landmarks: {report['pck']:.2%} within {ALPHA:g} of the longer side (PCK@{ALPHA:g}), mean error "
            f"{report['nme']:.2%} of √(width · height) (NME)"
        )
    same = report["baseline"]
    line = f"always the mean box and most frequent class: mean IoU {same['mean_iou']:.3f}, right {same['accuracy']:.2%}"
    line += f", PCK@{ALPHA:g} {same['pck']:.2%}" if "pck" in same else ""
    run.console.print(f"          [dim]{line}[/]")


def predictions_csv(answers: Answers, names: Sequence[str], landmarks: Sequence[str]) -> str:
    """One row for each picture: what is true, what was predicted, in pixels."""
    truth, predicted = answers.truth, answers.predicted
    overlap = np.asarray(boxes.iou(truth.boxes, predicted.boxes))
    edges = ("left", "top", "right", "bottom")
    marks = [f"{name}_{axis}" for name in landmarks for axis in ("x", "y")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "presence", "iou", *edges, *marks])
    for row, name in enumerate(answers.ids):
        true = names[truth.classes[row].argmax()] if truth.presence[row] else ""
        numbers = [*predicted.boxes[row], *predicted.landmarks[row].ravel()]
        figures = [f"{predicted.presence[row]:.6f}", f"{overlap[row]:.4f}", *(f"{value:.2f}" for value in numbers)]
        writer.writerow([name, true, names[predicted.classes[row].argmax()], *figures])
    return out.getvalue()


def worst_rows(answers: Answers, threshold: float, count: int) -> list[int]:
    """Rows of the pictures that were answered worst: wrong about whether anything is there, then by IoU."""
    here, is_found = answers.truth.presence > 0, answers.predicted.presence >= threshold
    overlap = np.asarray(boxes.iou(answers.truth.boxes, answers.predicted.boxes))
    badness = np.where(
        here != is_found, 2 + np.abs(answers.predicted.presence - 0.5), np.where(here, 1 - overlap, -1.0)
    )
    order = np.argsort(-badness, kind="stable")[:count]
    return [int(row) for row in order if badness[row] > 0]


def draw_answer(image: Any, answers: Answers, row: int, names: Sequence[str], threshold: float) -> Any:
    """A picture, uint8 (height, width, 3), with what was predicted of it and, white and dashed, what is true."""
    truth, predicted = answers.truth, answers.predicted
    here, is_found = truth.presence[row] > 0, predicted.presence[row] >= threshold
    number = int(predicted.classes[row].argmax())
    real = truth.boxes[row : row + 1] if here else np.zeros((0, 4))
    boxes = predicted.boxes[row : row + 1] if is_found else np.zeros((0, 4))
    label, scores = ([names[number]], [float(predicted.presence[row])]) if is_found else ([], [])
    true = annotate.Truth(real, [names[int(truth.classes[row].argmax())]] if here else [])
    picture = annotate.draw_boxes(
        image, boxes, label, scores, classes=[number] if is_found else [], truth=true, side=320
    )
    scale = picture.shape[0] / image.shape[0]
    if here:
        marks = truth.landmarks[row]
        picture = annotate.draw_points(picture, marks[:, :2] * scale, visible=marks[:, 2] > 0, ring=True)
    return annotate.draw_points(picture, predicted.landmarks[row] * scale) if is_found else picture


def _baseline(run: Run, locator: Locator, answers: Answers) -> dict[str, Any]:
    """What the training split's mean box and usual class, said of every picture, are worth on the same split."""
    recipe, data = run.recipe, run.facts("prepare")
    names, landmarks = data["classes"], data["landmarks"]
    examples = box_batches.examples(run, "train").batch(BATCH)
    targets = np.concatenate([targets_of(run)(batch).numpy() for batch in examples])
    vector = tf.constant(constant_answer(targets, len(names)))
    sizes = tf.constant(_extents(run, image_dataset.test_split(data)))
    same = localize.decode(tf.tile(vector[None], [len(sizes), 1]), classes=len(names))
    mean_boxes = locator.pixels(same, sizes, recipe.data.size)
    constant = answers._replace(predicted=type(mean_boxes)(*(part.numpy() for part in mean_boxes)))
    return measure(constant, names, landmarks, threshold=0.5)


def _extents(run: Run, split: str) -> Any:
    """Heights and widths of a split's pictures: int32 (N, 2)."""
    return np.stack(
        [extent.numpy() for extent in box_batches.examples(run, split).map(lambda example: example["extent"])]
    )


def _draw(run: Run, folder: Path, answers: Answers, split: str) -> None:
    """The first pictures of the split, and the worst, with what was said and what is true."""
    settings, names = run.recipe.evaluate, run.facts("prepare")["classes"]
    first = list(range(min(settings.shown, len(answers.ids))))
    worst = worst_rows(answers, settings.threshold, settings.shown)
    rows = [*first, *worst]
    images = dict(zip(rows, box_batches.original_pictures(run, split, rows), strict=True))
    headings = {
        "predictions": (first, f"Predictions with p_c ≥ {settings.threshold:g}; white and dashed: truth"),
        "worst": (worst, f"The {len(worst)} worst predictions; white and dashed: truth" if worst else "No mistakes"),
    }
    for name, (rows, heading) in headings.items():
        pictures = [draw_answer(images[row], answers, row, names, settings.threshold) for row in rows]
        titles = [answers.ids[row] for row in rows]
        image_grid.contact_sheet(pictures, titles, folder / f"{name}.png", columns=4, size=2.6, heading=heading)
