"""What every classifier reports of the test split, whatever it looks at: figures, charts, mistakes, requirements."""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.markup import escape

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.metrics import classification
from pipelines.data import image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.engine import plugins, requirement
from pipelines.engine.classification import calibration, classifier, dropout_samples, ensemble, ensemble_gain
from pipelines.engine.classification.classification_report import classification_report
from pipelines.engine.classification.classifier_config import Evaluate
from pipelines.engine.classification.ensemble_gain import Array
from pipelines.engine.stages import Run
from pipelines.plots import charts, image_grid, roc

MEASURED = {  # where a metric is, that is not everywhere
    "top_5_accuracy": "it is measured for 11 classes or more",
    "macro_auc": "it is measured for 3 to 10 classes, two of them in the split",
    **dict.fromkeys(("auc", "average_precision"), "it is measured for two classes that are both in the split"),
}


def evaluate(
    run: Run,
    folder: Path,
    *,
    batches: Callable[[str], Iterable[tuple[Any, Any, list[str]]]],
    baselines: Callable[[], dict[str, Any]],
    pictures_of: Callable[[list[int]], list[np.ndarray[Any, Any]]],
    noun: str = "image",
    further: Callable[[keras.Model, np.ndarray[Any, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed.

    Args:
        batches: one pass over a split: (what the model takes, labels int64 (batch,), ids).
        baselines: measures those on the same split: {"accuracy": {name: share}, "note": …}.
        pictures_of: pictures, uint8, of the examples with these row numbers of the split.
        noun: what an example is called.
        further: more parts of the report, of the model and whether it was right about each example, bool (N,).
    """
    data = run.facts("prepare")
    settings: Evaluate = run.recipe.evaluate
    names, split = data["classes"], image_dataset.test_split(data)
    model = classifier.load_trained(run)
    answer = inference.predictor(ensemble.aloud(model))
    each, labels, ids = answers(run, answer, batches(split), data["splits"][split])
    probabilities, right = each[:, 0], each.argmax(axis=-1) == labels[:, None]
    report = classification_report(labels, probabilities, names)
    report |= plugins.measure(settings.metrics, labels, probabilities)
    report["split"] = split
    if ensemble.members(model):
        report["ensemble"] = ensemble.measure(model, right[:, 1:], right[:, 0])
    if settings.calibrates and (validated := image_dataset.validation_split(data)) == "validation":
        others, truth, _ = answers(run, answer, batches(validated), data["splits"][validated])
        report["calibrated"] = calibration.measure(
            (others[:, 0], truth), (probabilities, labels), error=settings.reject_error
        )
    if settings.dropout_samples:
        report["dropout_samples"] = dropout_samples.measure(
            model,
            settings.dropout_samples,
            lambda ask: answers(run, ask, batches(split), data["splits"][split])[0],
            single=probabilities,
            labels=labels,
            names=names,
            ids=ids,
            folder=folder,
        )
    report |= further(model, right[:, 0]) if further else {}
    if settings.baselines or settings.beat:
        run.console.print("          fitting baselines")
        report["baselines"] = baselines()
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", _predictions_csv(ids, labels, probabilities, names))
    _draw_answers(folder, names, probabilities, labels, report)
    rows = [int(row) for row in classification.confident_mistakes(probabilities, labels, settings.worst)]
    truths, predictions = (
        [names[number] for number in column[rows]] for column in (labels, probabilities.argmax(axis=1))
    )
    confidences, wrong = probabilities[rows].max(axis=1).tolist(), [ids[row] for row in rows]
    image_grid.worst(pictures_of(rows), truths, predictions, confidences, wrong, folder / "worst.png")
    _say_report(run, report, noun)
    test_metrics = {f"test_{key}": value for key, value in report.items() if isinstance(value, float)}
    test_metrics |= {f"baseline_{key}": value for key, value in report.get("baselines", {}).get("accuracy", {}).items()}
    test_metrics |= {f"train_{key}": value for key, value in report.get("train", {}).items()}
    if calibrated := report.get("calibrated"):
        test_metrics |= {f"test_calibrated_{key}": calibrated[key] for key in ("log_loss", "calibration_error")}
        test_metrics["temperature"] = calibrated["temperature"]
    if "dropout_samples" in report:
        test_metrics |= dropout_samples.metrics(report["dropout_samples"])
    for part in ensemble_gain.PARTS & report.keys():
        test_metrics |= ensemble_gain.metrics(part, report[part])
    return {"metrics": test_metrics, "failed": failed_requirements(settings, report)}


def failed_requirements(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    failures = requirement.failed_requirements(settings, report, missing=MEASURED)
    for name in settings.beat:
        figure = report["baselines"]["accuracy"][name]
        if not requirement.reaches(report["accuracy"], figure):
            failures.append(
                f"evaluate.beat: accuracy must reach the {name}'s {figure:.4f}, got {report['accuracy']:.4f}"
            )
    return failures


def answers(
    run: Run, answer: Callable[[Any], Array], batches: Iterable[tuple[Any, Any, list[str]]], total: int
) -> tuple[Any, Any, list[str]]:
    """One pass over a split: what `answer` says, probabilities (N, …, classes), labels (N,), ids."""
    probabilities, labels, ids = [], [], []
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=total)
        for examples, numbers, names in batches:
            probabilities.append(answer(examples))
            labels.append(numbers)
            ids += names
            bar.advance(task, len(numbers))
    return np.concatenate(probabilities), np.concatenate(labels), ids


def correct(
    run: Run, answer: Callable[[Any], Array], batches: Iterable[tuple[Any, Any, list[str]]], split: str
) -> Array:
    """Whether the probabilities that `answer` gives are right about each example of a split: bool (N, …)."""
    probabilities, labels, _ = answers(run, answer, batches, run.facts("prepare")["splits"][split])
    right: Array = probabilities.argmax(axis=-1) == labels.reshape(-1, *[1] * (probabilities.ndim - 2))
    return right


def _draw_answers(folder: Path, names: list[str], probabilities: Any, labels: Any, report: dict[str, Any]) -> None:
    matrix = np.zeros((len(names), len(names)), int)
    np.add.at(matrix, (labels, probabilities.argmax(axis=1)), 1)
    charts.confusion_matrix(matrix, names, folder / "confusion_matrix.png")
    bins = classification.reliability_bins(probabilities, labels)
    charts.reliability(bins, report["calibration_error"], folder / "reliability.png")
    if "auc" in report:
        roc.two_classes(classification.ranking(probabilities, labels), report, folder / "roc.png")
    if "one_vs_rest" in report:
        roc.one_vs_rest(classification.one_vs_rest(probabilities, labels), report, folder / "roc.png")


def _predictions_csv(ids: list[str], labels: Any, probabilities: Any, names: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "confidence"])
    for name, label, row in zip(ids, labels, probabilities, strict=True):
        writer.writerow([name, names[label], names[row.argmax()], f"{row.max():.6f}"])
    return out.getvalue()


def _say_report(run: Run, report: dict[str, Any], noun: str) -> None:
    low, high = report["accuracy_interval"]
    say = run.console.print
    say(
        f"          {report['split']} accuracy [bold]{report['accuracy']:.2%}[/] (95 % interval {low:.2%} to "
        f"{high:.2%}, {report['examples']:,} {noun}s), calibration error {report['calibration_error']:.3f}"
    )
    if calibrated := report.get("calibrated"):
        for line in calibration.lines(report["log_loss"], calibrated):
            say(f"          {line}")
    if "auc" in report:
        (low, high), (least, most) = report["auc_interval"], report["average_precision_interval"]
        say(
            f"          {report['positive']}: area under the ROC {report['auc']:.4f} ({low:.4f} to {high:.4f}), "
            f"average precision {report['average_precision']:.4f} ({least:.4f} to {most:.4f})"
        )
    if "one_vs_rest" in report:
        (low, high), least = report["macro_auc_interval"], min(report["one_vs_rest"], key=lambda row: float(row["auc"]))
        say(
            f"          area under the ROC, each class against the rest, {report['macro_auc']:.4f} ({low:.4f} to "
            f"{high:.4f}), lowest that of {escape(least['name'])}, {least['auc']:.4f}"
        )
    if "gap" in report:
        say(f"          train accuracy {report['train']['accuracy']:.2%}: a gap of {100 * report['gap']:.2f} points")
    for line in ensemble_gain.gain_lines(report):
        say(f"          {line}")
    if "dropout_samples" in report:
        say(f"          {dropout_samples.line(report)}")
    for name, accuracy in report.get("baselines", {}).get("accuracy", {}).items():
        better = "  [yellow]better than the network[/]" if accuracy > report["accuracy"] else ""
        say(f"          [dim]{name:>20} {accuracy:.2%}[/]{better}")
