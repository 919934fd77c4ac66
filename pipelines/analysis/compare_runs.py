"""Runs side by side: the settings that differ, the metrics with their intervals, and whether a difference is noise.

Two classifiers that answered for the same test examples are compared by McNemar's test (1947), in its exact form:
examples that both have right, or both wrong, say nothing; if the two were equally good, each of the others would be
right in either with probability one half. A small p says that so lopsided a split is unlikely to be luck; it does
not know of the luck of the seed – train several seeds to know that.

Classifiers of several labels are compared by the gain of mean average precision on the examples that both answered
for, with its interval by the paired bootstrap; McNemar's test then counts examples whose labels are all right.

Test examples are the same where their content is: the digests that `prepare` wrote, not the paths, which change when
a folder is moved or renamed.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import binomtest

from cnn_keras.errors import Fault
from cnn_keras.metrics import multi_label
from pipelines.data import run_files, split_manifest, yaml_file
from pipelines.data.schema import flatten
from pipelines.engine import stages
from pipelines.engine.requirement import best

NOISE = 0.05  # p below this is called a real difference


Key = tuple[str, int]  # of an example: what it is known by, and how many of the same came before it


@dataclass(frozen=True)
class Measured:
    """A run that has been evaluated: its settings, its report and, by the test example, truth and answer.

    `examples` are the digests of content of all prepared data by id; "" in a run of before they were written.
    """

    name: str
    settings: dict[str, Any]
    report: dict[str, Any]
    examples: dict[str, str]
    seconds: float  # of all epochs, also those before a training was resumed
    answers: list[tuple[str, str, str]]  # id, truth, answer
    probabilities: dict[str, list[float]] | None = None  # of several labels: of each label, in the order of the answers

    def answered(self, *, by_content: bool) -> dict[Key, tuple[str, str]]:
        """Truth and answer by what each example is known by: the digest of its content, or its id."""
        return dict(
            zip(
                _numbered(self.examples[name] if by_content else name for name, _, _ in self.answers),
                ((truth, answer) for _, truth, answer in self.answers),
                strict=True,
            )
        )

    def scores(self, labels: Sequence[str], keys: Sequence[Key], *, by_content: bool) -> np.ndarray:
        """The probabilities of labels, float64 (keys, labels)."""
        places = {key: place for place, key in enumerate(self.answered(by_content=by_content))}
        columns = self.probabilities or {}
        return np.array([[columns[label][places[key]] for label in labels] for key in keys])

    def data(self, *, by_content: bool) -> Counter[str]:
        """What was prepared, in whatever split: how often each content, or each id, is in it."""
        return Counter(self.examples.values() if by_content else self.examples)

    @property
    def known_by_content(self) -> bool:
        return all(self.examples.get(name) for name, _, _ in self.answers)


@dataclass(frozen=True)
class Difference:
    """McNemar's test between two runs on the examples that both answered for."""

    first: str
    second: str
    shared: int
    only_first: int  # examples that only the first has right
    only_second: int
    p: float  # of a split at least so lopsided, were the two equally good
    gain: float | None = None  # of the second's mean average precision, where examples have several labels
    gain_interval: list[float] | None = None  # of 95 %


def compare(references: Sequence[str], runs: Path) -> dict[str, Any]:
    """Settings that differ, metrics, and the first run against each other one, as plain JSON.

    Raises:
        Fault: fewer than two runs, one given twice, or one that has not been evaluated.
    """
    if len(set(references)) < 2:
        raise Fault(f"RUNS must name at least two different runs, got {', '.join(references)}")
    runs_read = [read(reference, runs) for reference in references]
    if names := sorted({run.name for run in runs_read if [m.name for m in runs_read].count(run.name) > 1}):
        raise Fault(f"RUNS must be different runs, got {', '.join(names)} twice")
    if len({frozenset(run.probabilities or ()) for run in runs_read}) > 1:
        raise Fault(f"RUNS must have the same labels, several of an image or one, got {', '.join(references)}")
    metric = "accuracy" if runs_read[0].probabilities is None else "mean_average_precision"
    keys = sorted(set().union(*(run.settings for run in runs_read)))
    differing = [key for key in keys if len({str(run.settings.get(key)) for run in runs_read}) > 1]
    first, *others = runs_read
    by_content = all(run.known_by_content for run in runs_read)
    tested = [run.answered(by_content=by_content) for run in runs_read]
    return {
        "runs": [run.name for run in runs_read],
        "settings": {key: [run.settings.get(key) for run in runs_read] for key in differing},
        "same_data": all(run.data(by_content=by_content) == first.data(by_content=by_content) for run in others),
        "same_test": all(keys.keys() == tested[0].keys() for keys in tested),
        "matched_by": "content" if by_content else "path",
        "metrics": {
            key: [run.report.get(key) for run in runs_read]
            for key in first.report
            if isinstance(first.report[key], float)
        },
        f"{metric}_interval": [run.report[f"{metric}_interval"] for run in runs_read],
        "training_seconds": [run.seconds for run in runs_read],
        "differences": [asdict(difference(first, other, by_content=by_content)) for other in others],
    }


