"""What the numbers of a network are worth: errors and coverage with intervals, beside what needs no network."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.metrics import regression
from cnn_keras.metrics.classification import wilson_interval
from pipelines.data import image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.engine import heat_maps, plugins, requirement
from pipelines.engine.regression import nearest_image
from pipelines.engine.stages import Run
from pipelines.plots import image_grid
from pipelines.plots.image_grid import Array
from pipelines.tasks.regress import dataset, explanation, model, plots

BATCH = 64  # images that are measured at once
MEASURES = {
    "mae": regression.mean_absolute_error,
    "rmse": regression.root_mean_squared_error,
    "r2": regression.r_squared,
}


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""
    settings, data = run.recipe.evaluate, run.facts("prepare")
    split, reader = image_dataset.test_split(data), model.regressor(run)
    ask, ids, truth, outputs = inference.predictor(reader.model), [], [], []
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        for batch in dataset.examples(run, split).batch(BATCH):
            ids += [name.decode() for name in batch["id"].numpy()]
            truth.append(batch[dataset.KEY].numpy())
            outputs.append({name: value.numpy() for name, value in reader.read(ask(batch["image"])).items()})
            bar.advance(task, len(truth[-1]))
    true = np.concatenate(truth).astype(float)
    answers = {name: np.concatenate([part[name] for part in outputs]).astype(float) for name in outputs[0]}
    scale = model.standard(data).deviation
    report: dict[str, Any] = {"split": split, "examples": len(true), "names": reader.names, "units": reader.units}
    report["interval"] = run.recipe.head.interval
    report |= measure(true, answers, scale, reader)
    report |= plugins.measure(settings.metrics, true, answers["values"])
    report["baselines"] = baselines(run, true, split)
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", _as_csv(ids, true, answers, reader.names))
    _draw(run, folder, report, ids, true, answers)
    say(run, report)
    failures = requirement.failed_requirements(settings, report)
    failures += nearest_image.failed(settings.beat, report["baselines"], report["mae"])
    names = (*settings.MEASURED, *map(plugins.short, settings.metrics))
    return {"metrics": {f"test_{key}": report[key] for key in names if key in report}, "failed": failures}


def measure(truth: Array, answers: Mapping[str, Array], scale: Array, reader: model.Regressor) -> dict[str, Any]:
    """The report of the network itself: each number's figures in its unit, and those of all.

    `mae` and `rmse` of all are those of the only number, or the mean of several, each in units of its `scale`.
    """
    rows = []
    for place, (name, unit) in enumerate(zip(reader.names, reader.units, strict=True)):
        true, said = truth[:, place], answers["values"][:, place]
        held = (answers["low"][:, place] <= true) & (true <= answers["high"][:, place])
        row: dict[str, Any] = {"name": name, "unit": unit, **_errors(true, said)}
        row["bias"] = float((said - true).mean())
        row["coverage"] = float(held.mean())
        row["coverage_interval"] = list(wilson_interval(int(held.sum()), len(held)))
        row["width"] = float((answers["high"] - answers["low"])[:, place].mean())
        rows.append(row)
    return {**_overall(rows, scale), "coverage": float(np.mean([row["coverage"] for row in rows])), "values": rows}


def baselines(run: Run, truth: Array, split: str) -> dict[str, dict[str, Any]]:
    """What needs no network: always the training mean or median; the numbers of the nearest training image."""
    data = run.facts("prepare")
    training = [data["values"]["train"][name] for name in data["names"]]
    train, tested = (dataset.examples(run, name).batch(BATCH).as_numpy_iterator() for name in ("train", split))
    said = {
        "training mean": np.tile([row["mean"] for row in training], (len(truth), 1)),
        "training median": np.tile([row["median"] for row in training], (len(truth), 1)),
        "nearest image": nearest_image.answers(train, tested, dataset.KEY),
    }
    scale = model.standard(data).deviation
    figures = {}
    for name, answers in said.items():
        rows = [
            {"name": value, **_errors(*pair)} for value, *pair in zip(data["names"], truth.T, answers.T, strict=True)
        ]
        figures[name] = {**_overall(rows, scale), "values": rows}
    return figures


def say(run: Run, report: dict[str, Any]) -> None:
    """The figures, for people."""
    for row in report["values"]:
        figures = {
            key: f"{row[key]:.4g} ({row[f'{key}_interval'][0]:.4g} to {row[f'{key}_interval'][1]:.4g})"
            for key in MEASURES
        }
        least, most = row["coverage_interval"]
        run.console.print(
            f"          {report['split']} {row['name']}: mean absolute error [bold]{figures['mae']}[/] {row['unit']}, "
            f"root mean square {figures['rmse']}, R² {figures['r2']}; 95 % intervals, {report['examples']:,} images"
        )
        run.console.print(
            f"          intervals of {report['interval']:.0%} hold [bold]{row['coverage']:.1%}[/] ({least:.1%} to "
            f"{most:.1%}) and are {row['width']:.4g} {row['unit']} wide on average"
        )
    for name, baseline in report["baselines"].items():
        told = ", ".join(
            f"{row['name']} {row['mae']:.4g} ({row['mae_interval'][0]:.4g} to {row['mae_interval'][1]:.4g})"
            for row in baseline["values"]
        )
        better = "  [yellow]better than the network[/]" if baseline["mae"] <= report["mae"] else ""
        run.console.print(f"          [dim]{name:<15} mean absolute error {told}[/]{better}")


def _errors(truth: Array, answers: Array) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, function in MEASURES.items():
        figures[name] = function(truth, answers)
        figures[f"{name}_interval"] = regression.bootstrap_interval(function, truth, answers)
    return figures


def _overall(rows: list[dict[str, Any]], scale: Array) -> dict[str, Any]:
    """The figures of the only number; of several the mean, errors divided by the deviation of the training split."""
    if len(rows) == 1:
        return {key: rows[0][key] for name in MEASURES for key in (name, f"{name}_interval")}
    overall = {key: float(np.mean([row[key] for row in rows] / scale)) for key in ("mae", "rmse")}
    return {**overall, "r2": float(np.mean([row["r2"] for row in rows]))}


def _as_csv(ids: list[str], truth: Array, answers: Mapping[str, Array], names: list[str]) -> str:
    """One row for each image."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", *(f"{name}{end}" for name in names for end in (" true", "", " low", " high"))])
    columns = np.stack([truth, answers["values"], answers["low"], answers["high"]], axis=-1).reshape(len(ids), -1)
    writer.writerows([name, *(f"{value:.6g}" for value in row)] for name, row in zip(ids, columns, strict=True))
    return out.getvalue()


