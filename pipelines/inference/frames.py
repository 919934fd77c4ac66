"""Pictures and the frames of videos, asked about alike, and drawn on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

from PIL import Image
from rich.console import Console

from cnn_keras.errors import Unreadable
from pipelines.data import validation, video_io
from pipelines.inference.prediction import Asking, Prediction, Source, ask_images, batched, pixels
from pipelines.plots.image_grid import Array

FRAMES = 8  # of a video, that a model is asked about at once

# A video, some of its frames, uint8 (height, width, 3), and the number of the first, to a prediction of each.
Watching = Callable[[Path, list[Array], int], Sequence[Prediction]]


@dataclass(frozen=True, kw_only=True)
class Annotation(Prediction):
    """What can be drawn on a picture, or on one frame of a video.

    Attributes:
        frame: its number, from 0.
    """

    frame: int | None = None

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        video = self.path
        if self.frame is None or video is None:
            Image.fromarray(self.drawn(pixels(self.source))).save(path)
            return
        pictures = (
            annotation.drawn(frame) for frame, annotation in zip(video_io.frames(video), (self, *later), strict=False)
        )
        video_io.write(path.with_suffix(".mp4"), pictures, rate=video_io.facts(video).rate)

    def drawn(self, image: Array) -> Array:
        """The picture, uint8 (height, width, 3), with what is predicted of it."""
        raise NotImplementedError


def ask_images_and_videos(
    ask: Asking, watch: Watching, sources: Sequence[Source], console: Console
) -> list[Prediction]:
    """A prediction of each source in order; of a video one of each frame, which is read as it is asked about."""
    predictions: list[Prediction] = []
    for video, group in groupby(sources, _video):
        predictions += _watch(watch, video, console) if video else ask_images(ask, group)
    return predictions


def _watch(watch: Watching, file: Path, console: Console) -> list[Prediction]:
    predictions: list[Prediction] = []
    try:
        with validation.progress(console) as bar:
            task = bar.add_task(file.name, total=video_io.facts(file).frames or None)
            for frames in batched(video_io.frames(file), FRAMES):
                predictions += watch(file, frames, len(predictions))
                bar.advance(task, len(frames))
    except Unreadable as error:
        return [Prediction(source=file, problem=str(error))]
    return predictions or [Prediction(source=file, problem="it has no frames")]


def _video(source: Source) -> Path | None:
    """The source, if it is a file of a video."""
    return source if isinstance(source, Path) and source.name.lower().endswith(video_io.SUFFIXES) else None
