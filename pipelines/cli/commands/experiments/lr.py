"""`cnn lr`: a learning-rate range test."""

import json
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, AsJson, Overrides, RecipeName, Root, console_for, open_run

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def lr(
    recipe: RecipeName,
    overrides: Overrides = None,
    low: Annotated[float, typer.Option(help="The first learning rate.")] = 1e-7,
    high: Annotated[float, typer.Option(help="The last learning rate, if the loss does not diverge before.")] = 10.0,
    steps: Annotated[int, typer.Option(min=20, help="Number of batches.")] = 300,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Suggest a learning rate: raise it from batch to batch on a copy of the model, and record the loss.

    Example: cnn lr classify/digits-lenet5
    """
    console = console_for(as_json)
    run = open_run(recipe, overrides, console, runs)
    from pipelines.engine import stages
    from pipelines.engine.experiments import lr_finder
    from pipelines.engine.training import task_training

    task_training.check(run)
    with stages.prepared(run):
        climb = lr_finder.find(run, low=low, high=high, steps=steps)
    if as_json:
        result = {"steepest": climb.steepest, "tenth_of_minimum": climb.tenth, "steps": len(climb.rates)}
        print(json.dumps(result, indent=1))
        return
    folder = run.folder / "lr"
    console.print(
        f"the loss falls most steeply at [bold]{climb.steepest:.1e}[/]; a tenth of the rate at its minimum is "
        f"[bold]{climb.tenth:.1e}[/]; the recipe has {run.recipe.train.learning_rate:.1e}"
    )
    console.print(f"try  --set train.learning_rate={climb.tenth:.1e}, or less if the loss fluctuates")
    console.print(f"[dim]wrote {folder / 'lr.png'} and lr.csv[/]")
