"""All shipped claims one after another, and whether each has the verdict that its header has."""

from pathlib import Path
from typing import Any

from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.analysis.claims import claim as claims
from pipelines.analysis.claims import report
from pipelines.engine import recipe as recipes
from pipelines.engine import recipe_header


def reach(*, console: Console, runs: Path, force: bool = False) -> list[dict[str, Any]]:
    """Bring every verdict up to date; a claim that cannot be tested keeps the verdict of before, if it has one.

    Returns:
        for each claim its name, `holds` (None without a verdict), `expected` (whether it held when its header was
        written), minutes of training, `measured` (the figures of the header), and `trouble`: why it was not tested.
    """
    names, found = claims.shipped(), []
    for number, name in enumerate(names, 1):
        claimed, trouble = claims.load(name), ""
        console.print(f"[bold]{name}[/]  [dim]claim {number} of {len(names)}[/]")
        try:
            verdict = report.reach(claimed, console=console, runs=runs, force=force)
        except Fault as fault:
            verdict, trouble = claims.last(name, runs), str(fault)
            console.print(trouble, style="yellow", markup=False)
        seconds = sum(row["values"].get("seconds") or 0 for row in verdict.get("rows", []))
        found.append(
            {
                "name": name,
                "holds": verdict["holds"],
                "expected": claimed.holds,
                "minutes": round(seconds / 60, 1),
                "measured": recipe_header.measured(recipes.header(str(claims.locate(name)))).figure,
                "trouble": trouble,
            }
        )
    return found
