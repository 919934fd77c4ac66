"""`cnn import-weights`: networks of other frameworks as Keras models."""

import importlib
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
    _convert("pipelines.export.import_darknet", cfg, weights, output)


@imports.command("face-api")
def import_face_api(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The archive from `npm pack`, or its extracted folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("face-api"),
) -> None:
    """Convert the face networks of the npm package @vladmandic/face-api: faces, descriptor, landmarks.

    Example: cnn import-weights face-api vladmandic-face-api-1.7.15.tgz

    `npm pack @vladmandic/face-api` downloads that file.
    """
    _convert("pipelines.export.import_face_api", path, output)


@imports.command("human")
def import_human(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The archive from `npm pack`, or its extracted folder.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder to write; that of `weights: coco` unless given.")
    ] = None,
) -> None:
    """Convert the object detector of the npm package @vladmandic/human: CenterNet, COCO's 80 classes.

    Example: cnn import-weights human vladmandic-human-3.3.6.tgz

    `npm pack @vladmandic/human` downloads that file. Recipes start from it by `model.weights: coco`, and
    `cnn predict ~/.keras/models/coco/centernet PHOTO` asks it as it is.
    """
    _convert("pipelines.tasks.detect.import_human", path, output)


@imports.command("human-faces")
def import_human_faces(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The archive from `npm pack`, or its extracted folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("human-faces"),
) -> None:
    """Convert the face networks of the npm package @vladmandic/human: BlazeFace, two liveness classifiers.

    Example: cnn import-weights human-faces vladmandic-human-3.3.6.tgz

    `npm pack @vladmandic/human` downloads that file. `cnn faces identify --detector blazeface` finds faces by the
    first, and `--liveness human-faces/antispoof` asks one of the others.
    """
    _convert("pipelines.export.import_human_faces", path, output)


@imports.command("human-pose")
def import_human_pose(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The archive from `npm pack`, or its extracted folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")] = Path("human-pose"),
) -> None:
    """Convert what finds people's joints in the npm package @vladmandic/human: CenterNet and MoveNet, as one model.

    Example: cnn import-weights human-pose vladmandic-human-3.3.6.tgz

    `npm pack @vladmandic/human` downloads that file. `cnn predict human-pose/pose PHOTO` finds the 17 joints of each
    person, and `cnn track human-pose/pose VIDEO` follows the people.
    """
    _convert("pipelines.export.import_human_pose", path, output)


def _convert(module: str, *arguments: Path | None) -> None:
    """Let `import_weights` of a module convert a network, and print what it says that it did."""
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    said = importlib.import_module(module).import_weights(*arguments)
    for sentence in [said] if isinstance(said, str) else said:
        console.print(escape_markup(sentence))
