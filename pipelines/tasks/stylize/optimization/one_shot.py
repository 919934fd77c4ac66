"""One-shot stylization: pictures painted once, without a recipe and a run.

Unfinished work stands beside the output, in `.NAME.partial/`; the same command goes on with it, and another one with
the same output starts again.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data.files import durable
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from cnn_keras.losses import style
from pipelines.data import run_files, validation, video_io
from pipelines.engine.training import trainer
from pipelines.inference import exported_model, painting
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset, feature_extractor
from pipelines.tasks.stylize.config import Data, Paint, Picture, files_digest
from pipelines.tasks.stylize.optimization import runner

Network = Callable[["Array"], "Array"]  # a picture to its painting, uint8 (height, width, 3) both


def optimize(data: Data, settings: Paint, output: Path, *, seed: int, console: Console) -> Path:
    """Optimise a picture, each of a folder, or each frame of a video.

    Args:
        output: a PNG file; of a folder one; of a video an .mp4 file.

    Raises:
        Fault: a picture that cannot be read, or an output that does not go with the content.
    """
    check_output(data.content, output)
    partial = output.with_name(f".{output.name}.partial")
    identity = {"data": data.model_dump(mode="json"), "settings": settings.model_dump(mode="json"), "seed": seed}
    identity["files"] = files_digest(data)
    if run_files.kept_json(partial / "wanted.json") != identity:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        dataset.prepare(data, partial, learns=False, seed=seed, console=console)
        durable.sync(partial)
        run_files.write_json(partial / "wanted.json", identity)  # last: what lacks it is begun anew
    trainer.set_up(seed, settings)
    facts = run_files.read_json(partial / "data.json")
    objective, _ = feature_extractor.objective_of(settings.loss, partial, console=console)
    painter = runner.painter_of(data, partial, settings, objective, seed=seed)
    runner.paint(painter, dataset.contents(partial), partial, console=console, video=facts["kind"] == "video")
    paintings = ((picture.name, picture.pixels) for picture in runner.paintings(partial))
    write(paintings, output, rate=facts.get("frames_per_second"))
    shutil.rmtree(partial)
    return output


def apply_network(network: Network, content: Picture, output: Path, *, size: int | None, console: Console) -> Path:
    """Have a network paint a picture, each of a folder, or each frame of a video.

    Args:
        size: pixels of the longer side; None leaves pictures as they are.

    Raises:
        Fault: see `optimize`.
    """
    check_output(content, output)
    video = dataset.file_of(content) if dataset.is_video(content) else None
    inputs = (("frame", frame) for frame in video_io.frames(video)) if video else _readable(content, console)

    def paintings(advance: Callable[[], Any]) -> Iterator[tuple[str, Array]]:
        for name, pixels in inputs:
            yield name, network(dataset.scale_to(pixels, size) if size else pixels)
            advance()

    with validation.progress(console) as bar:
        task = bar.add_task("painting", total=None)
        write(paintings(lambda: bar.advance(task)), output, rate=video_io.facts(video).rate if video else None)
    return output


def network(model: Path, *, signature: str = "serving_default", colour: str = "style") -> Network:
    """What an exported network does to a picture.

    Args:
        signature: that of one style, where the network knows several.
        colour: "style", or "keep" for the picture's own.

    Raises:
        Fault: a model that does not paint, or an unknown signature.
    """
    loaded = tf.saved_model.load(str(exported_model.newest(model)))
    if not painting.paints(loaded):
        raise Fault(f"STYLE must be an image or a transformation network, got {model}")
    painter = painting.Painter(loaded, signature)

    def paint(pixels: Array) -> Array:
        painting: Array = tf.io.decode_png(painter.paint([encode_png(pixels)])[0], channels=3).numpy()
        return style.with_colors_of(painting, pixels) if colour == "keep" else painting

    return paint


def write(paintings: Iterator[tuple[str, Array]], output: Path, *, rate: float | None) -> None:
    """Write paintings with their names: a video's frames where there is a rate, one picture, or a folder of them."""
    if rate is not None:
        runner.write_video((pixels for _, pixels in paintings), output, rate=rate)
    elif output.suffix:
        dataset.save(next(paintings)[1], output)
    else:
        for number, (name, pixels) in enumerate(paintings):
            dataset.save(pixels, output / f"{number:05d}-{name}.png")


def check_output(content: Picture, output: Path) -> None:
    """Raise a Fault unless the output can be of such content."""
    if content.name == dataset.ALL or dataset.file_of(content).is_dir():
        if output.suffix:
            raise Fault(f"--output must be a folder for a folder of pictures, got {output}")
        return
    suffix = ".mp4" if dataset.is_video(content) else ".png"
    if output.suffix.lower() != suffix:
        raise Fault(f"--output must end in {suffix}, got {output}")


def _readable(content: Picture, console: Console) -> Iterator[tuple[str, Array]]:
    """The pictures by name; one that cannot be read is told and left out, and none at all is a Fault."""
    read = 0
    items = dataset.items(content)
    for item in items:
        examined = validation.examine([item], console=console)[0]
        for problem in examined.problems:
            console.print(
                f"          [yellow]{problem.kind}[/], {problem.action}: {escape(item.id)}  {escape(problem.detail)}"
            )
        if examined.digest:
            read += 1
            yield dataset.stem(item.id), dataset.pixels(item)
    if not read:
        raise Fault(f"CONTENT must contain a readable image, got none of {len(items)}", code=Fault.DATA)
