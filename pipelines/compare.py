"""Runs side by side: the settings that differ, the metrics with their intervals, and whether a difference is noise.

Two classifiers that answered for the same test examples are compared by McNemar's test (1947), in its exact form:
examples that both have right, or both wrong, say nothing; if the two were equally good, each of the others would be
right in either with probability one half. A small p says that so lopsided a split is unlikely to be luck; it does
not know of the luck of the seed – train several seeds to know that.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from cnn_keras.fault import Fault
from pipelines import recipe as recipes
from pipelines import stages

if TYPE_CHECKING:
    from rich.console import Console

NOISE = 0.05  # p below this is called a real difference


@dataclass(frozen=True)
class Measured:
    """A run that has been evaluated: its settings, its report and, by the test example's id, truth and answer."""

    name: str
    settings: dict[str, Any]
    report: dict[str, Any]
    data: str  # digest of the prepared data
    seconds: float  # of training
    answers: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Difference:
    """McNemar's test between two runs on the examples that both answered for."""

    first: str
    second: str
    shared: int
    only_first: int  # examples that only the first has right
    only_second: int
    p: float  # of a split at least so lopsided, were the two equally good


def compare(references: Sequence[str], runs: Path) -> dict[str, Any]:
    """Settings that differ, metrics, and the first run against each other one, as plain JSON.

    Raises:
        Fault: fewer than two runs, one given twice, or one that has not been evaluated.
    """
    if len(set(references)) < 2:
        raise Fault(f"RUNS must name at least two different runs, got {', '.join(references)}")
    measured = [read(reference, runs) for reference in references]
    if names := sorted({run.name for run in measured if [m.name for m in measured].count(run.name) > 1}):
        raise Fault(f"RUNS must be different runs, got {', '.join(names)} twice")
    keys = sorted(set().union(*(run.settings for run in measured)))
    differing = [key for key in keys if len({str(run.settings.get(key)) for run in measured}) > 1]
    first, *others = measured
    return {
        "runs": [run.name for run in measured],
        "settings": {key: [run.settings.get(key) for run in measured] for key in differing},
        "same_data": len({run.data for run in measured}) == 1,
        "metrics": {
            key: [run.report.get(key) for run in measured]
            for key in first.report
            if isinstance(first.report[key], float)
        },
        "accuracy_interval": [run.report["accuracy_interval"] for run in measured],
        "training_seconds": [run.seconds for run in measured],
        "differences": [asdict(mcnemar(first, other)) for other in others],
    }


def read(reference: str, runs: Path) -> Measured:
    """A run's results from its folder.

    Raises:
        Fault: there is no such run, it has not been evaluated, or it does not classify.
    """
    folder = stages.run_folder(reference, runs)
    evaluated, trained = folder / "evaluate", folder / "train"
    if not (evaluated / stages.MANIFEST).is_file():
        done = (path.parent.parent for path in runs.glob(f"*/*/evaluate/{stages.MANIFEST}"))
        there = ", ".join(sorted(f"{path.parent.name}/{path.name}" for path in done))
        raise Fault(
            f"RUNS must have been evaluated, found no result of {reference} in {folder}; run `cnn evaluate` on its "
            f"recipe. There are: {there or 'no runs'}"
        )
    if not (evaluated / "predictions.csv").is_file():
        raise Fault(f"RUNS must be of a task that classifies, got {folder.parent.name}/{folder.name}")
    settings = recipes.parse((folder / "recipe.yaml").read_text(encoding="utf-8"), where=reference)
    with (evaluated / "predictions.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"id", "truth", "prediction"} <= set(reader.fieldnames or ()):
            raise Fault(f"RUNS must be those of classifiers, got {reference} of the task {folder.parent.name}")
        answers = {row["id"]: (row["truth"], row["prediction"]) for row in reader}
    return Measured(
        f"{folder.parent.name}/{folder.name}",
        {key: value for key, value in recipes.flatten(settings).items() if key != "name"},
        stages.read_json(evaluated / "report.json"),
        str(stages.read_json(folder / "prepare" / stages.MANIFEST)["facts"]["digest"]),
        float(stages.read_json(trained / stages.MANIFEST)["seconds"]),
        answers,
    )


def mcnemar(first: Measured, second: Measured) -> Difference:
    """The exact test on the examples with the same id and truth in both."""
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    shared = [
        (truth == answer, truth == second.answers[name][1])
        for name, (truth, answer) in first.answers.items()
        if name in second.answers and second.answers[name][0] == truth
    ]
    only_first = sum(one and not other for one, other in shared)
    only_second = sum(other and not one for one, other in shared)
    decided = only_first + only_second
    p = float(binomtest(only_first, decided, 0.5).pvalue) if decided else 1.0
    return Difference(first.name, second.name, len(shared), only_first, only_second, p)


def show(found: dict[str, Any], console: "Console") -> None:
    """Tables for people, and a sentence for each pair."""
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for name in found["runs"]:
        table.add_column(escape(name), overflow="fold")
    for key, values in found["settings"].items():
        table.add_row(f"[dim]{escape(key)}[/]", *("–" if value is None else escape(str(value)) for value in values))
    table.add_section()
    for key, values in found["metrics"].items():
        best = (min if key in ("log_loss", "calibration_error") else max)(v for v in values if v is not None)
        figures = ("–" if value is None else f"{value:.4f}" for value in values)
        table.add_row(key, *(f"[bold]{f}[/]" if v == best else f for v, f in zip(values, figures, strict=True)))
        if key == "accuracy":
            intervals = (f"[dim]{low:.4f} to {high:.4f}[/]" for low, high in found["accuracy_interval"])
            table.add_row("[dim]95 % interval[/]", *intervals)
    table.add_row("training", *(f"{seconds:,.0f} s" for seconds in found["training_seconds"]))
    console.print(table)
    if not found["same_data"]:
        console.print("[yellow]not the same data[/]: only test examples that both have are compared below")
    for difference in found["differences"]:
        console.print(sentence(Difference(**difference)))


def sentence(difference: Difference) -> str:
    """The verdict about two runs in words, with rich's markup."""
    first, second = escape(difference.first), escape(difference.second)
    if not difference.shared:
        return f"{first} and {second} share no test examples: nothing can be said"
    better = second if difference.only_second > difference.only_first else first
    verdict = f"[bold]{better} is better[/]" if difference.p < NOISE else "[bold]the difference may be noise[/]"
    return (
        f"{first} against {second}: of {difference.shared:,} shared test examples {difference.only_first} only the "
        f"first has right, {difference.only_second} only the second (McNemar p = {difference.p:.2g}): {verdict}"
    )
