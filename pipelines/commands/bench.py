"""`cnn bench`: how fast things are here."""

import json
from typing import Annotated

import typer

from pipelines.commands import AsJson, Overrides, RecipeName, console_for

app = typer.Typer()
benches = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="How fast things are on this machine.")
app.add_typer(benches, name="bench", rich_help_panel="Learn")


@benches.command("input")
def bench_input(
    recipe: RecipeName,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="How long each step is measured.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Measure how fast pictures reach the network: reading, decoding, each augmentation, all; name the slowest.

    Example: cnn bench input classify/digits-lenet5
    """
    from pipelines import bench_input as benchmark
    from pipelines import recipe as recipes
    from pipelines.startup import load_tensorflow

    loaded = recipes.load(recipe, overrides or ())
    console = console_for(as_json)
    load_tensorflow(console)
    speeds = benchmark.measure(loaded, seconds=seconds)
    if as_json:
        steps = [speed._asdict() for speed in speeds]
        print(json.dumps({"steps": steps, "slowest": benchmark.slowest(speeds).step}, indent=1))
    else:
        benchmark.show(speeds, console)
