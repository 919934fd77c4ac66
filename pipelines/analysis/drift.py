"""`cnn drift`: whether new pictures are still like those that a network was made for; no labels are needed.

Width, height, brightness, contrast and sharpness of new pictures, and the numbers of the answers to them, are compared
with those of the run's held-out pictures by the two-sample Kolmogorov–Smirnov test, the shares of the answered classes
by the chi-squared test, and the features before the last layer by the maximum mean discrepancy.

Each quantity is tested at the false alarm rate divided by the number of quantities (Bonferroni), so that pictures of
the same kind raise an alarm in at most that share of cases. Testing each quantity and correcting for their number is
what Rabanser et al., *Failing loudly* (NeurIPS 2019), found to work best; scores are among the quantities there, too.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from scipy.stats import ks_2samp

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.errors import Fault
from cnn_keras.metrics.two_samples import counts_test, mmd_test
from pipelines.engine import reference_statistics, stages
from pipelines.engine.reference_statistics import MOST, Measured
from pipelines.inference import predict

LEAST = 20  # pictures of whom something can be told


def drift(reference: str, folder: Path, *, runs: Path, console: Console, false_alarm: float = 0.05) -> dict[str, Any]:
    """Compare the pictures of a folder with those of a run, as plain JSON.

    Args:
        reference: a trained run, `classify/photos`, or its recipe.
        folder: a folder of pictures; at most MOST of them, evenly chosen, are measured.
        false_alarm: how often pictures of the same kind may raise an alarm.

    Returns:
        run, folder, pictures, reference (how many pictures), unreadable (what is wrong by path), false_alarm, drift
        (whether any quantity has drifted), and quantities: by name test, statistic, p, limit, drift, and the medians
        reference and new, which are None where there is none.

    Raises:
        Fault: no such run, of no pictures; too few pictures that can be read.
    """
    if not 0 < false_alarm < 1:
        raise Fault(f"--false-alarm must be between 0 and 1, got {false_alarm}")
    run = stages.trained_run(reference, runs, console)
    reference_statistics.check(run)
    files = list(predict.files_of([folder], "image", tuple(IMAGE_SUFFIXES)))
    chosen = [files[row] for row in np.unique(np.linspace(0, len(files) - 1, min(MOST, len(files))).astype(int))]
    pictures, problems = reference_statistics.read(chosen)
    if len(pictures) < LEAST:
        raise Fault(
            f"FOLDER must hold at least {LEAST} pictures that can be read, got {len(pictures)} of {len(chosen)} in "
            f"{folder}",
            code=Fault.DATA,
        )
    network = reference_statistics.Network(run)
    before = reference_statistics.reference(run, network)
    new = reference_statistics.measure(network, pictures, count=len(pictures), console=console)
    return {
        "run": f"{run.recipe.task}/{run.recipe.name}",
        "folder": str(folder),
        "pictures": new.count,
        "reference": before.count,
        "unreadable": problems,
        **compare(before, new, false_alarm=false_alarm),
    }


def compare(before: Measured, new: Measured, *, false_alarm: float = 0.05) -> dict[str, Any]:
    """The tests of all quantities that both have; see `drift`."""
    rows: dict[str, dict[str, Any]] = {}
    for name in before.quantities.keys() & new.quantities.keys():
        first, second = before.quantities[name], new.quantities[name]
        result = ks_2samp(first, second)
        rows[name] = _row("Kolmogorov–Smirnov", result.statistic, result.pvalue)
        rows[name] |= {"reference": float(np.median(first)), "new": float(np.median(second))}
    if before.answers and new.answers:
        counted = Counter(before.answers), Counter(new.answers)
        names = sorted({*before.answers, *new.answers})
        counts = ([counter[name] for name in names] for counter in counted)
        rows["classes"] = _row("chi-squared", *counts_test(*counts))
    if before.features and new.features:
        rows["features"] = _row("maximum mean discrepancy", *mmd_test(before.features, new.features))
    limit = false_alarm / len(rows)
    ordered = [name for name in (*before.quantities, "classes", "features") if name in rows]
    quantities = {name: rows[name] | {"limit": limit, "drift": rows[name]["p"] <= limit} for name in ordered}
    return {
        "false_alarm": false_alarm,
        "drift": any(row["drift"] for row in quantities.values()),
        "quantities": quantities,
    }


def show(found: dict[str, Any], console: Console) -> None:
    """A table for people, and a sentence."""
    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for heading in ("quantity", "reference", "new", "statistic", "p", ""):
        table.add_column(heading, justify="left" if heading in ("quantity", "") else "right")
    for name, row in found["quantities"].items():
        medians = ("" if row[key] is None else f"{row[key]:.4g}" for key in ("reference", "new"))
        mark = "[bold yellow]drift[/]" if row["drift"] else ""
        table.add_row(name, *medians, f"{row['statistic']:.3f}", f"{row['p']:.2g}", mark)
    console.print(table)
    for path, problem in list(found["unreadable"].items())[:3]:
        console.print(f"[yellow]unreadable[/]: {escape(path)}  [dim]{escape(problem)}[/]")
    if (more := len(found["unreadable"]) - 3) > 0:
        console.print(f"[yellow]and {more} more unreadable files[/]")
    verdict = "[bold yellow]drift[/]" if found["drift"] else "no drift"
    console.print(
        f"{verdict}: {found['pictures']:,} pictures against {found['reference']:,} of {found['run']}; each quantity is "
        f"tested at p = {next(iter(found['quantities'].values()))['limit']:.2g}, so that pictures of the same kind "
        f"raise an alarm in at most {found['false_alarm']:.0%} of cases",
        highlight=False,
    )


def _row(test: str, statistic: float, p: float) -> dict[str, Any]:
    return {"test": test, "statistic": float(statistic), "p": float(p), "reference": None, "new": None}
