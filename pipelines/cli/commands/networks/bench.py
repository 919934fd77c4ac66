"""`cnn bench`: benchmarks of this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import AsJson, Overrides, RecipeName, console_for

app = typer.Typer()
benches = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Benchmarks of this machine.")
app.add_typer(benches, name="bench", rich_help_panel="Learn")


@benches.command("input")
def bench_input(
    recipe: RecipeName,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="Seconds to measure each step.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Measure the input pipeline: reading, decoding, each augmentation, and all together. Names the slowest step.

    Example: cnn bench input classify/digits-lenet5
    """
    from pipelines.engine import recipe as recipes
    from pipelines.engine.startup import load_tensorflow

    loaded = recipes.load(recipe, overrides or ())
    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.engine.training import input_benchmark as benchmark

    speeds = benchmark.measure(loaded, seconds=seconds)
    if as_json:
        steps = [speed._asdict() for speed in speeds]
        print(json.dumps({"steps": steps, "slowest": benchmark.slowest(speeds).step}, indent=1))
    else:
        benchmark.show(speeds, console)


@benches.command("detectors")
def bench_detectors(
    images: Annotated[
        list[Path] | None, typer.Argument(help="Image files; the default is a photograph from scikit-learn.")
    ] = None,
    side: Annotated[int, typer.Option(min=32, help="Side length of the images in pixels, a multiple of 32.")] = 416,
    proposals: Annotated[int, typer.Option(min=1, help="Maximum number of regions from selective search.")] = 2000,
    backbone: Annotated[
        str, typer.Option(help="The builder of the backbone of all four detectors.")
    ] = "resnet.resnet18",
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of the fast measurements.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Time R-CNN, Fast R-CNN, Faster R-CNN, YOLO and sliding windows on the same images and backbone.

    Example: cnn bench detectors --proposals 500
    """
    from pipelines.engine.startup import load_tensorflow

    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.analysis import detector_benchmark as benchmark

    pictures = benchmark.photographs(images or (), side=side)
    with console.status("measuring") as status:
        ladder = benchmark.measure(
            pictures,
            backbone=backbone,
            proposals=proposals,
            rounds=rounds,
            done=lambda name: status.update(f"measured {name}"),
        )
    if as_json:
        print(json.dumps(benchmark.plain(ladder), indent=1))
    else:
        benchmark.show(ladder, console)
