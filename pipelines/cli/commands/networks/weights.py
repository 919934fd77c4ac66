"""`cnn import-weights`: networks that another framework trained, as ours."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import console_for, escaped

app = typer.Typer()
imports = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Networks of other frameworks, as ours.")
app.add_typer(imports, name="import-weights", rich_help_panel="Models")


@imports.command("darknet")
def import_darknet(
    cfg: Annotated[Path, typer.Argument(metavar="CFG", help="The network's description.")],
    weights: Annotated[Path, typer.Argument(metavar="WEIGHTS", help="Its numbers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .keras file to write.")] = Path("model.keras"),
) -> None:
    """Turn a Darknet network into a .keras file: Darknet-19 and -53, YOLOv2, YOLOv3, their tiny forms.

    Example: cnn import-weights darknet yolov3.cfg yolov3.weights -o yolov3.keras
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.export import import_darknet as export_import_darknet

    console.print(escaped(export_import_darknet.import_weights(cfg, weights, output)))


@imports.command("face-api")
def import_face_api(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="What `npm pack` fetched, or the folder in it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("face-api"),
) -> None:
    """Turn the face networks of the npm package @vladmandic/face-api into models: descriptor and landmarks.

    Example: cnn import-weights face-api vladmandic-face-api-1.7.15.tgz

    `npm pack @vladmandic/face-api` fetches that file.
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.export import import_face_api as export_import_face_api

    for sentence in export_import_face_api.import_weights(path, output):
        console.print(escaped(sentence))
