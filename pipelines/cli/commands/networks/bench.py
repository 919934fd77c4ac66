"""`cnn bench`: benchmarks of this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.commands import RUNS, AsJson, Overrides, RecipeName, Root, RunName, console_for, open_run

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


@benches.command("train")
def bench_train(
    recipe: RecipeName,
    overrides: Overrides = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="float32, bfloat16 or float16. Repeatable; the default is the first two, on a GPU all three."
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Repeatable; the default is half, once and twice the recipe's."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.05, help="Seconds to train for each row of the table.")] = 3.0,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Measure a training step in each precision and at each batch size: images/s, CPU time, input, memory.

    Example: cnn bench train classify/digits-lenet5
    """
    console = console_for(as_json)
    run = open_run(recipe, overrides, console, runs)
    from pipelines.engine.experiments import training_benchmark as benchmark
    from pipelines.engine.training import task_training

    task_training.check(run)
    sizes = batch_size or benchmark.batch_sizes(recipe, overrides or (), run.recipe.train.batch_size)
    wanted = [(each, size) for each in precision or benchmark.precisions() for size in sizes]
    rows = benchmark.measure(run, recipe, overrides or (), wanted=wanted, seconds=seconds)
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        benchmark.show(rows, console)


@benches.command("scaling")
def bench_scaling(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpus: Annotated[list[int] | None, typer.Option(min=1, help="Predict for so many GPUs. Repeatable.")] = None,
    machine: Annotated[int, typer.Option(min=1, help="GPUs in a machine.")] = 8,
    link: Annotated[float, typer.Option(min=0.001, help="GB/s from GPU to GPU in a machine.")] = 200.0,
    network: Annotated[float, typer.Option(min=0.001, help="GB/s from machine to machine.")] = 12.5,
    latency: Annotated[float, typer.Option(min=0.0, help="Microseconds that a message takes besides.")] = 20.0,
    images: Annotated[
        float | None, typer.Option(min=0.001, help="Images/s that one GPU trains on; the default is measured here.")
    ] = None,
    decoded: Annotated[
        float | None, typer.Option(min=0.001, help="Images/s of a machine's input; the default is measured here.")
    ] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Predict the speed of a training on 1, 8 and 64 GPUs from steps that are measured here, and name the bottleneck.

    Example: cnn bench scaling classify/digits-lenet5 --network 3.1
    """
    console = console_for(as_json)
    run = open_run(recipe, overrides, console, runs)
    from pipelines.analysis import scaling
    from pipelines.engine.experiments import dry_run

    measured = dry_run.measure(run)
    computed = images or measured["images_per_second"] / max(1 - measured["input_share"], 1e-3)
    batch = measured["batch_size"]
    step = scaling.Step(batch, batch / computed, measured["bytes"]["gradients"])
    cluster = scaling.Cluster(
        machine, link * 1e9, network * 1e9, latency / 1e6, decoded or measured["input_per_second"]
    )
    predictions = [scaling.predict(step, cluster, number) for number in gpus or (1, 8, 64)]
    if as_json:
        print(json.dumps([one._asdict() for one in predictions], indent=1))
    else:
        scaling.show(predictions, step, cluster, console)


@benches.command("export")
def bench_export(run: RunName, as_json: AsJson = False, runs: Root = RUNS) -> None:
    """Measure a run's network in every format that `cnn export --format` has written: size, memory, speed, metric.

    Example: cnn bench export classify/digits-lenet5
    """
    from pipelines.analysis import format_benchmark as benchmark
    from pipelines.engine.stages import run_folder

    console = console_for(as_json)
    with console.status("measuring"):
        rows = benchmark.measure(run_folder(run, runs))
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        benchmark.show(rows, console)


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
