"""Detectors: what is in a picture or in the frames of a video, and where."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data import run_length
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.data.image_decoding import decode
from pipelines.data import video_io
from pipelines.data.boxes import proposals
from pipelines.inference.frames import Annotation, ask_images_and_videos
from pipelines.inference.prediction import DEFAULT, Prediction, Source
from pipelines.plots import annotate, overlays
from pipelines.plots.image_grid import Array


@dataclass(frozen=True, kw_only=True)
class Detections(Annotation):
    """The things in a picture, or in one frame of a video: their classes, scores and boxes, one by one.

    Attributes:
        classes: names with their scores.
        boxes: left, top, right, bottom in pixels of the upright picture.
        landmarks: of each thing x and y by name, where the model knows some; None is one that is not seen.
        lines: pairs of names of landmarks that a picture joins.
        instances: uint8 (height, width): the number of the thing, from 1, that each pixel belongs to.
    """

    classes: list[tuple[str, float]]
    boxes: list[list[float]]
    landmarks: list[dict[str, list[float] | None]] | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    instances: Array | None = None

    def _values(self) -> dict[str, Any]:
        """As JSON; masks are COCO's run lengths."""
        rows: list[dict[str, Any]] = [
            {"label": label, "probability": round(score, 6), "box": box}
            for (label, score), box in zip(self.classes, self.boxes, strict=True)
        ]
        if self.landmarks is not None:
            rows = [{**row, "landmarks": marks} for row, marks in zip(rows, self.landmarks, strict=True)]
        if self.instances is not None:
            masks = (run_length.encode(self.instances == number) for number in range(1, len(rows) + 1))
            rows = [{**row, "mask": mask} for row, mask in zip(rows, masks, strict=True)]
        return {**({} if self.frame is None else {"frame": self.frame}), "detections": rows}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        """What was found, such as "3 cat, 1 dog", the best score, and the number of frames."""
        counts = Counter(label for frame in (self, *later) for label, _ in frame.classes)
        counted = ", ".join(f"{count} [bold]{escape(label)}[/]" for label, count in counts.most_common()) or "nothing"
        best = max((score for frame in (self, *later) for _, score in frame.classes), default=None)
        frames = "" if self.frame is None else f"{1 + len(later)} frames"
        return counted, "" if best is None else f"{best:.1%}", frames

    def drawn(self, image: Array) -> Array:
        """The picture, uint8 (height, width, 3), with the boxes, and masks and landmarks if there are some."""
        plain = image if self.instances is None else overlays.paint_instances(image, self.instances)
        names, scores = [label for label, _ in self.classes], [score for _, score in self.classes]
        picture = annotate.draw_boxes(plain, np.array(self.boxes).reshape(-1, 4), names, scores)
        scale = picture.shape[0] / plain.shape[0]
        for marks in self.landmarks or ():
            seen = np.array([point is not None for point in marks.values()])
            points = np.array([point or (0.0, 0.0) for point in marks.values()]) * scale
            places = dict(zip(marks, points, strict=True))
            ends = [(places[one], places[other]) for one, other in self.lines if marks[one] and marks[other]]
            picture = annotate.draw_points(picture, points, visible=seen, lines=ends)
        return picture

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each thing; one without any for a picture or frame where nothing was found."""
        readable = [prediction for prediction in predictions if isinstance(prediction, Detections)]
        parts = next((list(prediction.landmarks[0]) for prediction in readable if prediction.landmarks), [])
        edges = ["left", "top", "right", "bottom", *(f"{part}_{axis}" for part in parts for axis in ("x", "y"))]
        has_frames = any(prediction.frame is not None for prediction in readable)
        yield ["path", *(["frame"] if has_frames else []), "label", "probability", *edges, "problem"]
        for prediction in predictions:
            where = [prediction.path, *([getattr(prediction, "frame", None)] if has_frames else [])]
            rows = prediction._rows() if isinstance(prediction, Detections) else []
            for row in rows or [["", "", *[""] * len(edges)]]:
                yield [*where, *row, prediction.problem or ""]

    def _rows(self) -> list[list[str]]:
        """Label, score, edges and landmarks of each thing."""
        unseen = (None, None)
        marks = [[value for point in points.values() for value in point or unseen] for points in self.landmarks or ()]
        places = zip(self.classes, self.boxes, marks or [[]] * len(self.boxes), strict=True)
        return [
            [label, f"{score:.6f}", *("" if edge is None else f"{edge:.1f}" for edge in (*box, *mark))]
            for (label, score), box, mark in places
        ]


class Detector:
    """Asks a detector about images and videos.

    Args:
        folder: of the model, which tells how regions are proposed, where it must be given some.
    """

    input, suffixes = "image", (*IMAGE_SUFFIXES, *video_io.SUFFIXES)

    def __init__(self, loaded: Any, folder: Path) -> None:
        self.signatures, self.folder = loaded.signatures, folder

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images_and_videos(self._ask, self.watch, sources, console)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Detections]:
        detect, regions = self.signatures[DEFAULT], {}
        if _takes_regions(detect):
            images = [decode(tf.constant(data), channels=3).numpy() for data in encoded]
            regions = proposals.model_inputs(self.folder, images)
        outputs = detect(image_bytes=tf.constant(encoded, tf.string), **regions)
        return [Detections(source=source, **row) for source, row in zip(sources, _rows(outputs), strict=True)]

    def watch(self, video: Path, frames: list[Array], first: int) -> list[Detections]:
        """What is in some frames of a video, uint8 (height, width, 3), of which the first has the number `first`."""
        detect = self.signatures["serving_tensor"]
        regions = proposals.model_inputs(self.folder, frames) if _takes_regions(detect) else {}
        rows = _rows(detect(image=tf.constant(np.stack(frames)), **regions))
        return [Detections(source=video, frame=number, **row) for number, row in enumerate(rows, start=first)]


def detects(loaded: Any) -> bool:
    """Whether a loaded model says where things are."""
    return "boxes" in loaded.signatures[DEFAULT].structured_outputs


def _takes_regions(signature: Any) -> bool:
    """Whether a signature must be given proposals of regions."""
    return "proposals" in signature.structured_input_signature[1]


def _rows(outputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of each picture what `Detections` holds."""
    values = {key: value.numpy() for key, value in outputs.items()}
    for row, count in enumerate(values["count"].tolist()):
        names = [label.decode() for label in values["label"][row, :count]]
        marks = numbers = None
        lines: list[tuple[str, str]] = []
        if "landmarks" in values:
            parts = [name.decode() for name in values["landmark_names"][row]]
            points = values["landmarks"][row, :count]
            seen = points.any(axis=-1) if "landmark_scores" in values else np.ones(points.shape[:2], bool)
            marks = [
                {part: point if there else None for part, point, there in zip(parts, *of_one, strict=True)}
                for of_one in zip(points.tolist(), seen, strict=True)
            ]
            pairs = values["landmark_lines"][row] if "landmark_lines" in values else ()
            lines = [(parts[one], parts[other]) for one, other in pairs]
        if "instances_bytes" in values:
            numbers = tf.io.decode_png(values["instances_bytes"][row], channels=1)[..., 0].numpy()
        yield {
            "classes": list(zip(names, values["scores"][row, :count].tolist(), strict=True)),
            "boxes": values["boxes"][row, :count].tolist(),
            "landmarks": marks,
            "lines": lines,
            "instances": numbers,
        }
