"""Objects followed through a video: a detector's boxes frame by frame, their tracks, and counts at lines and in zones.

Frames are read, asked about, drawn and written as they come; a few of them are in memory at a time, however long the
video is.
"""

import csv
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.ops.byte_track import ByteTrack, Tracks
from cnn_keras.ops.counting import Event, LineCounter, ZoneCounter
from pipelines.data import video_io
from pipelines.data.validation import progress
from pipelines.data.video_io import Stream
from pipelines.engine import stop_signals
from pipelines.inference import predict
from pipelines.inference.detection import Detections, Detector
from pipelines.inference.exported_model import newest
from pipelines.inference.frames import FRAMES
from pipelines.inference.prediction import batched
from pipelines.plots import annotate
from pipelines.plots.image_grid import Array


class Outputs(NamedTuple):
    """The files to write, each if it has a name."""

    film: Path | None = None  # the frames with boxes, ids, lines, zones and counts
    table: Path | None = None  # CSV, a row for each object in each frame
    mot: Path | None = None  # the same as text of the MOT Challenge
    events: Path | None = None  # CSV, a row for each crossing of a line, and for coming into a zone or going out of it


class Frame(NamedTuple):
    """What is written of a frame."""

    number: int  # from 0
    time: float  # seconds from the first frame
    tracks: Tracks
    events: list[tuple[str, Event]]  # the line or zone of each
    names: list[str]  # of the classes


Rows = Callable[[Frame], Iterable[Sequence[Any]]]


class Summary(NamedTuple):
    """What has been seen."""

    is_whole: bool  # the video was read to its end
    best: float  # the highest score of all boxes
    counts: dict[str, Any]  # as JSON


class Tracking:
    """Follows the objects of one stream.

    Args:
        lines: counters by name; `zones` likewise.
    """

    def __init__(
        self, tracker: ByteTrack, *, lines: Mapping[str, LineCounter], zones: Mapping[str, ZoneCounter]
    ) -> None:
        self.tracker, self.lines, self.zones = tracker, lines, zones
        self.frames, self.best = 0, 0.0
        self.objects: Counter[str] = Counter()
        self._last_id = 0
        self._numbers: dict[str, int] = {}  # of the classes, by name

    @property
    def names(self) -> list[str]:
        """The names of the classes that have been detected."""
        return list(self._numbers)

    def update(self, detections: Detections, seconds: float) -> Frame:
        """Follow the objects into the next frame, which is so many seconds after the first one."""
        labels = [self._numbers.setdefault(label, len(self._numbers)) for label, _ in detections.classes]
        scores = np.array([score for _, score in detections.classes])
        tracks = self.tracker.update(np.array(detections.boxes).reshape(-1, 4), scores, np.array(labels, np.int64))
        self.best = max(self.best, float(scores.max(initial=0.0)))
        is_new = tracks.ids > self._last_id
        self.objects.update(self.names[label] for label in tracks.classes[is_new])
        self._last_id = int(tracks.ids.max(initial=self._last_id))
        places: list[tuple[str, LineCounter | ZoneCounter]] = [*self.lines.items(), *self.zones.items()]
        events = [(name, event) for name, place in places for event in place.update(tracks)]
        self.frames += 1
        return Frame(self.frames - 1, seconds, tracks, events, self.names)

    def counts(self) -> dict[str, Any]:
        """As JSON: the objects of each class, and how many have crossed each line or been in each zone."""
        names = self.names
        lines = {
            name: {
                names[label]: {way: line.counts[label, way] for way in ("in", "out")}
                for label in sorted({label for label, _ in line.counts})
            }
            for name, line in self.lines.items()
        }
        zones = {
            name: {
                "visitors": {names[label]: count for label, count in sorted(zone.visitors.items())},
                "now": {names[label]: count for label, count in sorted(zone.now.items())},
                "most": zone.most,
            }
            for name, zone in self.zones.items()
        }
        return {"frames": self.frames, "objects": dict(self.objects), "lines": lines, "zones": zones}

    def draw(self, image: Array, tracks: Tracks) -> Array:
        """The image, uint8 (height, width, 3), with the objects, the lines and the zones and their counts."""
        names = [f"{self.names[label]} #{number}" for number, label in zip(tracks.ids, tracks.classes, strict=True)]
        picture = annotate.draw_boxes(image, tracks.boxes, names, classes=tracks.ids.tolist())
        scale = picture.shape[0] / image.shape[0]
        lines = []
        for name, line in self.lines.items():
            entered, left = (
                sum(count for (_, own), count in line.counts.items() if own == way) for way in ("in", "out")
            )
            lines.append((line.line * scale, f"{name}: {entered} in, {left} out"))
        zones = [
            (zone.polygon * scale, f"{name}: {zone.now.total()} now, {zone.visitors.total()} in all")
            for name, zone in self.zones.items()
        ]
        return annotate.draw_places(picture, lines, zones)


def load(model: Path) -> Detector:
    """The newest version of a detector.

    Raises:
        Fault: the model is none.
    """
    folder = newest(model)
    predictor = predict.predictor_of(predict.load(folder), folder, top=1)
    if not isinstance(predictor, Detector):
        raise Fault(f"MODEL must be a detector, got a model that is none in {folder}")
    return predictor


