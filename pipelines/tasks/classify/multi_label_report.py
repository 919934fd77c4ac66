"""Evaluation of images with any number of labels: thresholds from the validation split, then figures on the test split.

A label is answered where its probability reaches a threshold of its own, the one of the largest F1 on the validation
split. The report has the figures at these thresholds beside those at ½ for all, and beside the label shares: what
answers every image with how often the training split has each label. Crops have thresholds of their own.
"""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.metrics import classification
from cnn_keras.metrics import multi_label as metrics
from pipelines.data import image_dataset, run_files
from pipelines.engine import plugins, requirement
from pipelines.engine.classification import (
    classifier,
    classifier_report,
    ensemble,
    ensemble_gain,
    label_kind,
    visualization,
)
from pipelines.engine.stages import Run
from pipelines.plots import charts, image_grid, label_charts
from pipelines.plots.image_grid import Array
from pipelines.tasks.classify import test_time_augmentation as crops
from pipelines.tasks.classify.config import Evaluate
from pipelines.tasks.classify.dataset import batches, pictures

SHARES = "label shares"  # the baseline
Ask = Callable[[Any], Array]  # a batch of images to probabilities, (batch, classes)


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Choose the thresholds, measure the model on the test split; say which requirements failed."""
    data, shape, prepared = run.facts("prepare"), image_dataset.shape_of(run.recipe.data), run.finished("prepare")
    settings: Evaluate = run.recipe.evaluate
    names, split, chosen_on = data["classes"], image_dataset.test_split(data), image_dataset.validation_split(data)
    model = classifier.load_trained(run)
    predict = _ask(model)

    def answers(part: str, ask: Ask = predict, shape: Shape = shape) -> tuple[Array, Array, list[str]]:
        probabilities, labels, ids = classifier_report.answers(
            run, ask, batches(prepared, part, shape), data["splits"][part]
        )
        return probabilities.astype(np.float64), labels >= 0.5, ids

    def average(ask: Ask, part: str) -> float:
        probabilities, truth, _ = answers(part, ask)
        return float(np.nanmean(metrics.average_precisions(probabilities, truth)))

    validated, had, _ = answers(chosen_on)
    thresholds = metrics.best_thresholds(validated, had).round(6)
    probabilities, truth, ids = answers(split)
    report = measure(probabilities, truth, thresholds, names)
    report |= plugins.measure(settings.metrics, truth.astype(np.int64), probabilities)
    report |= {"split": split, "thresholds_from": chosen_on}
    if settings.crops:
        frame, answer = crops.cropped(run.recipe)
        ask = inference.predictor(model, partial(answer, model), looks=crops.count(run.recipe))
        thresholds_of_crops = metrics.best_thresholds(*answers(chosen_on, ask, frame)[:2]).round(6)
        of_crops = answers(split, ask, frame)[0]
        report["crops"] = {
            **measure(of_crops, truth, thresholds_of_crops, names),
            **metrics.average_precision_gain(probabilities, of_crops, truth),
            **_crops_cost(run.recipe, model, partial(answer, model), frame),
        }
    if members := ensemble.members(model):
        report["members"] = [average(_ask(member), split) for member in members]
    if settings.gap:
        report["train"] = {"mean_average_precision": average(predict, "train")}
        report["gap"] = report["train"]["mean_average_precision"] - report["mean_average_precision"]
    if settings.baselines or settings.beat:
        report["baselines"] = {SHARES: _label_shares(data, had, truth)}
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", _predictions_csv(ids, truth, probabilities, thresholds, names))
    _draw(run, folder, report, probabilities=probabilities, truth=truth, ids=ids)
    _say(run, report)
    if settings.insight:
        visualization.draw(
            next(iter(ensemble.members(model)), model),
            prepared,
            split=split,
            shape=shape,
            names=names,
            folder=folder,
            console=run.console,
            activation=label_kind.MULTI.activation,
        )
    figures = {f"test_{key}": value for key, value in report.items() if isinstance(value, float)}
    figures |= {
        f"test_crops_{key}": value for key, value in report.get("crops", {}).items() if isinstance(value, float)
    }
    for key, value in report.get("baselines", {}).get(SHARES, {}).items():
        figures[f"baseline_{SHARES}_{key}"] = value
    return {"metrics": figures, "failed": _failed(settings, report)}


def _ask(model: keras.Model) -> Ask:
    """What asks a model about a batch of images."""
    ask: Ask = inference.predictor(model, partial(label_kind.MULTI.probabilities, model))
    return ask


def _crops_cost(recipe: Any, model: keras.Model, answer: Callable[[Any], Any], frame: Shape) -> dict[str, Any]:
    """How the crops are cut, and what they cost beside the whole image."""
    looks = crops.count(recipe)
    combined = ensemble_gain.Combined(model, answer, (None, *frame.size, frame.channels), looks)
    return {**recipe.evaluate.crops.model_dump(), "count": looks, "cost": ensemble_gain.cost(model, combined)}


def measure(probabilities: Array, truth: Array, thresholds: Array, names: Sequence[str]) -> dict[str, Any]:
    """The figures of one split, as plain JSON.

    Args:
        probabilities: float64 (N, classes).
        truth: bool (N, classes), which labels each image has.
        thresholds: float64 (classes,).
        names: of the classes.
    """
    answers, plain = probabilities >= thresholds, probabilities >= 0.5
    averages, chosen, halves = (
        metrics.average_precisions(probabilities, truth),
        *(metrics.f1(values, truth) for values in (answers, plain)),
    )
    columns = precision_recall_fscore_support(truth, answers, average=None, zero_division=0)
    f1_at_half = precision_recall_fscore_support(truth, plain, average=None, zero_division=0)[2]
    intervals = metrics.intervals(probabilities, truth, thresholds)
    whole = int((answers == truth).all(axis=1).sum())
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    report: dict[str, Any] = {
        "examples": len(truth),
        "mean_average_precision": float(np.nanmean(averages)),
        "micro_f1": float(chosen.micro),
        "macro_f1": float(chosen.macro),
        "micro_f1_at_half": float(halves.micro),
        "macro_f1_at_half": float(halves.macro),
        "micro_f1_gain": float(chosen.micro - halves.micro),
        "macro_f1_gain": float(chosen.macro - halves.macro),
        "subset_accuracy": whole / len(truth),
        "subset_accuracy_interval": list(classification.wilson_interval(whole, len(truth))),
        "log_loss": float(-np.mean(np.where(truth, np.log(clipped), np.log(1 - clipped)))),
    }
    report |= {f"{name}_interval": list(interval) for name, interval in intervals.items()}
    rows = zip(names, *columns, f1_at_half, averages, thresholds, strict=True)
    report["classes"] = [
        {
            "name": name,
            "support": int(support),
            "share": float(support / len(truth)),
            "average_precision": None if np.isnan(average) else float(average),
            "threshold": float(threshold),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "f1_at_half": float(half),
        }
        for name, precision, recall, f1, support, half, average, threshold in rows
    ]
    return report


def thresholds_of(run: Run) -> Array:
    """The thresholds that the evaluation chose for what is exported, float32 (classes,)."""
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    rows = report["crops"]["classes"] if run.recipe.export.crops else report["classes"]
    return np.array([row["threshold"] for row in rows], np.float32)


def card_lines(report: dict[str, Any]) -> list[str]:
    """The figures for a model card, in Markdown."""

    def interval(key: str) -> str:
        low, high = report[f"{key}_interval"]
        return f"{report[key]:.3f} (95 % interval {low:.3f} to {high:.3f})"

    baseline = report.get("baselines", {}).get(SHARES)
    return [
        f"On the {report['split']} split of {report['examples']:,} images: mean average precision "
        f"**{interval('mean_average_precision')}**; at the thresholds, chosen on the {report['thresholds_from']} "
        f"split, micro F1 {interval('micro_f1')} and macro F1 {interval('macro_f1')}, at ½ for all "
        f"{report['micro_f1_at_half']:.3f} and {report['macro_f1_at_half']:.3f}.",
        "",
        *(
            [
                f"The label shares alone reach a mean average precision of {baseline['mean_average_precision']:.3f}, "
                f"a micro F1 of {baseline['micro_f1']:.3f} and a macro F1 of {baseline['macro_f1']:.3f}.",
                "",
            ]
            if baseline
            else []
        ),
        "| label | images | average precision | threshold | precision | recall | F1 | F1 at ½ |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['name']} | {row['support']} | {_figure(row['average_precision'])} | {row['threshold']:.3f} | "
            f"{row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['f1_at_half']:.3f} |"
            for row in report["classes"]
        ),
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _label_shares(data: dict[str, Any], validated: Array, truth: Array) -> dict[str, float]:
    """What the shares of the labels in the training split reach, with thresholds chosen in the same way."""
    counts, total = data["counts"]["train"], data["splits"]["train"]
    shares = np.array([counts.get(name, 0) / total for name in data["classes"]])
    thresholds = metrics.best_thresholds(np.tile(shares, (len(validated), 1)), validated)
    probabilities = np.tile(shares, (len(truth), 1))
    figures = metrics.f1(probabilities >= thresholds, truth)
    average = float(np.nanmean(metrics.average_precisions(probabilities, truth)))
    return {"mean_average_precision": average, "micro_f1": float(figures.micro), "macro_f1": float(figures.macro)}


def _failed(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    failures = requirement.failed_requirements(settings, report)
    for name in settings.beat:
        figure, reached = report["baselines"][name]["mean_average_precision"], report["mean_average_precision"]
        if not requirement.reaches(reached, figure):
            failures.append(
                f"evaluate.beat: mean_average_precision must reach that of the {name}, {figure:.4f}, got {reached:.4f}"
            )
    return failures


def _predictions_csv(
    ids: Sequence[str], truth: Array, probabilities: Array, thresholds: Array, names: Sequence[str]
) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", *(f"p({name})" for name in names)])
    for identity, had, row in zip(ids, truth, probabilities, strict=True):
        answers = ("|".join(_names(values, names)) for values in (had, row >= thresholds))
        writer.writerow([identity, *answers, *(f"{value:.6f}" for value in row)])
    return out.getvalue()


def _names(values: Array, names: Sequence[str]) -> list[str]:
    return [name for name, value in zip(names, values, strict=True) if value]


def _draw(
    run: Run, folder: Path, report: dict[str, Any], *, probabilities: Array, truth: Array, ids: Sequence[str]
) -> None:
    names = [row["name"] for row in report["classes"]]
    thresholds = np.array([row["threshold"] for row in report["classes"]])
    label_charts.f1_by_label(report["classes"], folder / "thresholds.png", split=report["thresholds_from"])
    curves = []
    for row, had, scores in zip(report["classes"], truth.T, probabilities.T, strict=True):
        if had.any():
            precision, recall, _ = precision_recall_curve(had, scores)
            point = (row["recall"], row["precision"])
            curve = (recall[::-1], precision[::-1])
            curves.append(charts.Precision(row["name"], row["average_precision"], *curve, point))
    heading = (
        f"Precision over recall of {len(curves)} labels on {report['examples']:,} {report['split']} images; dots at "
        f"the thresholds. Mean average precision {report['mean_average_precision']:.3f}"
    )
    charts.precision_recall(curves, folder / "precision_recall.png", heading=heading, figure_of="average precision")
    errors = np.where((probabilities >= thresholds) != truth, np.abs(probabilities - truth), 0)
    rows = [int(row) for row in np.argsort(-errors.max(axis=1), kind="stable") if errors[row].any()]
    rows = rows[: run.recipe.evaluate.worst]
    captions = []
    for row in rows:
        worst = int(errors[row].argmax())
        word = "missed" if truth[row, worst] else "wrong"
        captions.append(
            [
                f"true {', '.join(_names(truth[row], names)) or 'none'}",
                f"predicted {', '.join(_names(probabilities[row] >= thresholds, names)) or 'none'}",
                f"{word} {names[worst]} ({probabilities[row, worst]:.2f})",
                ids[row],
            ]
        )
    shape = image_dataset.shape_of(run.recipe.data)
    images = pictures(run.finished("prepare"), report["split"], shape, rows)
    heading = f"The {len(rows)} most confident mistakes" if rows else "No mistakes"
    image_grid.detections(images, captions, folder / "worst.png", heading=heading, size=2.2)


def _say(run: Run, report: dict[str, Any]) -> None:
    say = run.console.print
    (low, high), (least, most) = report["mean_average_precision_interval"], report["micro_f1_gain_interval"]
    say(
        f"          {report['split']} mean average precision [bold]{report['mean_average_precision']:.3f}[/] (95 % "
        f"interval {low:.3f} to {high:.3f}, {report['examples']:,} images)"
    )
    say(
        f"          thresholds from {report['thresholds_from']}: micro F1 {report['micro_f1']:.3f}, macro F1 "
        f"{report['macro_f1']:.3f}; at ½ {report['micro_f1_at_half']:.3f} and {report['macro_f1_at_half']:.3f}, a gain "
        f"of {report['micro_f1_gain']:+.3f} (95 % interval {least:+.3f} to {most:+.3f}) and "
        f"{report['macro_f1_gain']:+.3f} ({report['macro_f1_gain_interval'][0]:+.3f} to "
        f"{report['macro_f1_gain_interval'][1]:+.3f})"
    )
    if many := report.get("crops"):
        low, high = many["gain_interval"]
        alone, seconds = many["cost"]["seconds"]
        say(
            f"          {many['count']} crops: mean average precision {many['mean_average_precision']:.3f}, "
            f"{many['gain']:+.3f} (95 % interval {low:+.3f} to {high:+.3f}) beside the whole image, for "
            f"{seconds / alone:.2g} × the time"
        )
    if members := report.get("members"):
        say(
            f"          its {len(members)} members alone have a mean average precision of "
            f"{min(members):.3f} to {max(members):.3f}, on average {np.mean(members):.3f}"
        )
    if "gap" in report:
        trained = report["train"]["mean_average_precision"]
        say(f"          train mean average precision {trained:.3f}: a gap of {report['gap']:.3f}")
    for name, row in report.get("baselines", {}).items():
        better = row["mean_average_precision"] > report["mean_average_precision"]
        say(
            f"          [dim]{name:>20} mean average precision {row['mean_average_precision']:.3f}, micro F1 "
            f"{row['micro_f1']:.3f}, macro F1 {row['macro_f1']:.3f}[/]"
            + ("  [yellow]better than the network[/]" if better else "")
        )
