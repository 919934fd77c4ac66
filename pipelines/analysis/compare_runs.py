"""Runs side by side: the settings that differ, the metrics with their intervals, and whether a difference is noise.

Two classifiers that answered for the same test examples are compared by McNemar's test (1947), in its exact form:
examples that both have right, or both wrong, say nothing; if the two were equally good, each of the others would be
right in either with probability one half. A small p says that so lopsided a split is unlikely to be luck; it does
not know of the luck of the seed – train several seeds to know that. The interval of the difference of the accuracies is
Newcombe's for paired data. Of detectors and segmenters it is that of the paired bootstrap, see `paired_pictures`. Of
all other figures the interval of the difference is made of the two intervals as if the test sets were independent,
which is too wide where they are the same.

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
from typing import Any, TypeGuard

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import binomtest

from cnn_keras.errors import Fault
from cnn_keras.metrics import multi_label
from cnn_keras.metrics.classification import paired_interval
from cnn_keras.metrics.two_samples import difference_interval
from pipelines.analysis import paired_pictures
from pipelines.data import lineage, run_files, split_manifest, yaml_file
from pipelines.data.schema import flatten
from pipelines.engine import stages
from pipelines.engine.requirement import best

NOISE = 0.05  # p below this is called a real difference


Key = tuple[str, int]  # of an example: what it is known by, and how many of the same came before it


@dataclass(frozen=True)
class Measured:
    """A run that has been evaluated: its settings, its report and, by the test example, truth and answer.

    `examples` are the digests of content of all prepared data by id; "" in a run of before they were written. `answers`
    are None of a task without classes; `tested` are the ids of the test split. `lineage` is that of further data.
    """

    name: str
    settings: dict[str, Any]
    report: dict[str, Any]
    examples: dict[str, str]
    seconds: float  # of all epochs, also those before a training was resumed
    answers: list[tuple[str, str, str]] | None  # id, truth, answer
    tested: list[str]
    lineage: dict[str, Any] | None = None
    probabilities: dict[str, list[float]] | None = None  # of several labels: of each label, in the order of the answers
    folder: Path = Path()

    def answered(self, *, by_content: bool) -> dict[Key, tuple[str, str]]:
        """Truth and answer by what each example is known by: the digest of its content, or its id."""
        pairs = ((truth, answer) for _, truth, answer in self.answers or ())
        return dict(zip(self.keys(by_content=by_content), pairs, strict=True))

    def keys(self, *, by_content: bool) -> list[Key]:
        """What each tested example is known by."""
        return _numbered(self.examples[name] if by_content else name for name in self.tested)

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
        return all(self.examples.get(name) for name in self.tested)


@dataclass(frozen=True)
class Difference:
    """McNemar's test between two runs on the examples that both answered for.

    difference is what the accuracy of the second is above that of the first, and interval its interval of 95 %; None
    where nothing is shared.
    """

    first: str
    second: str
    shared: int
    only_first: int  # examples that only the first has right
    only_second: int
    p: float  # of a split at least so lopsided, were the two equally good
    gain: float | None = None  # of the second's mean average precision, where examples have several labels
    gain_interval: list[float] | None = None  # of 95 %
    difference: float | None = None
    interval: tuple[float, float] | None = None


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
    keys = sorted(set().union(*(run.settings for run in runs_read)))
    differing = [key for key in keys if len({str(run.settings.get(key)) for run in runs_read}) > 1]
    first, *others = runs_read
    by_content = all(run.known_by_content for run in runs_read)
    tested = [set(run.keys(by_content=by_content)) for run in runs_read]
    classify = all(run.answers is not None for run in runs_read)
    return {
        "runs": [run.name for run in runs_read],
        "settings": {key: [run.settings.get(key) for run in runs_read] for key in differing},
        "same_data": all(run.data(by_content=by_content) == first.data(by_content=by_content) for run in others),
        "same_test": all(keys == tested[0] for keys in tested),
        "matched_by": "content" if by_content else "path",
        "metrics": {
            key: [run.report.get(key) for run in runs_read]
            for key in first.report
            if isinstance(first.report[key], float)
        },
        "intervals": {
            key: [run.report.get(f"{key}_interval") for run in runs_read]
            for key in first.report
            if is_interval(first.report.get(f"{key}_interval"))
        },
        "training_seconds": [run.seconds for run in runs_read],
        "differences": [asdict(difference(first, other, by_content=by_content)) for other in others]
        if classify
        else [],
        "figures": [] if classify else [figures(first, other, by_content=by_content) for other in others],
        "lineage": [run.lineage for run in runs_read],
    }


def read(reference: str, runs: Path) -> Measured:
    """A run's results from its folder.

    Raises:
        Fault: there is no such run, it has not been evaluated, or it has no report or no split, as of `stylize`.
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
    if not (evaluated / "report.json").is_file():
        raise Fault(f"RUNS must have a report, got {folder.parent.name}/{folder.name}, which has none")
    settings = yaml_file.parse((folder / "recipe.yaml").read_text(encoding="utf-8"), where=reference)
    answers, probabilities = _answers(evaluated / "predictions.csv")
    try:
        manifest = list(split_manifest.rows(folder / "prepare"))
    except FileNotFoundError:
        raise Fault(f"RUNS must have a test split, got {folder.parent.name}/{folder.name}, which has none") from None
    tested = (
        [row["id"] for row in manifest if row["split"] == "test"] if answers is None else [row[0] for row in answers]
    )
    history = folder / "train" / "history.csv"
    return Measured(
        f"{folder.parent.name}/{folder.name}",
        {key: value for key, value in flatten(settings).items() if key != "name"},
        run_files.read_json(evaluated / "report.json"),
        {row["id"]: row.get("sha256") or "" for row in manifest},
        sum(float(row["seconds"]) for row in _rows(history)) if history.is_file() else 0.0,
        answers,
        tested,
        lineage.read(folder),
        probabilities,
        folder,
    )


