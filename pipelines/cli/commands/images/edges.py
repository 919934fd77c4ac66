"""`cnn edges`: fixed edge filters."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def edges(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    kind: Annotated[str, typer.Option("--filter", help="simple (1 0 −1), sobel or scharr.")] = "sobel",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The PNG file to write; the default is STEM-edges.png in this folder."),
    ] = None,
) -> None:
    """Apply fixed edge filters to an image and draw the vertical and horizontal response and their magnitude.

    Example: cnn edges photo.jpg
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import edges as edge_pictures

    console.print(f"wrote {escape_markup(str(edge_pictures.edges(image, kind=kind, output=output)))}")
