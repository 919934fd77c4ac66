"""`cnn drift`: are new pictures still like those that a network was made for?"""

import json
from pathlib import Path
from typing import Annotated

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, RunName, console_for

app = typer.Typer()


@app.command(rich_help_panel="Tracking")
def drift(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New pictures; they need no labels.")],
    false_alarm: Annotated[
        float, typer.Option(metavar="SHARE", help="How often pictures of the same kind may raise an alarm.")
    ] = 0.05,
    check: Annotated[bool, typer.Option("--check", help=f"Exit with {Fault.GATE} if anything has drifted.")] = False,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Compare new pictures with those of a trained run: sizes, brightness, contrast, sharpness, features, answers.

    Example: cnn drift classify/digits-lenet5 photos --check
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import drift as drifts

    found = drifts.drift(run, folder, runs=runs, console=console, false_alarm=false_alarm)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        drifts.show(found, console)
    if check and found["drift"]:
        raise typer.Exit(Fault.GATE)