def _answers(path: Path) -> tuple[list[tuple[str, str, str]] | None, dict[str, list[float]] | None]:
    """Id, truth and answer of each test example of a classifier, and of several labels the probability of each.

    Both are None of any other task.
    """
    rows = _rows(path) if path.is_file() else []
    columns = list(rows[0]) if rows else []
    labels = {} if "confidence" in columns else {name[2:-1]: name for name in columns if name.startswith("p(")}
    if not {"id", "truth", "prediction"} <= set(columns) or not (labels or "confidence" in columns):
        return None, None
    answers = [(row["id"], row["truth"], row["prediction"]) for row in rows]
    return answers, {label: [float(row[column]) for row in rows] for label, column in labels.items()} or None


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
    decided, both = only_first + only_second, sum(right and also for right, also in shared)
    p = float(binomtest(only_first, decided, 0.5).pvalue) if decided else 1.0
    counts = (len(shared), only_first, only_second, p)
    if not shared:
        return Difference(first.name, second.name, *counts)
    interval = paired_interval(both, only_first, only_second, len(shared) - both - decided)
    more = (only_second - only_first) / len(shared)
    return Difference(first.name, second.name, *counts, difference=more, interval=interval)


def figures(first: Measured, second: Measured, *, by_content: bool = True) -> dict[str, Any]:
    """What each figure with an interval is in the second run above the first, and the interval of that.

    Where it is of the test pictures that both have, `pictures` is their number.
    """
    rows = {}
    for key, value in first.report.items():
        before, after = (run.report.get(f"{key}_interval") for run in (first, second))
        other = second.report.get(key)
        if isinstance(value, float) and isinstance(other, float) and is_interval(before) and is_interval(after):
            ends = difference_interval(other, (after[0], after[1]), value, (before[0], before[1]))
            rows[key] = {"difference": other - value, "interval": ends}
    ids = dict(zip(second.keys(by_content=by_content), second.tested, strict=True))
    mine = zip(first.keys(by_content=by_content), first.tested, strict=True)
    shared = [(name, ids[key]) for key, name in mine if key in ids]
    rows |= paired_pictures.differences(first.folder, second.folder, shared)
    return {"first": first.name, "second": second.name, "figures": rows}


def is_interval(value: Any) -> TypeGuard[list[float]]:
    """Whether it is the two ends of one."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(end, float) for end in value)


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
        first = best(values, lowest=key == "log_loss" or "error" in key)
        figures = ("–" if value is None else f"{value:.4f}" for value in values)
        top = None if first is None else values[first]
        table.add_row(key, *(f"[bold]{f}[/]" if v == top else f for v, f in zip(values, figures, strict=True)))
        if key in comparison["intervals"]:
            intervals = (
                f"[dim]{ends[0]:.4f} to {ends[1]:.4f}[/]" if ends else "–" for ends in comparison["intervals"][key]
            )
            table.add_row("[dim]95 % interval[/]", *intervals)
    table.add_row("training", *(f"{seconds:,.0f} s" for seconds in comparison["training_seconds"]))
    console.print(table)
    if not comparison["same_test"]:
        what = "not the same split of the same data" if comparison["same_data"] else "not the same data"
        rest = "only test examples that both have are compared below" if comparison["differences"] else "see below"
        console.print(f"[yellow]{what}[/]: {rest}")
    if comparison["matched_by"] == "path":
        console.print(
            "[yellow]test examples are matched by their paths[/]: a run was prepared by an older version, without "
            "digests; `cnn prepare RECIPE --force` writes them"
        )
    for name, lineage_ in zip(comparison["runs"], comparison["lineage"], strict=True):
        if lineage_:
            console.print(ancestry(name, lineage_), soft_wrap=True)
    for difference in comparison["differences"]:
        console.print(sentence(Difference(**difference)))
    for pair in comparison["figures"]:
        for key, row in pair["figures"].items():
            console.print(change(pair, key, row))


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
    change_, *ends = (100 * value for value in (difference.difference or 0.0, *(difference.interval or ())))
    points = f"accuracy {change_:+.2f} points (95 % interval {' to '.join(f'{end:+.2f}' for end in ends)})"
    return (
        f"{first} against {second}: of {difference.shared:,} shared test examples {difference.only_first} only the "
        f"first has right, {difference.only_second} only the second (McNemar p = {difference.p:.2g}): {verdict}; "
        f"{points}"
    )


def change(pair: dict[str, Any], key: str, row: dict[str, Any]) -> str:
    """What a figure has changed by, in words, with rich's markup."""
    low, high = row["interval"]
    verdict = "[bold]may be noise[/]" if low <= 0 <= high else "[bold]differs[/]"
    paired = f", on {row['pictures']:,} shared test pictures" if "pictures" in row else ""
    return (
        f"{escape(pair['second'])} against {escape(pair['first'])}: {escape(key)} {row['difference']:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f}{paired}): {verdict}"
    )


def ancestry(name: str, facts: dict[str, Any]) -> str:
    """Where the data of a run with further data comes from, in words, with rich's markup."""
    before = escape(facts["run"] or "a run that is not there")
    left_out = f", {facts['left_out']:,} left out" if facts["left_out"] else ""
    kept = f"; {facts['kept']:,} examples of {before} are in the split that they were in" if facts["run"] else ""
    moved = f", {facts['moved']:,} are not" if facts["moved"] else ""
    paths = escape(", ".join(Path(path).name for path in facts["also"]))
    return (
        f"{escape(name)} trains on the data of {before} and {facts['examples']:,} further examples of "
        f"{paths}{left_out}{kept}{moved}"
    )
