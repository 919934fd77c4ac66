"""`cnn claim`: well-known claims of the field, tested by small experiments."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Force, Overrides, Root, console_for, escape_markup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipelines.analysis.claims.claim import Claim

app = typer.Typer()

PLAIN = {None: "not tested", True: "holds", False: "does not hold"}
STATES = {None: "[dim]not tested[/]", True: "[green]holds[/]", False: "[red]does not hold[/]"}


@app.command(rich_help_panel="Learn")
def claim(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A shipped claim or a .yaml file.")] = None,
    overrides: Overrides = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Test all shipped claims, and compare each verdict with that of the claim's header."
        ),
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Test a claim: train or measure its variants, print the table and the verdict. Without NAME, list the claims.

    Example: cnn claim three-3x3
    """
    from pipelines.analysis.claims import claim as claims_claim
    from pipelines.engine.startup import load_tensorflow

    if every and (name or overrides):
        raise Fault("--all requires neither NAME nor --set: it tests the shipped claims as they are")
    if name is None and not every:
        _list(runs, as_json=as_json)
        return
    claimed = claims_claim.load(name) if name else None
    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis.claims import all_claims, report

    try:
        if claimed is None:
            found = all_claims.reach(console=console, runs=runs, force=force)
        else:
            console.print(f"[bold]{escape_markup(claimed.name)}[/]  {escape_markup(claimed.claim)}")
            result = report.reach(claimed, console=console, runs=runs, overrides=overrides or (), force=force)
    except KeyboardInterrupt:
        console.print("\ninterrupted; finished variants are kept. Run the same command to continue.")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(found if claimed is None else result, indent=1))
    if claimed is None:
        _compare(found, console)
        return
    _show(claimed, result, claims_claim.folder_of(claimed.name, runs), console)
    if not result["holds"]:
        broken = "; ".join(check["statement"] for check in result["expect"] if not check["holds"])
        raise Fault(f"the claim {claimed.name} must hold, but this does not: {broken}", code=Fault.GATE)


def _compare(found: list[dict[str, Any]], console: "Console") -> None:
    """A line for each claim; a Fault where a verdict is not that of the header."""
    table = _table(left=("claim", "verdict", "its header's"), right=("minutes",), rest=("measured, by its header",))
    for row in found:
        words = escape_markup(row["measured"] + (f" – {row['trouble']}" if row["trouble"] else ""))
        table.add_row(row["name"], STATES[row["holds"]], STATES[row["expected"]], f"{row['minutes']:.1f}", words)
    console.print()
    console.print(table, soft_wrap=False)
    others = [f"{row['name']} ({PLAIN[row['holds']]})" for row in found if row["holds"] != row["expected"]]
    if others:
        raise Fault(
            f"each claim must have the verdict of its header, which these have not: {', '.join(others)}",
            code=Fault.GATE,
        )


def _table(*, left: Sequence[str], right: Sequence[str], rest: Sequence[str] = ()) -> "Table":
    """An empty table with columns to the left, to the right, and to the left again."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for titles, side in ((left, "left"), (right, "right"), (rest, "left")):
        for title in titles:
            table.add_column(title, justify=side, overflow="fold")  # type: ignore[arg-type]
    return table


def _list(runs: Path, *, as_json: bool) -> None:
    from pipelines.analysis.claims import claim as claims_claim

    results = [claims_claim.last(name, runs) for name in claims_claim.shipped()]
    if as_json:
        print(json.dumps([{key: last[key] for key in ("name", "claim", "holds")} for last in results], indent=1))
        return
    for last in results:
        console_for(False).print(
            f"[bold cyan]{last['name']}[/]  {STATES[last['holds']]}\n  {escape_markup(last['claim'])}"
        )


def _show(claimed: "Claim", result: dict[str, Any], folder: Path, console: "Console") -> None:
    """The table, every statement with its tick or cross, and the verdict."""
    from pipelines.analysis.claims import report

    head, *body = report.table(claimed, report.rows(result))
    table = _table(left=head[:1], right=head[1:])
    for line in body:
        table.add_row(*map(escape_markup, line))
    console.print()
    console.print(table, soft_wrap=False)
    console.print()
    for check in result["expect"]:
        mark = "[green]✓[/]" if check["holds"] else "[red]✗[/]"
        console.print(f"{mark} {escape_markup(check['statement'])}  [dim]{escape_markup(check['figures'])}[/]")
    console.print(f"[bold]{STATES[result['holds']]}[/]  [dim]{folder}[/]")
