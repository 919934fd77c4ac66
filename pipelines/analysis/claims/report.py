"""The verdict on a claim: every expectation checked against the figures, written down, drawn and told to MLflow."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.analysis.claims import runner
from pipelines.analysis.claims.claim import VERDICT, Claim, Expectation, Plot, Term, folder_of
from pipelines.analysis.claims.runner import EXPERIMENT, Row
from pipelines.data import run_files
from pipelines.engine import stages
from pipelines.engine.requirement import best
from pipelines.plots import charts
from pipelines.tracking.tracker import Tracker

WORDS = {"error": "training error", "loss": "training loss", "multiply_adds": "multiply-adds"}


def reach(
    claim: Claim, *, console: Console, runs: Path, overrides: Sequence[str] = (), force: bool = False
) -> dict[str, Any]:
    """Bring the evidence up to date, judge, draw, and tell MLflow; return what is in `verdict.json`.

    Raises:
        Fault: anything wrong in the settings. That the claim does not hold is no Fault here.
    """
    if claim.networks and overrides:
        raise Fault(f"--set requires a claim that trains; {claim.name} only measures networks")
    folder = folder_of(claim.name, runs)
    folder.mkdir(parents=True, exist_ok=True)
    with stages.locked(folder), Tracker(folder, experiment=EXPERIMENT, name=claim.name) as tracker:
        if tracker.identity is None:  # before the variants, which name it their parent
            tracker.start(tags={"cnn.claim": claim.name, "mlflow.source.name": f"claims/{claim.name}"})
            tracker.close()
        if claim.networks:
            rows = runner.count(claim, console)
        else:
            rows = runner.train(claim, folder, console, parent=tracker.identity, overrides=overrides, force=force)
        choose(claim, rows)
        verdict = judge(claim, rows)
        changed = verdict != run_files.kept_json(folder / VERDICT)
        durable.write_text(folder / "figures.csv", _csv(claim, rows))
        draw(claim, rows, folder / "plot.png")
        run_files.write_json(folder / VERDICT, verdict)
        if changed or not tracker.marked(run_files.digest(verdict)):  # else MLflow knows it
            _tell(claim, rows, verdict, tracker)
            tracker.mark(run_files.digest(verdict))
    return verdict


def choose(claim: Claim, rows: list[Row]) -> None:
    """Mark the run of each variant's sweep that stands for it; none where no run fulfils the condition."""
    if claim.choose is None:
        return
    quantity = claim.choose.lowest or claim.choose.highest or ""
    for row in rows:
        row.chosen = False
    for variant in claim.variants:
        fit = [
            row
            for row in rows
            if row.variant == variant
            and not row.diverged
            and all(row.value(key) <= most for key, most in claim.choose.where.items())
        ]
        place = best([row.value(quantity) for row in fit], lowest=bool(claim.choose.lowest))
        if place is not None:
            fit[place].chosen = True


def judge(claim: Claim, rows: Sequence[Row]) -> dict[str, Any]:
    """Check every statement against the rows that stand for their variants."""
    statements = [_checked(statement, rows) for statement in claim.expect]
    return {
        "name": claim.name,
        "claim": claim.claim,
        "holds": all(statement["holds"] for statement in statements),
        "expect": statements,
        "rows": [
            {
                "name": row.name,
                "variant": row.variant,
                "chosen": row.chosen,
                "diverged": row.diverged,
                "values": {key: value if math.isfinite(value) else None for key, value in row.values.items()},
            }
            for row in rows
        ],
    }


def _checked(statement: Expectation, rows: Sequence[Row]) -> dict[str, Any]:
    """A statement, its figures and whether it holds; of several seeds it must hold for the interval's both ends."""
    values = [_values(term, rows) for term in statement.terms]
    if not all(values):
        figures = statement.written(*(number(statistics.fmean(found)) if found else "nothing" for found in values))
        return {"statement": _written(statement), "figures": figures, "holds": False}
    first, second = map(statistics.fmean, values)
    figures, holds = statement.written(number(first), number(second)), statement.holds(first, second)
    seeds = max(map(len, values))
    if seeds > 1:
        low, high = difference_interval(*values, times=statement.times)
        figures += f", the difference's 95 % interval over {seeds} seeds {low:.4g} to {high:.4g}"
        holds = all(statement.holds(statement.times * second + end, second) for end in (low, high))
    return {"statement": _written(statement), "figures": figures, "holds": holds}


def difference_interval(first: Sequence[float], second: Sequence[float], *, times: float = 1) -> tuple[float, float]:
    """The 95 % interval of the mean of first - times · second over pairs of one seed each, by Student's t.

    One of the two may be a single number. Values of one seed have the same split and order of examples.
    """
    differences = np.asarray(first) - times * np.asarray(second)
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / math.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)


def _written(statement: Expectation) -> str:
    return statement.written(*(term if isinstance(term, str) else number(term) for term in statement.terms))


