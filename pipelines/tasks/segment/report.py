"""What `evaluate` writes about a segmenter: figures of all pixels and of every class, the best and the worst pictures.

Figures are of all pixels of the split together, as VOC's and CamVid's are; a picture's own are listed beside. Those of
volumes that the recipe resamples are of the scans' own voxels, to which answers are resampled as `cnn predict` does.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.tree import DecisionTreeClassifier

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.metrics import segmentation
from cnn_keras.ops import test_time_augmentation
from pipelines.data import image_dataset, run_files, validation
from pipelines.engine import heat_maps, plugins, requirement
from pipelines.engine.stages import Run
from pipelines.plots import charts, overlays
from pipelines.tasks.segment import explanation, lesion_report, records
from pipelines.tasks.segment.config import Evaluate
from pipelines.tasks.segment.model import Segmenter, load_trained
from pipelines.tasks.segment.tally import Answer, Tally, interval, tally

Array = np.ndarray[Any, np.dtype[Any]]

LISTED = 25  # classes that are printed, and whose Dice MLflow is told
SAMPLED = 50_000  # pixels of the training split that the baseline learns from


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the segmenter on the test split, beside what a pixel's own value tells; say which requirements failed."""
    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    split, names = image_dataset.test_split(data), data["classes"]
    model = load_trained(run)
    predict = Segmenter(model, recipe.data).asked()
    wanted = settings.lesions
    counted = tally(
        _answers(run, split, predict),
        len(names),
        tolerance=settings.tolerance,
        metrics=settings.metrics,
        lesion_classes=lesion_report.numbers(wanted, names) if wanted else (),
        overlap=wanted.overlap if wanted else 0.0,
    )
    before = {
        network.builder: _confusion(
            run, split, Segmenter(load_trained(run, f"{network.builder}/model.keras"), recipe.data)
        )
        for network in recipe.train.before
    }
    views = test_time_augmentation.whole_views(**settings.crops.model_dump()) if settings.crops else []
    crops = _confusion(run, split, Segmenter(model, recipe.data, views=views)) if views else None
    figures = report(
        folder,
        counted,
        names,
        baseline=_baseline(run, split),
        before=before,
        crops=crops,
        tolerance=settings.tolerance,
        metrics=[plugins.short(name) for name in settings.metrics],
    )

    def pictures_of(rows: list[int]) -> list[tuple[Array, Array, Array]]:
        examples_of = {row: example for row, example in enumerate(records.of_run(run, split)) if row in rows}
        return [
            (examples_of[row].image, examples_of[row].truth, predict(examples_of[row].image).labels.numpy())
            for row in rows
        ]

    draw(folder, counted, names, shown=settings.worst, pictures_of=pictures_of)
    if settings.insight:
        examples = ((example.image, example.id) for example in records.of_run(run, split))
        heading = "What the pixels of a class rest on: Seg-Grad-CAM at the network's coarsest map"
        heat_maps.report(explanation.explainer(run), examples, folder, heading=heading)
    say(run.console, figures)
    names = (*settings.MEASURED, *map(plugins.short, settings.metrics))
    metrics = {f"test_{key}": figures[key] for key in names if figures.get(key) is not None}
    rows_with_dice = [row for row in figures["classes"] if row["dice"] is not None]
    metrics |= {f"test_dice_{row['name']}": row["dice"] for row in rows_with_dice[:LISTED]}
    metrics |= {f"baseline_{key}": value for key, value in figures["baseline"].items()}
    metrics |= {f"test_crops_{key}": value for key, value in figures.get("crops", {}).items()}
    return {"metrics": metrics, "failed": failed_requirements(settings, figures)}


