"""The pictures of a run painted one after the other; a killed run goes on from its state.

What is done stays: a painting that is finished is a file, the one in work is in the state, previews show how it went.
A frame of a video begins with the painting of the frame before, carried along by what moves, so that strokes stay with
their things: Ruder, Dosovitskiy and Brox, "Artistic style transfer for videos", 2016, without their temporal loss.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnn_keras.data.files import durable
from cnn_keras.losses.style import Objective
from pipelines.data import run_files, video_io
from pipelines.plots import charts
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize.config import Data, Paint
from pipelines.tasks.stylize.dataset import NamedImage
from pipelines.tasks.stylize.optimization import optical_flow
from pipelines.tasks.stylize.optimization.optimizer_state import OptimizerState, Row
from pipelines.tasks.stylize.optimization.painting import Painter

PAINTINGS, PREVIEWS = "paintings", "previews"


def paint(
    painter: Painter,
    pictures: Sequence[NamedImage],
    folder: Path,
    *,
    console: Console,
    on_round: Any = lambda number, row: None,
    video: bool = False,
) -> list[Row]:
    """Paint all of the pictures into `folder/paintings`, going on from the state found there.

    Args:
        on_round: hears of every round, its number from 1 and its row; of those before an interruption again.
        video: whether the pictures are frames; previews are left out.

    Returns:
        The rows of the history: a round each, with picture, scale, step, the terms of J and the seconds of a step.
    """
    settings = painter.settings
    durable.mkdir(folder)
    state = OptimizerState.restored(folder)
    for number, row in enumerate(state.rows, 1):
        on_round(number, row)
    total = settings.steps * len(settings.scales)
    if state.rows:
        done = int(state.rows[-1]["step"]) if state.rows[-1]["picture"] == state.picture else 0
        console.print(f"          resumed at picture {state.picture + 1} of {len(pictures)}, step {done} of {total}")
    with _progress(console) as bar:
        for number in range(state.picture, len(pictures)):
            picture = pictures[number]
            task = bar.add_task(picture.name, total=total, terms="")

            def on_step(step: int, row: Row, task: Any = task) -> None:
                bar.update(task, completed=step, terms=_written(row))

            def round_over(state: OptimizerState, picture: NamedImage = picture) -> None:
                row = state.rows[-1]
                state.save(folder)
                if not video:
                    shot = folder / PREVIEWS / f"{state.picture:05d}-{picture.name}-{row['step']:05.0f}.png"
                    dataset.save(_seen(state), shot)
                on_round(len(state.rows), row)
                if not console.is_terminal:
                    console.print(f"          {picture.name} {row['step']:.0f}/{total}  {_written(row)}")

            start = _carried(pictures, number, folder) if video and number else None
            painting = painter.paint(picture.pixels, state, on_round=round_over, on_step=on_step, start=start)
            dataset.save(painting, _path(folder, number, picture))
            state = OptimizerState(picture=number + 1, rows=state.rows)
            state.save(folder)
            bar.remove_task(task)
    (folder / run_files.STATE).unlink(missing_ok=True)
    return state.rows


def paintings(folder: Path) -> list[NamedImage]:
    """What was painted, in order: uint8, the sizes of the pictures."""
    files = sorted((folder / PAINTINGS).glob("*.png"))
    return [NamedImage(path.stem.partition("-")[2], dataset.load(path)) for path in files]


def painter_of(data: Data, prepared: Path, settings: Paint, objective: Objective, *, seed: int = 0) -> Painter:
    """Who paints in the prepared styles of a recipe's data, judged by this objective."""
    return Painter(
        objective,
        settings,
        styles=[style.pixels for style in dataset.styles(prepared)],
        weights=[style.weight for style in data.styles],
        masks=dataset.masks(prepared),
        seed=seed,
    )


def write_history(rows: Sequence[Row], path: Path) -> None:
    """The rounds as a CSV file."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    durable.write_text(path, out.getvalue())


def draw_history(rows: Sequence[Row], path: Path) -> None:
    """The terms of J over the steps of the first picture."""
    first = [row for row in rows if row["picture"] == rows[0]["picture"]]
    terms = [name for name in first[-1] if name not in ("picture", "scale", "step", "seconds_per_step")]
    lines = {name: [(row["step"], row[name]) for row in first] for name in terms}
    panel = charts.Panel("terms of J, with their weights", "step", lines=lines, log="y")
    charts.panels([panel], path, heading="The first picture: each term after every round of steps")


def write_video(frames: Iterable[Array], path: Path, *, rate: float) -> None:
    """Frames, uint8 (height, width, 3), RGB, of one size, as an MP4; sides become even, as players want them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    video_io.write(path, frames, rate=rate)


def _carried(pictures: Sequence[NamedImage], number: int, folder: Path) -> Array:
    """What a frame begins with: the painting of the one before, moved as the two differ."""
    before, after = (pictures[place].pixels for place in (number - 1, number))
    return optical_flow.warp_forward(dataset.load(_path(folder, number - 1, pictures[number - 1])), before, after)


def _path(folder: Path, number: int, picture: NamedImage) -> Path:
    return folder / PAINTINGS / f"{number:05d}-{picture.name}.png"


def _seen(state: OptimizerState) -> Array:
    image: Array = np.clip(np.round(state.image[0]), 0, 255).astype(np.uint8)
    return image


def _written(row: Row) -> str:
    terms = (name for name in row if name not in ("picture", "scale", "step", "seconds_per_step"))
    speed = f"  {row['seconds_per_step']:.2g} s/step" if "seconds_per_step" in row else ""
    return "  ".join(f"{name} {row[name]:.4f}" for name in terms) + speed


def _progress(console: Console) -> Progress:
    """A bar with the terms of J, gone when it is done."""
    columns = (
        TextColumn("          {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[terms]}[/]"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
