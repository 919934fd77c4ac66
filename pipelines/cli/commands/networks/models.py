"""`cnn models`: the networks, and what they are made of."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import AsJson, console_for, escaped

app = typer.Typer()
networks = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="The networks, and what they are made of.")
app.add_typer(networks, name="models", rich_help_panel="Learn")


@networks.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Names with wildcards, for example 'resnet*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the networks that recipes can name as builders, with the literature's figures.

    Example: cnn models list 'resnet*'
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import model_summary

    found = model_summary.catalogue(pattern)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        model_summary.show_catalogue(found, console)


@networks.command("show")
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A builder, for example vgg16 or vgg.vgg16.")],
    shape: Annotated[str | None, typer.Option("--input", metavar="HxWxC", help="Another size of input.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Another number of classes.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples whose activations are counted.")] = 1,
    layers: Annotated[bool, typer.Option("--layers", help="Every layer of a long network, not its blocks.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write every layer to this CSV file.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw its architecture.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take a network apart: sizes, parameters, multiply-adds, memory, receptive fields; ours against the paper's.

    Example: cnn models show vgg16
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import model_summary
    from pipelines.analysis.diagram import model_diagram

    network = model_summary.examine(name, shape=shape, classes=classes, batch=batch)
    if csv:
        model_summary.write_csv(network, csv)
        console.print(f"wrote {escaped(str(csv))}")
    if picture:
        model_diagram.picture(network, picture)
        console.print(f"wrote {escaped(str(picture))}")
    if as_json:
        print(json.dumps(model_summary.plain(network), indent=1))
    else:
        model_summary.show(network, console, layers=layers)
