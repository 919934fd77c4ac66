"""Who is in pictures and videos: every face with its box, its name and its distance."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from rich.console import Console
from rich.markup import escape

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.data.files.image_file import encode_png
from pipelines.data import video_io
from pipelines.faces import service
from pipelines.faces.encoder import NO_FACE, Recogniser
from pipelines.faces.gallery import Array, Gallery
from pipelines.faces.service import Answer
from pipelines.inference.frames import Annotation, ask_images_and_videos
from pipelines.inference.prediction import Prediction, Source
from pipelines.plots import annotate

NUMBERS = ("distance", "threshold", "left", "top", "right", "bottom", "score")  # of a row of the table


@dataclass(frozen=True, kw_only=True)
class Identification(Annotation):
    """Who the faces of a picture, or of one frame of a video, are.

    Attributes:
        answers: about each face; one without a box is of the whole picture.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("answer", "distance", "frames")

    answers: list[Answer]

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        """Who was found, such as "1 ada, 1 not recognised, nearest bob at 0.21", the least distance, and the frames."""
        answers = [answer for frame in (self, *later) for answer in frame.answers]
        counts = Counter(_told(answer, measured=self.frame is None) for answer in answers).most_common()
        told = ", ".join(f"{count} {text}" if len(answers) > 1 else text for text, count in counts) or NO_FACE
        least = min((answer.distance for answer in answers if answer.distance is not None), default=None)
        frames = "" if self.frame is None else f"{1 + len(later)} frames"
        return told, "" if least is None else f"{least:.3f}", frames

    def drawn(self, image: Array) -> Array:
        """The picture, uint8 (height, width, 3), with a box and a name for each face; "?" is a stranger."""
        height, width = image.shape[:2]
        boxes = [answer.face.box if answer.face else (0, 0, width, height) for answer in self.answers]
        names = [answer.name or "?" for answer in self.answers]
        return annotate.draw_boxes(image, np.array(boxes, float).reshape(-1, 4), names)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each face; one with the problem for a file that cannot be read or a picture without a face."""
        rows = as_rows(predictions)
        has_frames = any("frame" in row for row in rows)
        yield ["path", *(["frame"] if has_frames else []), "name", "nearest", *NUMBERS, "problem"]
        for row in rows:
            texts = [row["name"] or "", row["nearest"] or ""]
            values = [row["distance"], row.get("threshold"), *row.get("box", [None] * 4), row.get("score")]
            frame = [row.get("frame", "")] if has_frames else []
            numbers = ["" if value is None else f"{value:.4f}" for value in values]
            yield [row["path"], *frame, *texts, *numbers, row["problem"] or ""]


class Identifier:
    """Asks who of a gallery is in images and videos.

    Args:
        far: the false-accept rate of an answer; None takes the model's.
    """

    input, suffixes = "image", (*IMAGE_SUFFIXES, *video_io.SUFFIXES)

    def __init__(self, gallery: Gallery, recogniser: Recogniser, far: float | None) -> None:
        self.gallery, self.recogniser, self.far = gallery, recogniser, far

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        """An `Identification` of each picture in order, and of each frame of a video."""
        return ask_images_and_videos(self._ask, self._watch, sources, console)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Prediction]:
        answers = service.identify(self.gallery, self.recogniser, encoded, self.far)
        return [_prediction(source, row) for source, row in zip(sources, answers, strict=True)]

    def _watch(self, video: Path, frames: list[Array], first: int) -> list[Prediction]:
        encoded = [encode_png(frame) for frame in frames]
        answers = service.identify(self.gallery, self.recogniser, encoded, self.far)
        return [_prediction(video, row, frame) for frame, row in enumerate(answers, start=first)]


def as_rows(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """As JSON: a row for each face; one with the problem for a file that cannot be read or a picture without a face."""
    rows = []
    for prediction in predictions:
        answers = prediction.answers if isinstance(prediction, Identification) else []
        empty = Answer(None, None, problem=prediction.problem or NO_FACE)
        frame = getattr(prediction, "frame", None)
        where = {"path": str(prediction.path), **({} if frame is None else {"frame": frame})}
        rows += [{**where, **answer.as_dict()} for answer in answers or [empty]]
    return rows


def _prediction(source: Source, answers: list[Answer], frame: int | None = None) -> Prediction:
    """What is said of a picture or frame, whose answers are those of `service.identify`."""
    first = answers[0].problem
    faces = [] if first == NO_FACE else answers
    if first and faces and all(answer.face is None for answer in faces):
        return Prediction(source=source, problem=first)
    return Identification(source=source, frame=frame, answers=faces)


def _told(answer: Answer, *, measured: bool) -> str:
    """Who it is, in Rich's markup; of a stranger the nearest person, and with `measured` how far that one is."""
    if answer.problem:
        return f"[red]{escape(answer.problem)}[/]"
    alive = "" if answer.alive is None else f", {answer.alive:.0%} alive"
    distance = f" at {answer.distance:.2f}" if measured else ""
    nearest = f", nearest {escape(answer.nearest)}{distance}" if answer.nearest else ""
    return f"[bold]{escape(answer.name)}[/]{alive}" if answer.name else f"not recognised{nearest}{alive}"