def report(
    folder: Path,
    counted: Tally,
    names: Sequence[str],
    *,
    baseline: Array,
    before: Mapping[str, Array],
    crops: Array | None = None,
    tolerance: float | None,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure what was counted; write report.json, pictures.csv and the figures into `folder`.

    Args:
        baseline: the confusion of what a pixel's own value tells.
        before: confusions of the networks that were trained before, by their builders.
        crops: the confusion of the answers to several views.
        metrics: columns of the rows whose mean over the pictures that have one is reported too.
    """
    samples = counted.samples()
    total: Array = np.sum(counted.pictures, axis=0)
    figures, scores = segmentation.scores(total), segmentation.border_f(counted.borders)
    simple = segmentation.scores(baseline)
    distances = counted.mean_distances()
    summary: dict[str, Any] = {
        "pictures": len(counted.pictures),
        "pixels": int(total.sum()),
        "interval": counted.interval,
        "tolerance": "0.75 % of the diagonal" if tolerance is None else f"{tolerance:g} pixels",
        "pixel_accuracy": figures.pixel_accuracy,
        "mean_accuracy": figures.mean_accuracy,
        "mean_iou": figures.mean_iou,
        "mean_iou_interval": interval([sample.mean_iou for sample in samples]),
        "mean_dice": figures.mean_dice,
        "mean_dice_interval": interval([sample.mean_dice for sample in samples]),
        "frequency_weighted_iou": figures.frequency_weighted_iou,
        "boundary_f": _mean(scores),
        "distance_unit": counted.unit,
        "hausdorff_95": _mean(distances[:, 0]),
        "surface_distance": _mean(distances[:, 1]),
        "baseline": {"mean_iou": simple.mean_iou, "mean_dice": simple.mean_dice},
        "before": {name: _overlaps(before_counts) for name, before_counts in before.items()},
        **({} if crops is None else {"crops": _overlaps(crops)}),
        "confusion": total.tolist(),
        **{name: _mean(row[name] for row in counted.rows) for name in metrics},
        **lesion_report.summarize(counted, names),
    }
    summary["classes"] = [
        {
            "name": name,
            "pixels": int(total[number].sum()),
            "iou": _number(figures.iou[number]),
            "iou_interval": interval([sample.iou[number] for sample in samples]),
            "dice": _number(figures.dice[number]),
            "dice_interval": interval([sample.dice[number] for sample in samples]),
            "precision": _number(figures.precision[number]),
            "recall": _number(figures.accuracy[number]),
            "boundary_f": _number(scores[number]),
            "hausdorff_95": _number(distances[number, 0]),
            "surface_distance": _number(distances[number, 1]),
            "measured": int(np.isfinite(counted.distances[:, number, 0]).sum()),
            "baseline_dice": _number(simple.dice[number]),
        }
        for number, name in enumerate(names)
    ]
    run_files.write_json(folder / "report.json", summary)
    durable.write_text(folder / "pictures.csv", _csv(counted.rows))
    durable.write_text(folder / "pictures_by_class.csv", _csv(counted.rows_by_class(names)))
    heading = f"{summary['pixels']:,} pixels, {figures.pixel_accuracy:.1%} right, mean IoU {figures.mean_iou:.3f}"
    charts.confusion_matrix(total, names, folder / "confusion_matrix.png", heading=heading)
    _draw_classes(folder, summary)
    return summary


def draw(
    folder: Path,
    counted: Tally,
    names: Sequence[str],
    *,
    shown: int,
    pictures_of: Callable[[list[int]], list[tuple[Array, Array, Array]]],
) -> None:
    """Draw the pictures with the highest and the lowest mean IoU of their own beside truth and answer.

    `pictures_of` gives image, truth and labels of the pictures with these numbers.
    """
    rows_with_iou = [row for row, row_scores in enumerate(counted.rows) if np.isfinite(row_scores["mean_iou"])]
    order = sorted(rows_with_iou, key=lambda row: -counted.rows[row]["mean_iou"])
    half = len(order) // 2  # no picture is among both
    for which, rows in (("best", order[: min(shown, len(order) - half)]), ("worst", order[::-1][: min(shown, half)])):
        if not rows:
            continue
        captions = [(f"mean IoU {counted.rows[row]['mean_iou']:.3f}", counted.rows[row]["id"]) for row in rows]
        heading = f"The {which} {len(rows)} of {len(counted.rows)} by their own mean IoU"
        overlays.compare_masks(pictures_of(rows), captions, folder / f"{which}.png", names=names, heading=heading)


def say(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the figures, and the classes from the worst on."""
    low, high = summary["mean_iou_interval"]
    console.print(
        f"          mean IoU [bold]{summary['mean_iou']:.3f}[/] (95 % interval {low:.3f} to {high:.3f} "
        f"{summary['interval']}), mean Dice {summary['mean_dice']:.3f}, pixel accuracy "
        f"{summary['pixel_accuracy']:.2%}, borders {_figure(summary['boundary_f'])}"
    )
    simple = summary["baseline"]
    scores_text = f"mean IoU {simple['mean_iou']:.3f}, Dice {simple['mean_dice']:.3f}"
    console.print(f"          [dim]baseline from a pixel's own value: {scores_text}[/]")
    for name, scores in summary["before"].items():
        console.print(
            f"          trained before, {name}: mean IoU {scores['mean_iou']:.3f}, Dice {scores['mean_dice']:.3f}"
        )
    if "crops" in summary:
        scores = summary["crops"]
        console.print(
            f"          the mean of several views: mean IoU {scores['mean_iou']:.3f}, Dice {scores['mean_dice']:.3f}"
        )
    rows = sorted((row for row in summary["classes"] if row["iou"] is not None), key=lambda row: float(row["iou"]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    distance = f"HD95 {summary['distance_unit']}"
    for heading in ("class", "pixels", "IoU", "Dice", "95 % of it", "borders", distance, "value alone"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows[:LISTED]:
        between = "–".join(f"{end:.3f}" for end in row["dice_interval"])
        far = "–" if row["hausdorff_95"] is None else f"{row['hausdorff_95']:.2f}"
        columns = [_figure(row["boundary_f"]), far, _figure(row["baseline_dice"])]
        figures = (_figure(row["iou"]), f"[bold]{_figure(row['dice'])}[/]", between, *columns)
        table.add_row(escape(row["name"]), f"{row['pixels']:,}", *figures)
    console.print(table)
    if len(rows) > LISTED:
        console.print(f"          [dim]the {LISTED} worst of {len(rows)} classes; all are in report.json[/]")
    lesion_report.say(console, summary)


def failed_requirements(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the segmenter does not meet."""
    dice = {row["name"]: row["dice"] for row in report["classes"]}
    if unknown := settings.require_dice.keys() - dice.keys():
        raise Fault(f"evaluate.require_dice must name classes, {', '.join(dice)}, got {', '.join(sorted(unknown))}")
    return requirement.failed_requirements(settings, report, missing=lesion_report.MISSING) + [
        f"evaluate.require_dice: {name} must be at least {least:g}, got "
        f"{'nothing' if dice[name] is None else f'{dice[name]:.4f}'}"
        for name, least in settings.require_dice.items()
        if not requirement.reaches(dice[name], least)
    ]


def _answers(run: Run, split: str, predict: Any) -> Iterator[Answer]:
    """What is said of each picture or volume of a split, as it came; of a resampled scan, at its own voxels."""
    spacing = run.recipe.data.spacing
    with validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=run.facts("prepare")["splits"][split])
        for example in records.of_run(run, split):
            prediction = predict(example.image)
            truth, labels = example.compared(prediction.labels.numpy(), spacing)
            yield Answer(example.id, truth, labels, float(prediction.confidence.numpy().mean()), example.spacing)
            bar.advance(task)


def _confusion(run: Run, split: str, segmenter: Segmenter) -> Array:
    """The confusion of another segmenter than the one that is reported."""
    classes = len(run.facts("prepare")["classes"])
    answers = _answers(run, split, segmenter.asked())
    total: Array = np.sum([segmentation.confusion(answer.truth, answer.labels, classes) for answer in answers], axis=0)
    return total


def _baseline(run: Run, split: str) -> Array:
    """The confusion of a small tree of decisions on the values of each pixel alone, learnt on the training split."""
    data, generator = run.facts("prepare"), np.random.default_rng(run.recipe.seed)
    each = max(1, SAMPLED // data["splits"]["train"])
    values, labels = [], []
    for example in records.of_run(run, "train"):
        known = np.flatnonzero(example.truth >= 0)
        sample = generator.choice(known, min(each, len(known)), replace=False)
        values.append(example.image.reshape(-1, example.image.shape[-1])[sample])
        labels.append(example.truth.ravel()[sample])
    tree = DecisionTreeClassifier(max_leaf_nodes=32, random_state=0)
    tree.fit(np.concatenate(values), np.concatenate(labels))
    total = np.zeros((len(data["classes"]),) * 2, np.int64)
    for example in records.of_run(run, split):
        predicted = tree.predict(example.image.reshape(-1, example.image.shape[-1])).reshape(example.truth.shape)
        total += segmentation.confusion(*example.compared(predicted, run.recipe.data.spacing), len(total))
    return total


def _overlaps(counts: Array) -> dict[str, float]:
    figures = segmentation.scores(counts)
    return {"mean_iou": figures.mean_iou, "mean_dice": figures.mean_dice}


def _mean(values: Iterable[float]) -> float | None:
    """The mean of those that are numbers; None where none is."""
    known = [float(value) for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6f}" if isinstance(value, float) else value for key, value in row.items()})
    return out.getvalue()


def _draw_classes(folder: Path, figures: Mapping[str, Any]) -> None:
    rows = [row for row in figures["classes"] if row["iou"] is not None][: charts.NAMED]
    panels = [
        charts.Panel("IoU", bars={row["name"]: row["iou"] for row in rows}),
        charts.Panel("F-score of borders", bars={row["name"]: row["boundary_f"] or 0.0 for row in rows}),
    ]
    heading = f"Mean IoU {figures['mean_iou']:.3f}, {figures['interval']}; borders within {figures['tolerance']}"
    charts.panels(panels, folder / "classes.png", heading=heading)
