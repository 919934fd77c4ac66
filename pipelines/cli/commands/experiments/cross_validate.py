"""`cnn cross-validate`: how much does a figure depend on which examples are tested?"""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.commands import RUNS, AsJson, Overrides, RecipeName, Root, console_for, open_run

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def cross_validate(
    recipe: RecipeName,
    overrides: Overrides = None,
    folds: Annotated[int, typer.Option(min=2, help="How many parts: each is tested once, the others train.")] = 5,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Divide the data into folds, train and evaluate a network for each, and report mean and standard deviation.

    After an interruption, the same command continues.

    Example: cnn cross-validate classify/digits-lenet5 --folds 5
    """
    console = console_for(as_json)
    run = open_run(recipe, overrides, console, runs)
    from pipelines.engine.experiments import cross_validation

    try:
        summary = cross_validation.cross_validate(run, folds)
    except KeyboardInterrupt:
        console.print("\ninterrupted; finished folds are kept. Run the same command to continue.")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(summary, indent=1))
    else:
        _show(summary, console)
        console.print(f"[dim]wrote {run.folder / cross_validation.FOLDER}: folds.csv and a run for each fold[/]")


def _show(summary: dict[str, Any], console: "Console") -> None:
    from rich.table import Table

    table = Table("metric", "mean", "deviation", "least", "most", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in summary["metrics"].items():
        table.add_row(name, *(f"{row[key]:.4f}" for key in ("mean", "deviation", "least", "most")))
    console.print()
    console.print(table, soft_wrap=False)