def track(detector: Detector, stream: Stream, tracking: Tracking, outputs: Outputs, console: Console) -> Summary:
    """Follow the objects of a stream to its end, or until Ctrl-C or SIGTERM; then the files are whole up to there.

    Raises:
        Fault: a line or a zone is not in the frames, there are no frames, or a file cannot be written. No file is
            left then.
    """
    stopped, started = threading.Event(), time.monotonic()
    times: deque[float] = deque()  # of the frames that the detector is asked about

    def read() -> Iterator[Array]:
        for number, image in enumerate(takewhile(lambda _: not stopped.is_set(), stream.frames)):
            times.append(time.monotonic() - started if stream.is_live else number / stream.rate)
            yield image

    with stop_signals.set_at(stopped), progress(console) as bar, ExitStack() as files:
        task = bar.add_task(stream.name, total=stream.length)
        tables = _tables(outputs, files)

        def followed() -> Iterator[tuple[Array, Frame]]:
            for image, detections in _detected(detector, Path(stream.name), read()):
                if not tracking.frames:
                    _check(tracking, image)
                frame = tracking.update(detections, times.popleft())
                for table, rows in tables:
                    table.writerows(rows(frame))
                bar.advance(task)
                yield image, frame

        if outputs.film:
            video_io.write(outputs.film, _drawn(followed(), tracking, stream.rate), rate=stream.rate)
        else:
            deque(followed(), maxlen=0)
        if not tracking.frames:
            why = f": {stream.problems[0]}" if stream.problems else ""
            raise Fault(f"SOURCE must have frames, got none from {stream.name}{why}", code=Fault.DATA)
    return Summary(not stopped.is_set(), tracking.best, tracking.counts())


def _detected(detector: Detector, source: Path, images: Iterator[Array]) -> Iterator[tuple[Array, Detections]]:
    """Each frame with what is in it."""
    for batch in batched(images, FRAMES):
        yield from zip(batch, detector.watch(source, batch, 0), strict=True)


def _drawn(followed: Iterator[tuple[Array, Frame]], tracking: Tracking, rate: float) -> Iterator[Array]:
    """The frames of the film: as many as fit the time, however fast a camera's frames come."""
    written = 0
    for image, frame in followed:
        due = round(frame.time * rate) + 1
        if due > written:
            yield from repeat(tracking.draw(image, frame.tracks), due - written)
            written = due


def _check(tracking: Tracking, frame: Array) -> None:
    """Refuse lines and zones that are not in the frames."""
    height, width = frame.shape[:2]
    places = {name: line.line for name, line in tracking.lines.items()}
    places |= {name: zone.polygon for name, zone in tracking.zones.items()}
    for name, points in places.items():
        if (points < 0).any() or (points > [width, height]).any():
            numbers = ",".join(f"{value:g}" for value in points.ravel())
            raise Fault(f"{name} must be in the frames, {width}×{height} pixels, got {numbers}")


def _tables(outputs: Outputs, files: ExitStack) -> list[tuple[Any, Rows]]:
    """A CSV writer for each file, and what makes its rows; the files get their names when `files` is closed."""
    wanted: list[tuple[Path | None, Sequence[str], Rows]] = [
        (outputs.table, ("frame", "time", "id", "label", "score", "left", "top", "right", "bottom"), table_rows),
        (outputs.mot, (), mot_rows),
        (outputs.events, ("frame", "time", "place", "id", "label", "direction"), event_rows),
    ]
    tables = []
    for path, header, rows in wanted:
        if path:
            temporary = files.enter_context(durable.atomic_write(path))
            table = csv.writer(
                files.enter_context(temporary.open("w", encoding="utf-8", newline="")), lineterminator="\n"
            )
            table.writerows([header] if header else [])
            tables.append((table, rows))
    return tables


def table_rows(frame: Frame) -> Iterator[Sequence[Any]]:
    """Frame from 0, time, id, label, score and edges in pixels of each object."""
    for number, box, score, label in zip(*frame.tracks[:4], strict=True):
        edges = (f"{edge:.1f}" for edge in box)
        yield frame.number, f"{frame.time:.3f}", number, frame.names[label], f"{score:.6f}", *edges


def mot_rows(frame: Frame) -> Iterator[Sequence[Any]]:
    """A row of the MOT Challenge's text format for each object; classes have no place in it.

    Frame, id, left, top, width, height, score, -1, -1, -1. Frames and pixels are counted from 1.
    """
    for number, (left, top, right, bottom), score, _ in zip(*frame.tracks[:4], strict=True):
        place = (left + 1, top + 1, right - left, bottom - top)
        yield frame.number + 1, number, *(f"{value:.2f}" for value in place), f"{score:.4f}", -1, -1, -1


def event_rows(frame: Frame) -> Iterator[Sequence[Any]]:
    """Frame, time, line or zone, id, label and direction of each event."""
    for place, event in frame.events:
        yield frame.number, f"{frame.time:.3f}", place, event.id, frame.names[event.label], event.direction
