"""`cnn convert`: box annotations from one format to another."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Data")
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="coco, voc, yolo, csv, labelme, labelstudio, via, supervisely, kitti, dsb, deepforest or composites."
        ),
    ],
    path: Annotated[Path | None, typer.Argument(help="The file or folder to read, as data.path in a recipe.")] = None,
    to: Annotated[str, typer.Option("--to", help="coco, voc, yolo, csv or labelme.")] = "coco",
    out: Annotated[Path, typer.Option("--out", help="The folder to write, new or empty.")] = Path("converted"),
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The folder of the images, if the annotations do not say where they are."),
    ] = None,
) -> None:
    """Copy annotated images into another format. Reports what that format cannot express.

    Example: cnn convert voc VOC2012 --to yolo --out voc-yolo
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.data.boxes import conversion

    for line in conversion.convert(source, path, to=to, out=out, images=images):
        console.print(escape_markup(line))