def _draw(
    run: Run, folder: Path, report: dict[str, Any], ids: list[str], truth: Array, answers: Mapping[str, Array]
) -> None:
    """Answers over truth, the largest errors, and what some answers rest on."""
    plots.scatter(truth, answers, report, folder / "scatter.png")
    data = run.facts("prepare")
    far = (np.abs(answers["values"] - truth) / model.standard(data).deviation).max(axis=1)
    worst = np.argsort(-far, kind="stable")[: run.recipe.evaluate.worst].tolist()
    found = {
        row: example["image"]
        for row, example in enumerate(dataset.examples(run, report["split"]).as_numpy_iterator())
        if row in set(worst)
    }
    captions = [
        [
            f"{dataset.described(answers['values'][row], data)}, true {dataset.described(truth[row], data)}",
            f"interval {answers['low'][row, 0]:.4g} to {answers['high'][row, 0]:.4g}",
            ids[row],
        ]
        for row in worst
    ]
    heading = f"The {len(worst)} largest errors"
    image_grid.detections([found[row] for row in worst], captions, folder / "worst.png", heading=heading, size=2.2)
    if run.recipe.evaluate.insight:
        shown = dataset.examples(run, report["split"]).take(heat_maps.SHOWN).as_numpy_iterator()
        sample = ((example["image"], example["id"].decode()) for example in shown)
        heading = "What moves the answer away from the training mean: Grad-CAM"
        heat_maps.report(explanation.explainer(run), sample, folder, heading=heading)