def read(reference: str, runs: Path) -> Measured:
    """A run's results from its folder.

    Raises:
        Fault: there is no such run, it has not been evaluated, or it does not classify.
    """
    folder = stages.run_folder(reference, runs)
    evaluated = folder / "evaluate"
    if not (evaluated / run_files.MANIFEST).is_file():
        done = (path.parent.parent for path in runs.glob(f"*/*/evaluate/{run_files.MANIFEST}"))
        there = ", ".join(sorted(f"{path.parent.name}/{path.name}" for path in done))
        raise Fault(
            f"RUNS must have been evaluated, found no result of {reference} in {folder}; run `cnn evaluate` on its "
            f"recipe. There are: {there or 'no runs'}"
        )
    if not (evaluated / "predictions.csv").is_file():
        raise Fault(f"RUNS must be of a classification task, got {folder.parent.name}/{folder.name}")
    settings = yaml_file.parse((folder / "recipe.yaml").read_text(encoding="utf-8"), where=reference)
    with (evaluated / "predictions.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        if not {"id", "truth", "prediction"} <= set(columns):
            raise Fault(f"RUNS must be those of classifiers, got {reference} of the task {folder.parent.name}")
        rows = list(reader)
    labels = {} if "confidence" in columns else {name[2:-1]: name for name in columns if name.startswith("p(")}
    return Measured(
        f"{folder.parent.name}/{folder.name}",
        {key: value for key, value in flatten(settings).items() if key != "name"},
        run_files.read_json(evaluated / "report.json"),
        {row["id"]: row.get("sha256") or "" for row in split_manifest.rows(folder / "prepare")},
        sum(float(row["seconds"]) for row in _rows(folder / "train" / "history.csv")),
        [(row["id"], row["truth"], row["prediction"]) for row in rows],
        {label: [float(row[column]) for row in rows] for label, column in labels.items()} or None,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _numbered(names: Iterable[str]) -> list[Key]:
    """Each name with its number among those that are the same: copies stay examples of their own."""
    counts: Counter[str] = Counter()
    keys = []
    for name in names:
        keys.append((name, counts[name]))
        counts[name] += 1
    return keys


def difference(first: Measured, second: Measured, *, by_content: bool = True) -> Difference:
    """The test between two runs, and where examples have several labels the gain of mean average precision."""
    tested = mcnemar(first, second, by_content=by_content)
    if first.probabilities is None or not tested.shared:
        return tested
    answers, others = (run.answered(by_content=by_content) for run in (first, second))
    keys = [key for key, (truth, _) in answers.items() if key in others and others[key][0] == truth]
    labels = sorted(first.probabilities)
    truth = np.array([[label in answers[key][0].split("|") for label in labels] for key in keys])
    before, after = (run.scores(labels, keys, by_content=by_content) for run in (first, second))
    return replace(tested, **multi_label.average_precision_gain(before, after, truth))


def mcnemar(first: Measured, second: Measured, *, by_content: bool = True) -> Difference:
    """The exact test on the examples that are the same, and have the same truth, in both."""
    first_answers, other = (run.answered(by_content=by_content) for run in (first, second))
    shared = [
        (truth == answer, truth == other[key][1])
        for key, (truth, answer) in first_answers.items()
        if key in other and other[key][0] == truth
    ]
    only_first = sum(right and not also for right, also in shared)
    only_second = sum(also and not right for right, also in shared)
    decided = only_first + only_second
    p = float(binomtest(only_first, decided, 0.5).pvalue) if decided else 1.0
    return Difference(first.name, second.name, len(shared), only_first, only_second, p)


def show(comparison: dict[str, Any], console: Console) -> None:
    """Tables for people, and a sentence for each pair."""
    table = Table(box=None, header_style="bold")
    table.add_column("")
    for name in comparison["runs"]:
        table.add_column(escape(name), overflow="fold")
    for key, values in comparison["settings"].items():
        table.add_row(f"[dim]{escape(key)}[/]", *("–" if value is None else escape(str(value)) for value in values))
    table.add_section()
    for key, values in comparison["metrics"].items():
        first = best(values, lowest=key in ("log_loss", "calibration_error"))
        figures = ("–" if value is None else f"{value:.4f}" for value in values)
        top = None if first is None else values[first]
        table.add_row(key, *(f"[bold]{f}[/]" if v == top else f for v, f in zip(values, figures, strict=True)))
        if f"{key}_interval" in comparison:
            intervals = (f"[dim]{low:.4f} to {high:.4f}[/]" for low, high in comparison[f"{key}_interval"])
            table.add_row("[dim]95 % interval[/]", *intervals)
    table.add_row("training", *(f"{seconds:,.0f} s" for seconds in comparison["training_seconds"]))
    console.print(table)
    if not comparison["same_test"]:
        what = "not the same split of the same data" if comparison["same_data"] else "not the same data"
        console.print(f"[yellow]{what}[/]: only test examples that both have are compared below")
    if comparison["matched_by"] == "path":
        console.print(
            "[yellow]test examples are matched by their paths[/]: a run was prepared by an older version, without "
            "digests; `cnn prepare RECIPE --force` writes them"
        )
    for difference in comparison["differences"]:
        console.print(sentence(Difference(**difference)))


def sentence(difference: Difference) -> str:
    """The verdict about two runs in words, with rich's markup."""
    first, second = escape(difference.first), escape(difference.second)
    if not difference.shared:
        return f"{first} and {second} share no test examples, so they cannot be compared"
    if difference.gain is not None and difference.gain_interval is not None:
        low, high = difference.gain_interval
        better = second if difference.gain > 0 else first
        verdict = f"[bold]{better} is better[/]" if low * high > 0 else "[bold]the difference may be noise[/]"
        return (
            f"{first} against {second}: on {difference.shared:,} shared test examples the second has "
            f"{difference.gain:+.4f} mean average precision (95 % interval {low:+.4f} to {high:+.4f}; all labels "
            f"right: {difference.only_first} only the first, {difference.only_second} only the second): {verdict}"
        )
    better = second if difference.only_second > difference.only_first else first
    verdict = f"[bold]{better} is better[/]" if difference.p < NOISE else "[bold]the difference may be noise[/]"
    return (
        f"{first} against {second}: of {difference.shared:,} shared test examples {difference.only_first} only the "
        f"first has right, {difference.only_second} only the second (McNemar p = {difference.p:.2g}): {verdict}"
    )
