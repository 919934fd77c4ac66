"""`cnn similar`: do the splits share pictures that look alike?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, AsJson, Root, RunName, console_for

app = typer.Typer()


@app.command(rich_help_panel="Data")
def similar(
    run: RunName,
    distance: Annotated[int, typer.Option(metavar="BITS", help="How many of 128 bits may differ.")] = 8,
    within: Annotated[bool, typer.Option("--within", help="Take pairs in one split, too.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder to write; the default is similar/ in the run's folder."),
    ] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Find pictures of a prepared run that look alike and are in different splits; draw the closest pairs.

    Example: cnn similar classify/photos --distance 10
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import similar as similarity

    found = similarity.similar(run, runs=runs, console=console, output=output, distance=distance, within=within)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        similarity.show(found, console)
