"""`cnn track`: a detector's objects through a video."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnn_keras.errors import Fault
from pipelines.cli.commands import RUNS, AsJson, Root, Target, console_for, escape_markup

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.inference.object_tracking import Summary

app = typer.Typer()

LINE = "Count what crosses this line, in both directions. Repeatable; a name may stand before it: door=10,200,300,200."
ZONE = "Count what is in this polygon, in pixels. Repeatable; a name may stand before it: yard=0,0,200,0,200,200."


@app.command(rich_help_panel="Models")
def track(
    model: Target,
    source: Annotated[
        str,
        typer.Argument(help="A video, a folder of images, the number of a webcam, or a URL such as rtsp://camera/1."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the frames with boxes, ids and counts to this .mp4 file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the objects of each frame to this CSV file.")] = None,
    mot: Annotated[Path | None, typer.Option(help="Write them to this text file of the MOT Challenge.")] = None,
    events: Annotated[
        Path | None, typer.Option(help="Write each crossing and each visit of a zone to this CSV file.")
    ] = None,
    line: Annotated[list[str] | None, typer.Option(metavar="X1,Y1,X2,Y2", help=LINE)] = None,
    zone: Annotated[list[str] | None, typer.Option(metavar="X1,Y1,X2,Y2,X3,Y3,…", help=ZONE)] = None,
    anchor: Annotated[str, typer.Option(help="Where an object is: center of its box, or bottom.")] = "center",
    high: Annotated[float, typer.Option(min=0, max=1, help="Boxes from this score on are followed first.")] = 0.6,
    low: Annotated[float, typer.Option(min=0, max=1, help="Boxes below this score are left out.")] = 0.1,
    new: Annotated[float, typer.Option(min=0, max=1, help="The least score of a new object.")] = 0.7,
    buffer: Annotated[int, typer.Option(min=0, help="Frames after which a lost object is given up.")] = 30,
    rate: Annotated[
        float | None, typer.Option(min=0.1, max=1000, help="Frames per second, if the source does not say it right.")
    ] = None,
    as_json: AsJson = False,
    runs: Root = RUNS,
) -> None:
    """Follow the objects of a video with an exported detector, and count them at lines and in zones.

    Each object has an id as long as it is followed (ByteTrack). Ctrl-C ends it: the files then hold all frames up to
    there, and the film plays. After an error no file is written.

    Example: cnn track detect/composites-yolo_tiny street.mp4 --out tracked.mp4 --csv tracks.csv --line 0,200,640,200
    """
    from pipelines.data import video_io
    from pipelines.engine.startup import load_tensorflow
    from pipelines.inference import exported_model

    outputs = {"--out": out, "--csv": csv, "--mot": mot, "--events": events}
    _check(outputs, source)
    lines, zones = _places(line or [], "line"), _places(zone or [], "zone")
    if repeated := sorted({*lines} & {*zones}):
        raise Fault(f"--line and --zone must have different names, got {repeated[0]!r} for both")
    console = console_for(as_json)
    load_tensorflow(console)
    from cnn_keras.ops.byte_track import ByteTrack
    from cnn_keras.ops.counting import LineCounter, ZoneCounter
    from pipelines.inference import object_tracking

    tracking = object_tracking.Tracking(
        ByteTrack(high=high, low=low, new=new, buffer=buffer),
        lines={name: LineCounter(points, anchor=anchor) for name, points in lines.items()},
        zones={name: ZoneCounter(points, anchor=anchor) for name, points in zones.items()},
    )
    stream = video_io.open_stream(source, rate=rate)
    detector = object_tracking.load(exported_model.locate(model, runs))
    files = object_tracking.Outputs(out, csv, mot, events)
    summary = object_tracking.track(detector, stream, tracking, files, console)
    for problem in stream.problems[:3]:
        console.print(f"[yellow]black frame[/] {escape_markup(problem)}")
    if stream.problems:
        console.print(f"{len(stream.problems)} of {summary.counts['frames']} frames could not be used, and are black")
    _show(summary, new, console)
    for path in filter(None, outputs.values()):
        console.print(f"wrote {escape_markup(str(path))}")
    if as_json:
        print(json.dumps(summary.counts, indent=1))
    if not (summary.is_whole or stream.is_live):
        console.print("interrupted; the files end with the last frame that was read")
        raise typer.Exit(130)


def _check(outputs: dict[str, Path | None], source: str) -> None:
    """Refuse names of files before anything is computed."""
    paths = {option: path for option, path in outputs.items() if path}
    for option, path in paths.items():
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise Fault(f"{option} must be another file than SOURCE, got {path}")
        if not path.absolute().parent.is_dir():
            raise Fault(f"{option} must be in a folder that exists, got {path}")
    if len({path.absolute() for path in paths.values()}) < len(paths):
        raise Fault(f"{', '.join(paths)} must be different files")
    film = outputs["--out"]
    if film and film.suffix.lower() != ".mp4":
        raise Fault(f"--out must be an .mp4 file, got {film}")


def _places(texts: list[str], what: str) -> dict[str, list[list[float]]]:
    """Points by name: {"door": [[1, 2], [3, 4]]} of "door=1,2,3,4"; "line 1" and so on are without a name."""
    places: dict[str, list[list[float]]] = {}
    for number, text in enumerate(texts, 1):
        name, _, numbers = text.rpartition("=")
        try:
            values = [float(value) for value in numbers.split(",")]
        except ValueError:
            values = []
        is_long_enough = len(values) == 4 if what == "line" else len(values) >= 6 and len(values) % 2 == 0
        if not (is_long_enough and all(map(math.isfinite, values))):
            count = "four numbers" if what == "line" else "x and y of at least three points"
            raise Fault(f"--{what} must be {count}, with commas between them, got {text!r}")
        name = name or f"{what} {number}"
        if name in places:
            raise Fault(f"--{what} must have different names, got {name!r} twice")
        places[name] = [values[place : place + 2] for place in range(0, len(values), 2)]
    return places


def _show(summary: "Summary", new: float, console: "Console") -> None:
    """Print how many objects there were, and the counts of each line and zone."""

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {escape_markup(label)}" for label, count in counts.items()) or "none"

    counts = summary.counts
    console.print(f"{counts['frames']:,} frames; objects: {listed(counts['objects'])}")
    if not counts["objects"]:
        console.print(f"no box has begun a track: the highest score was {summary.best:.2f}, and --new is {new:g}")
    for name, classes in counts["lines"].items():
        ways = (
            f"{way} {listed({label: own[way] for label, own in classes.items() if own[way]})}" for way in ("in", "out")
        )
        console.print(f"{escape_markup(name)}: {'; '.join(ways)}")
    for name, zone in counts["zones"].items():
        console.print(f"{escape_markup(name)}: {listed(zone['visitors'])} in all, {zone['most']} at most at a time")
