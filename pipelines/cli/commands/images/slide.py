"""`cnn slide`: a classifier as a detector, window by window."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, Root, RunName, console_for, escaped

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def slide(
    run: RunName,
    image: Annotated[Path, typer.Argument(help="A picture, larger than what the classifier takes.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The PNG file to write; else <stem>-windows.png, here.")
    ] = None,
    scale: Annotated[
        list[float] | None,
        typer.Option(min=0.01, help="Resize the picture by this factor; below 1 finds larger things. Repeatable."),
    ] = None,
    background: Annotated[str | None, typer.Option(help="The class that stands for nothing.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The least probability of what is found.")] = 0.9,
    overlap: Annotated[float, typer.Option(min=0, max=1, help="Of two windows above this IoU one is kept.")] = 0.3,
    compare: Annotated[
        bool, typer.Option("--compare", help="Ask window by window too, and tell what it costs.")
    ] = False,
    runs: Root = RUNS,
) -> None:
    """Ask a trained classifier about every window of a larger picture, all in one pass, and draw where it sees what.

    Its dense layers become convolutions, so that what neighbouring windows share is computed once.

    Example: cnn slide classify/digits-lenet5 page.png --scale 1 --scale 0.7
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import sliding_window as sliding
    from pipelines.data import image_io

    model, names = sliding.load(run, runs)
    picture = image_io.read(image, channels=model.input_shape[-1])
    sheet = sliding.slide(
        model,
        names,
        picture,
        output or Path(f"{image.stem}-windows.png"),
        scales=scale or (1.0,),
        background=background,
        threshold=threshold,
        overlap=overlap,
    )
    console.print(
        f"{sheet.windows:,} windows, {int(sheet.detections.count[0])} found; wrote {escaped(str(sheet.path))}"
    )
    if sheet.network.padded:
        console.print(
            f"[dim]{len(sheet.network.padded)} layers pad, so that windows at a border of the picture are seen as in "
            "training, and others with their neighbours[/]"
        )
    if compare:
        found = sliding.cost(model, picture)
        console.print(
            f"one by one {found.naive_multiply_adds:,} multiply-adds in {found.naive_seconds:.3g} s, at once "
            f"{found.convolutional_multiply_adds:,} in {found.convolutional_seconds:.3g} s: {found.fewer:.1f} times "
            f"fewer, {found.faster:.1f} times faster; the probabilities differ by at most {found.difference:.1e}, and "
            f"{found.changed} of {found.windows:,} windows show another class"
        )
