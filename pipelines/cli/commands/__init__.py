"""The commands: every file of these folders has an `app`, which `cnn` merges into one command line.

Here are the arguments and options that several of them take. Imports are cheap: what takes seconds to load
(TensorFlow, Keras, MLflow) is imported inside the commands that need it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.engine.cluster.connection import Cluster
    from pipelines.engine.stages import Run

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: train.epochs=5. Repeatable."),
]
Force = Annotated[bool, typer.Option("--force", help="Run even if nothing has changed; training starts from scratch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON; everything else goes to stderr.")]
Root = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run such as classify/digits-lenet5, or its recipe.")]
Target = Annotated[
    str, typer.Argument(metavar="MODEL", help="A recipe with an exported run, or the folder of a model.")
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="CLUSTER",
        help="Spread the work over a Ray cluster: ray starts one on this machine, auto or ray://HOST:10001 joins one.",
    ),
]
RUNS = Path("runs")


def console_for(as_json: bool) -> "Console":
    """Where people are spoken to, by the side of JSON where that is printed."""
    from pipelines.engine import startup

    return startup.console_for(stderr=as_json)


@contextmanager
def cluster_at(address: str) -> "Iterator[Cluster | None]":
    """The cluster of `--on`; None without one. Ray is imported only here."""
    if not address:
        yield None
        return
    from pipelines.engine.cluster import connection

    with connection.connected(address) as cluster:
        yield cluster


def open_run(
    reference: str, overrides: list[str] | None, console: "Console", runs: Path, *, trains: bool = True
) -> "Run":
    """The run of a recipe, which the console names; TensorFlow is loaded, unless what follows may need no training."""
    from pipelines.engine import recipe as recipes
    from pipelines.engine import stages, startup

    run = stages.Run(recipes.load(reference, overrides or ()), console, runs)
    console.print(f"[bold]{run.recipe.task}/{run.recipe.name}[/]  [dim]{run.folder}[/]")
    if trains:
        startup.load_tensorflow(console)
    return run


def escape_markup(text: str) -> str:
    """The text with what `rich` would take for markup escaped."""
    from rich.markup import escape

    return escape(text)
