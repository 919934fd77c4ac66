"""`cnn dashboard` and `cnn push`: MLflow."""

from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, Root, RunName, console_for

app = typer.Typer()


@app.command(rich_help_panel="Tracking")
def dashboard(
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 5000,
) -> None:
    """Open MLflow for the runs of this folder; Ctrl-C stops it.

    Example: cnn dashboard --port 5000
    """
    from pipelines.tracking import tracker

    console = console_for(False)
    tracker.dashboard(host=host, port=port, say=console.print)


@app.command(rich_help_panel="Tracking")
def push(run: RunName, runs: Root = RUNS) -> None:
    """Send MLflow the events that an unreachable tracking server has missed.

    Example: cnn push classify/digits-lenet5
    """
    from pipelines.engine import stages
    from pipelines.tracking import tracker

    delivered, pending = tracker.push(stages.run_folder(run, runs))
    console_for(False).print(f"{delivered} events delivered, {pending} pending")
