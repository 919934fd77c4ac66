"""`cnn tune`: hyperparameter search."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.commands import (
    RUNS,
    AsJson,
    Force,
    On,
    Overrides,
    RecipeName,
    Root,
    cluster_at,
    console_for,
    escape_markup,
    open_run,
)

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()

SHOWN = 10  # trials in the table


@app.command(rich_help_panel="Learn")
def tune(
    recipe: RecipeName,
    overrides: Overrides = None,
    force: Force = False,
    on: On = "",
    jobs: Annotated[
        int, typer.Option(min=0, help="With --on: trials at a time; otherwise one for each GPU, or processor.")
    ] = 0,
    storage: Annotated[
        str, typer.Option(metavar="URL", help="Optuna's storage, such as postgresql://user@host/name; else a file.")
    ] = "",
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Search the space in a recipe's section `tune` for the best settings on the validation split.

    After an interruption, the same command continues.

    Example: cnn tune classify/digits-lenet5 --set 'tune={trials: 10, space: {train.batch_size: [16, 32, 64]}}'
    """
    console = console_for(as_json)
    run = open_run(recipe, overrides, console, runs)
    from pipelines.engine.experiments import tuning

    try:
        with cluster_at(on) as cluster:
            run.parallel_map = cluster.map if cluster else None
            result = tuning.search(
                recipe,
                run,
                overrides=overrides or (),
                force=force,
                storage=storage,
                side_by_side=cluster.side_by_side(jobs) if cluster else None,
            )
    except KeyboardInterrupt:
        console.print("\ninterrupted; finished trials are kept. Run the same command to continue.")
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _show(result, console)
        console.print(f"[bold green]best[/]  {escape_markup(result['set'])}")
        console.print(f"[dim]wrote {run.folder / tuning.FOLDER}: best.yaml, a recipe; search.png and trials.csv[/]")


def _show(result: dict[str, Any], console: "Console") -> None:
    """The best trials, and the importance of the settings."""
    from rich.table import Table

    sign = 1 if result["metric"].endswith("loss") else -1
    ended = [trial for trial in result["trials"] if trial["value"] is not None]
    table = Table("trial", result["metric"], *result["best"], "epochs", box=None, header_style="bold", pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    for trial in sorted(ended, key=lambda trial: sign * trial["value"])[:SHOWN]:
        values = [json.dumps(value) for value in trial["settings"].values()]
        table.add_row(str(trial["number"]), f"{trial['value']:.4f}", *values, str(trial["epochs"]))
    console.print()
    console.print(table, soft_wrap=False)
    for word in ("stopped", "diverged", "refused"):
        if number := sum(trial["outcome"].startswith(word) for trial in result["trials"]):
            console.print(f"[dim]{number} {word}[/]")
    if result["importance"]:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in result["importance"].items())
        console.print(f"[dim]importance: {shares}[/]")
    console.print()
