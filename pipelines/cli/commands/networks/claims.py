"""`cnn claim`: well-known claims of the field, tested by small experiments."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Force, Overrides, Root, console_for, escape_markup

if TYPE_CHECKING:
    from rich.console import Console

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

    if every:
        if name or overrides:
            raise Fault("--all requires neither NAME nor --set: it tests the shipped claims as they are")
        _all(runs, force=force, as_json=as_json)
        return
    if name is None:
        _list(runs, as_json=as_json)
        return
    claimed = claims_claim.load(name)
    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis.claims import report

    console.print(f"[bold]{escape_markup(claimed.name)}[/]  {escape_markup(claimed.claim)}")
    with _interruptible(console):
        result = report.reach(claimed, console=console, runs=runs, overrides=overrides or (), force=force)
    if as_json:
        print(json.dumps(result, indent=1))
    _show(claimed, result, claims_claim.folder_of(claimed.name, runs), console)
    if not result["holds"]:
        broken = "; ".join(check["statement"] for check in result["expect"] if not check["holds"])
        raise Fault(f"the claim {claimed.name} must hold, but this does not: {broken}", code=Fault.GATE)


@contextmanager
def _interruptible(console: "Console") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        console.print("\ninterrupted; finished variants are kept. Run the same command to continue.")
        raise typer.Exit(130) from None


def _all(runs: Path, *, force: bool, as_json: bool) -> None:
    """Test all claims, print a line for each, and fail where a verdict is not that of the header."""
    from rich.table import Table

    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis.claims import all_claims

    with _interruptible(console):
        found = all_claims.reach(console=console, runs=runs, force=force)
    if as_json:
        print(json.dumps(found, indent=1))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("claim", "verdict", "its header's", "minutes", "measured, by its header"):
        table.add_column(title, justify="right" if title == "minutes" else "left", overflow="fold", vertical="top")
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
    from rich.table import Table

    from pipelines.analysis.claims import report

    head, *body = report.table(claimed, report.rows(result))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, title in enumerate(head):
        table.add_column(title, justify="right" if number else "left", overflow="fold", vertical="bottom")
    for line in body:
        table.add_row(*map(escape_markup, line))
    console.print()
    console.print(table, soft_wrap=False)
    console.print()
    for check in result["expect"]:
        mark = "[green]✓[/]" if check["holds"] else "[red]✗[/]"
        console.print(f"{mark} {escape_markup(check['statement'])}  [dim]{escape_markup(check['figures'])}[/]")
    console.print(f"[bold]{STATES[result['holds']]}[/]  [dim]{folder}[/]")
