"""`cnn stylize`: a picture in the style of another."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.commands import RUNS, Root, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Pictures")
def stylize(
    content: Annotated[str, typer.Argument(help="An image, a folder of images, a video, or a name such as astronaut.")],
    style: Annotated[
        list[str],
        typer.Argument(
            help="Images, or starry_night or scream; several are blended. Or the run of a stylization network."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="A .png or .mp4 file or a folder; by default in this folder, named after both."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=32, help="Longer side in pixels; the default is 384, or the image's own for a network."),
    ] = None,
    scale: Annotated[
        float, typer.Option(min=0.1, help="Scale of the strokes: size of the style image relative to --size.")
    ] = 1.0,
    strength: Annotated[float, typer.Option(min=0.01, help="Weight of the style relative to the content.")] = 1.0,
    colour: Annotated[
        str, typer.Option(help="style, keep (the content's colours) or match (styles recoloured to the content).")
    ] = "style",
    init: Annotated[str, typer.Option(help="Initial image: content, noise or blend.")] = "content",
    steps: Annotated[int, typer.Option(min=1, help="Optimization steps at each of two scales.")] = 100,
    extractor: Annotated[
        str, typer.Option(help="The network that computes the loss; auto takes the best available.")
    ] = "auto",
    signature: Annotated[str, typer.Option(help="The style, for a network with several.")] = "serving_default",
    seed: int = 0,
    runs: Root = RUNS,
) -> None:
    """Paint an image, a folder of images or a video in the style of others.

    The pixels are optimised, which takes minutes, unless STYLE is the run of a trained network, which takes seconds.
    After an interruption, the same command continues.

    Example: cnn stylize photo.jpg starry_night -o painted.png
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(False)
    load_tensorflow(console)
    from pipelines.data.schema import parse_section
    from pipelines.inference import exported_model
    from pipelines.tasks.stylize.config import Data, Paint, Picture
    from pipelines.tasks.stylize.optimization import one_shot

    picture = parse_section(Picture, _picture(content), folder=Path.cwd())
    output = output or _named(content, style)
    if len(style) == 1 and _is_model(style[0], runs):
        network = one_shot.network(exported_model.locate(style[0], runs), signature=signature, colour=colour)
        one_shot.apply_network(network, picture, output, size=size, console=console)
    else:
        data = {"content": _picture(content), "styles": [_picture(path) for path in style], "size": size or 384}
        settings = {"steps": steps, "init": init, "colour": colour, "loss": {"extractor": extractor}}
        painting = parse_section(Paint, settings, folder=Path.cwd())
        stronger = painting.loss.model_copy(update={"style": painting.loss.style * strength})
        one_shot.optimize(
            parse_section(Data, data | {"style_scale": scale}, folder=Path.cwd()),
            painting.model_copy(update={"loss": stronger}),
            output,
            seed=seed,
            console=console,
        )
    console.print(f"wrote {escape_markup(str(output))}")


def _picture(text: str) -> dict[str, Any]:
    """A file by its path where there is one, else a name."""
    return {"path": text} if Path(text).exists() or Path(text).suffix else {"name": text}


def _is_model(text: str, runs: Path) -> bool:
    exported = runs / text / "export"
    return exported.is_dir() or any(Path(text).glob("**/saved_model.pb"))


def _named(content: str, style: list[str]) -> Path:
    """photo-starry_night.png, here; of a folder without a suffix, of a video with .mp4."""
    from pipelines.data.video_io import SUFFIXES

    path = Path(content)
    suffix = "" if path.is_dir() else ".mp4" if path.suffix.lower() in SUFFIXES else ".png"
    return Path("-".join([path.stem, *(Path(path_).stem for path_ in style)]) + suffix)