def _values(term: Term, rows: Sequence[Row]) -> list[float]:
    """The values of a term, one for each seed; none where no run stands for the variant, or one that does diverged."""
    if not isinstance(term, str):
        return [float(term)]
    quantity, _, variant = term.partition(" of ")
    chosen = [row for row in rows if row.variant == variant and row.chosen]
    return [] if any(row.diverged for row in chosen) else [row.value(quantity) for row in chosen]


def number(value: float) -> str:
    """For people: 110,592; 0.0312; never, for what takes for ever."""
    if not math.isfinite(value):
        return "never"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def table(claim: Claim, rows: Sequence[Row]) -> list[list[str]]:
    """A line of names and a line for each row; a star at the run of a sweep that stands for its variant."""
    quantities = list(dict.fromkeys([*([claim.swept] if claim.swept else []), *claim.show]))
    lines = [["variant", *(_words(quantity) for quantity in quantities)]]
    for row in rows:
        lost = [row.diverged and key not in row.values for key in quantities]
        cells = ["diverged" if gone else number(row.value(key)) for key, gone in zip(quantities, lost, strict=True)]
        star = " ★" if claim.choose and row.chosen else ""
        lines.append([row.variant + star, *cells])
    return lines


def markdown(claim: Claim, rows: Sequence[Row], verdict: dict[str, Any]) -> str:
    """The claim, its table and its verdict: the description of the claim's run in MLflow."""
    head, *body = table(claim, rows)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    figures = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    checks = "".join(
        f"- {'✓' if check['holds'] else '✗'} {check['statement']}: {check['figures']}\n" for check in verdict["expect"]
    )
    answer = "holds" if verdict["holds"] else "does not hold"
    return f"**{claim.claim}**: {answer}.\n\n{figures}\n{checks}"


def draw(claim: Claim, rows: Sequence[Row], path: Path) -> None:
    """The claim's panels, one below the other."""
    if claim.plot:
        charts.panels([_panel(claim, plot, rows) for plot in claim.plot], path, heading=claim.claim)


def _panel(claim: Claim, plot: Plot, rows: Sequence[Row]) -> Any:
    if plot.bars:
        bars = {row.name: row.value(plot.bars) for row in rows if not row.diverged}
        return charts.Panel(_words(plot.bars), bars=bars, log=plot.log)
    lines: dict[str, list[tuple[float, float]]] = {}
    if plot.sweep:
        for row in rows:
            value = math.nan if row.diverged else row.value(plot.sweep)
            lines.setdefault(row.variant, []).append((row.values[claim.swept], value))
        marked = claim.choose.where.get(plot.sweep) if claim.choose else None
        return charts.Panel(_words(plot.sweep), _words(claim.swept), lines=lines, log=plot.log, marked=marked)
    for row in (row for row in rows if row.chosen and row.history):
        label = f"{row.variant}, {_words(claim.swept)} {row.values[claim.swept]:g}" if claim.swept else row.variant
        lines[label] = [(epoch["epoch"], epoch[str(plot.curves)]) for epoch in row.history]
    marked = claim.reach.get(str(plot.curves))
    return charts.Panel(_words(str(plot.curves)), "epoch", lines=lines, log=plot.log, marked=marked)


def _words(quantity: str) -> str:
    return WORDS.get(quantity, quantity.replace("_", " "))


def _csv(claim: Claim, rows: Sequence[Row]) -> str:
    """Every figure of every row."""
    names = list(dict.fromkeys(key for row in rows for key in row.values))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", "variant", "chosen", "diverged", *names])
    for row in rows:
        writer.writerow(
            [row.name, row.variant, row.chosen, row.diverged, *(row.values.get(name, "") for name in names)]
        )
    return out.getvalue()


def _tell(claim: Claim, rows: Sequence[Row], verdict: dict[str, Any], tracker: Tracker) -> None:
    """The claim's run in MLflow: figures, plot, and the verdict as its description; nothing that could not change."""
    for row in rows:
        tracker.metrics({f"{key}/{row.name}": row.values[key] for key in claim.show if key in row.values})
    tracker.metrics({"holds": float(verdict["holds"])})
    for path in ("figures.csv", "plot.png", VERDICT):
        if (tracker.folder / path).is_file():
            tracker.artifact(tracker.folder / path)
    answer = "holds" if verdict["holds"] else "does not hold"
    tracker.tags({"cnn.verdict": answer, "mlflow.note.content": markdown(claim, rows, verdict)})


def rows(verdict: dict[str, Any]) -> list[Row]:
    """The rows of a verdict as it is written, without their histories."""
    return [
        Row(
            row["name"],
            row["variant"],
            {key: math.inf if value is None else value for key, value in row["values"].items()},
            chosen=row["chosen"],
            diverged=row["diverged"],
        )
        for row in verdict["rows"]
    ]
