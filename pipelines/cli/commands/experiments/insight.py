"""`cnn insight`: visualization of a trained network."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, Root, RunName, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def insight(
    run: RunName,
    image: Annotated[
        list[Path] | None, typer.Option(help="An image to explain, instead of samples of the test split. Repeatable.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="The layer; by default the first, a middle and the last.")] = None,
    unit: Annotated[int | None, typer.Option(min=0, help="The unit of that layer; by default several.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder to write; the default is insight/ in the run's folder."),
    ] = None,
    runs: Root = RUNS,
) -> None:
    """Visualize what a trained network has learned, and what its predictions depend on.

    Filters of the first layer, feature maps, the image patches that excite a unit most, images made to excite it,
    Grad-CAM and occlusion maps.

    Example: cnn insight classify/digits-lenet5 --layer c3 --unit 5
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import visualize

    paths = visualize.insight(
        run, runs=runs, console=console, images=image or (), layer=layer, unit=unit, output=output
    )
    for path in paths:
        console.print(f"wrote {escape_markup(str(path))}")
