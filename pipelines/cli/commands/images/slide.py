"""`cnn slide`: a classifier as a detector, by sliding windows."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, Root, RunName, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Learn")
def slide(
    run: RunName,
    image: Annotated[Path, typer.Argument(help="An image larger than the classifier's input.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The PNG file to write; the default is STEM-windows.png in this folder."),
    ] = None,
    scale: Annotated[
        list[float] | None,
        typer.Option(min=0.01, help="Resize the image by this factor; below 1 finds larger objects. Repeatable."),
    ] = None,
    background: Annotated[str | None, typer.Option(help="The background class.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum probability of a detection.")] = 0.9,
    overlap: Annotated[float, typer.Option(min=0, max=1, help="IoU threshold of non-maximum suppression.")] = 0.3,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also classify window by window, and compare the cost.")
    ] = False,
    runs: Root = RUNS,
) -> None:
    """Classify every window of a larger image in one pass, and draw the detections.

    Dense layers become convolutions, so that overlapping windows share their computation.

    Example: cnn slide classify/digits-lenet5 page.png --scale 1 --scale 0.7
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.analysis import sliding_window
    from pipelines.data import image_io

    model, names = sliding_window.load(run, runs)
    picture = image_io.read(image, channels=model.input_shape[-1])
    sheet = sliding_window.slide(
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
        f"{sheet.windows:,} windows, {int(sheet.detections.count[0])} found; wrote {escape_markup(str(sheet.path))}"
    )
    if sheet.network.padded:
        console.print(
            f"[dim]{len(sheet.network.padded)} layers pad: only windows at a border of the image are padded as in "
            "training; others see their neighbours[/]"
        )
    if compare:
        costs = sliding_window.cost(model, picture)
        console.print(
            f"one by one {costs.naive_multiply_adds:,} multiply-adds in {costs.naive_seconds:.3g} s, at once "
            f"{costs.convolutional_multiply_adds:,} in {costs.convolutional_seconds:.3g} s: {costs.fewer:.1f} times "
            f"fewer, {costs.faster:.1f} times faster; the probabilities differ by at most {costs.difference:.1e}, and "
            f"{costs.changed} of {costs.windows:,} windows show another class"
        )
