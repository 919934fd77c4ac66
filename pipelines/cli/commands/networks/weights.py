"""`cnn import-weights`: networks of other frameworks as Keras models."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import console_for, escape_markup

app = typer.Typer()
imports = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Convert networks of other frameworks.")
app.add_typer(imports, name="import-weights", rich_help_panel="Models")


@imports.command("darknet")
def import_darknet(
    cfg: Annotated[Path, typer.Argument(metavar="CFG", help="The network's .cfg file.")],
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Its numbers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .keras file to write.")] = Path("model.keras"),
) -> None:
    """Convert a Darknet network to a .keras file: Darknet-19, Darknet-53, YOLOv2, YOLOv3 and the tiny variants.

    Example: cnn import-weights darknet yolov3.cfg yolov3.weights -o yolov3.keras
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.export import import_darknet as export_import_darknet

    console.print(escape_markup(export_import_darknet.import_weights(cfg, weights, output)))


@imports.command("face-api")
def import_face_api(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The archive from `npm pack`, or its extracted folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("face-api"),
) -> None:
    """Convert the face networks of the npm package @vladmandic/face-api: descriptor and landmarks.

    Example: cnn import-weights face-api vladmandic-face-api-1.7.15.tgz

    `npm pack @vladmandic/face-api` downloads that file.
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.export import import_face_api as export_import_face_api

    for sentence in export_import_face_api.import_weights(path, output):
        console.print(escape_markup(sentence))
