"""`cnn models`: the catalogue of networks, and their layers."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import AsJson, console_for, escape_markup

app = typer.Typer()
networks = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="The catalogue of networks, and their layers."
)
app.add_typer(networks, name="models", rich_help_panel="Learn")


@networks.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Names with wildcards, for example 'resnet*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the networks that recipes can use as builders, with published figures.

    Example: cnn models list 'resnet*'
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import model_summary

    rows = model_summary.catalogue(pattern)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        model_summary.show_catalogue(rows, console)


@networks.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A builder, for example vgg16 or vgg.vgg16.")],
    shape: Annotated[
        str | None, typer.Option("--input", metavar="HxWxC", help="Input shape, if not the default.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes, if not the default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size for the memory of activations.")] = 1,
    layers: Annotated[
        bool, typer.Option("--layers", help="List every layer of a long network instead of its blocks.")
    ] = False,
    notation: Annotated[
        bool, typer.Option("--notation", help="Show filter size f, padding p and stride s of the layers instead.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every layer to this CSV file.")] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the architecture to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Summarize a network: sizes, parameters, multiply-adds, memory and receptive fields, beside published figures.

    Example: cnn models show vgg16
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import model_summary, quiz
    from pipelines.analysis.diagram import model_diagram

    if notation:
        quiz.show_notation(name, console, shape=shape, classes=classes)
        return
    network = model_summary.examine(name, shape=shape, classes=classes, batch=batch)
    if csv:
        model_summary.write_csv(network, csv)
        console.print(f"wrote {escape_markup(str(csv))}")
    if picture:
        model_diagram.picture(network, picture)
        console.print(f"wrote {escape_markup(str(picture))}")
    if as_json:
        print(json.dumps(model_summary.plain(network), indent=1))
    else:
        model_summary.show(network, console, layers=layers)
