"""`cnn review`: which labels are probably wrong, as a table and as a page."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, AsJson, Root, RunName, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Data")
def review(
    run: RunName,
    out: Annotated[Path, typer.Option("--out", help="The folder to write, new or empty.")] = Path("review"),
    limit: Annotated[
        int, typer.Option(min=1, help="How many findings the page shows, the most suspicious first.")
    ] = 2000,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Find labels that are probably wrong, in what a run's model was not trained on, and write a page to look at them.

    Example: cnn review classify/folder-lenet5 --out review
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from cnn_keras.data.files import file_tree
    from pipelines.analysis.labelling import findings, review_page

    file_tree.check_new_folder(out)
    found = findings.find(run, runs=runs, console=console)
    counts = dict(Counter(row.kind for row in found.rows))
    review_page.write(found, out, limit=limit, console=console)
    for kind, count in counts.items():
        console.print(f"{count:,} × {escape_markup(kind)}")
    console.print(f"wrote {escape_markup(str(out))}: open index.html in a browser; findings.csv has all of them")
    if as_json:
        print(json.dumps({"path": str(out), "pictures": len(found.pictures), "findings": counts}, indent=1))
