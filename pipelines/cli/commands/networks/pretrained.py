"""`cnn models export`: a network with published weights."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, Root, console_for, escape_markup
from pipelines.cli.commands.networks.models import networks

app = typer.Typer()


@networks.command("export")
def export_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A builder, for example vgg16 or vgg.vgg16.")],
    weights: Annotated[str, typer.Option(help="imagenet, or a file of weights for ImageNet's classes.")] = "imagenet",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The folder for the versions; the default is runs/pretrained/NAME."),
    ] = None,
    runs: Root = RUNS,
) -> None:
    """Export a network with published weights for `cnn serve` and `cnn predict`.

    Example: cnn models export efficientnet_lite0 --weights imagenet
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.export import pretrained_model

    folder = escape_markup(
        str(pretrained_model.export(name, weights=weights, output=output, runs=runs, console=console))
    )
    console.print(f"\n[bold green]done[/]  {folder} is ready. Next:")
    console.print(f"  cnn serve {folder}\n  cnn predict {folder} FILES")
