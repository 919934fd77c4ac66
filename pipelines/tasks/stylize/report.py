"""Evaluation: how far paintings are from style and content, and which requirements of the recipe failed."""

from pathlib import Path
from typing import Any

from pipelines.data import run_files
from pipelines.engine import requirement
from pipelines.engine.stages import Run
from pipelines.tasks.stylize import dataset, distances, extractor_choice, method_comparison
from pipelines.tasks.stylize.distances import METRICS, SHOWN, Distances
from pipelines.tasks.stylize.optimization import runner


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Have a network that had no say look at the paintings; say which requirements failed."""
    report = method_comparison.evaluate(run, folder) if run.recipe.learns else _evaluate_paintings(run, folder)
    test_metrics = {f"test_{name}": report[name] for name in METRICS}
    return {"metrics": test_metrics, "failed": failed_requirements(run.recipe.evaluate.require, report)}


def _evaluate_paintings(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the paintings of a run that optimised pictures; leave `report.json` and a strip."""
    recipe, prepared = run.recipe, run.finished("prepare")
    contents, paintings = dataset.contents(prepared), runner.paintings(run.finished("train"))
    styles = [style.pixels for style in dataset.styles(prepared)]
    own = extractor_choice.choose_extractor(recipe.train.loss)
    judges = distances.judges(recipe, prepared, own, run.console)
    distances_of = {
        judge.name: [
            distances.distances(judge, content.pixels, painting.pixels, styles)
            for content, painting in zip(contents, paintings, strict=True)
        ]
        for judge in judges
    }
    report = {**distances.summary(distances_of), "pictures": len(paintings), "extractors": distances.describe(judges)}
    rows = list(zip(contents, paintings, strict=True))[:SHOWN]
    distances.strip(
        [(content.name, _said(distances_of, number), [content.pixels, *styles, painting.pixels])
         for number, (content, painting) in enumerate(rows)],
        ["content", *run.facts("prepare")["styles"], "painting"],
        folder / "strip.png",
        heading=distances.headline(report),
    )  # fmt: skip
    run_files.write_json(folder / "report.json", report)
    distances.say(report, run.console)
    return report


def failed_requirements(require: dict[str, float], report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that do not hold."""
    return [
        f"evaluate.require: {metric} must be at least {least}, got {report[metric]:.3f}"
        for metric, least in require.items()
        if not requirement.reaches(report[metric], least)
    ]


def _said(distances_of: dict[str, list[Distances]], number: int) -> str:
    rows = distances_of.get("independent", distances_of["own"])
    return f"style {rows[number].style_fall:.0%} nearer"
