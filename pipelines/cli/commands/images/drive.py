"""`cnn drive`: the Donkey simulator's car, steered by an exported network."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, Target, console_for, escape_markup

app = typer.Typer()


@app.command(rich_help_panel="Models")
def drive(
    model: Target,
    host: Annotated[str, typer.Option(help="Where the simulator runs.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="At which port it listens.")] = 9091,
    scene: Annotated[str | None, typer.Option(help="The track to load, generated_track for example.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Frames after which the car brakes.")] = 1000,
    throttle: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Of every frame, instead of what the network says.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write angle, throttle, speed and distance from the middle to this file.")
    ] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Drive the car of the Donkey simulator, which must be running, with a network of the task steer.

    The simulator sends frames and is answered with the wheel's angle and the throttle. Ctrl-C ends the drive.

    Example: cnn drive steer/tub-pilotnet --scene generated_track --steps 2000 --csv drive.csv
    """
    from pipelines.engine.startup import load_tensorflow
    from pipelines.inference import exported_model

    if csv is not None and not csv.absolute().parent.is_dir():
        raise Fault(f"--csv must be in a folder that exists, got {csv}")
    console = console_for(as_json)
    load_tensorflow(console)
    from pipelines.inference import donkey_simulator

    steerer = donkey_simulator.load(exported_model.locate(model, runs))
    summary = donkey_simulator.drive(
        lambda encoded: steerer.predict([encoded], console)[0],
        (host, port),
        console,
        steps=steps,
        scene=scene,
        throttle=throttle,
        table=csv,
    )
    rate = (summary.frames - 1) / summary.seconds if summary.seconds else 0.0
    away = "" if summary.cte is None else f"; at most {summary.cte:.2f} from the middle"
    console.print(
        f"{summary.frames:,} frames in {summary.seconds:.1f} s, {rate:.1f} a second, {summary.skipped:,} others "
        f"skipped; {summary.hits} hits{away}"
    )
    for problem, count in summary.refused.items():
        console.print(f"[yellow]refused[/] {count:,} messages: {escape_markup(problem)}")
    if csv is not None:
        console.print(f"wrote {escape_markup(str(csv))}")
    if as_json:
        print(json.dumps(summary._asdict(), indent=1))
    if not summary.is_whole:
        console.print(f"ended before {steps:,} frames")
        raise typer.Exit(130)
