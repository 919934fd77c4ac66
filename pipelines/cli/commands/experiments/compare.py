"""`cnn compare`: is the difference between runs noise?"""

import json
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, AsJson, Root, console_for

app = typer.Typer()


@app.command(rich_help_panel="Tracking")
def compare(
    names: Annotated[list[str], typer.Argument(metavar="RUN RUN…", help="Evaluated runs, or their recipes.")],
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Compare runs: settings that differ, metrics with intervals, McNemar's test on the shared test set.

    Of several labels an image the gain of mean average precision, of detectors that of AP50, of segmenters that of the
    mean IoU, with their intervals by the paired bootstrap.

    Example: cnn compare classify/digits-lenet5 classify/digits-resnet20
    """
    from pipelines.analysis import compare_runs

    comparison = compare_runs.compare(names, runs)
    if as_json:
        print(json.dumps(comparison, indent=1))
    else:
        compare_runs.show(comparison, console_for(False))
