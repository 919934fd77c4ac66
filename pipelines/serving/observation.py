"""What is served beside what the network was made for: histograms of both, for `/metrics`.

An exported model of pictures knows what those that it was not trained on are like and how it answers them
(`pipelines.engine.reference_statistics`). Of what is served the same is counted in histograms with the same bounds, the
deciles of that reference: as long as pictures and answers are of the same kind, a tenth lies in each.

Every answer is counted. Pictures are decoded once more for it, by a thread of their own that works a twentieth of the
time at most; those that come while it is busy are only counted as not measured. Memory is that of the histograms and of
one picture.
"""

import itertools
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.files import image_pixels
from cnn_keras.errors import Unreadable
from cnn_keras.metrics.image_statistics import image_statistics
from pipelines.data import run_files
from pipelines.engine import answer_statistics
from pipelines.serving.metrics import Histogram, heading, labels
from pipelines.serving.signature import Tensors

log = logging.getLogger(__name__)

SHARE = 0.05  # of the time, that pictures are measured in
PICTURES = ("width", "height", "brightness", "contrast", "sharpness")
ENCODED, PIXELS = "image_bytes", "image"  # names of the inputs


class Observation:
    """What is served by a version, and its reference."""

    def __init__(self, reference: Mapping[str, Any]) -> None:
        """Start to count; `reference` is what `reference_statistics.summary` makes."""
        height, width = reference["size"]
        self.size, self.channels, self.fit = (height, width), int(reference["channels"]), reference["fit"]
        histograms = reference["histograms"]
        self.reference = {
            name: Histogram(tuple(row["bounds"]), row["counts"], row["sum"]) for name, row in histograms.items()
        }
        self.served = {name: Histogram(tuple(row["bounds"])) for name, row in histograms.items()}
        self.reference_answers: Mapping[str, int] = reference["answers"]
        self.answers: Counter[str] = Counter()
        self.names: list[str] = reference["classes"]
        self.unmeasured = 0
        self._lock = threading.Lock()
        self._next: queue.Queue[Any] = queue.Queue(1)
        self._thread: threading.Thread | None = None

    def called(self, tensors: Tensors, outputs: Tensors) -> None:
        """Count what a call of the model was given and what it answered; returns at once."""
        quantities, classes = answer_statistics.measure(outputs, self.names)
        with self._lock:
            for name in quantities.keys() & self.served.keys():
                for value in quantities[name]:
                    self.served[name].observe(value)
            if self.reference_answers:
                self.answers.update(classes)
        pictures = next((tensors[name] for name in (ENCODED, PIXELS) if name in tensors), None)
        for picture in () if pictures is None else pictures:
            if self._next.full():
                self.unmeasured += 1
            else:
                self._next.put(picture.copy() if isinstance(picture, np.ndarray) else picture)
        if self._thread is None and pictures is not None:
            self._thread = threading.Thread(target=self._work, name="observation", daemon=True)
            self._thread.start()

    def measure(self, picture: Any) -> None:
        """Count an encoded picture, or its pixels, uint8 (height, width, channels)."""
        try:
            pixels = (
                picture if isinstance(picture, np.ndarray) else image_pixels.decode(picture, channels=self.channels)
            )
            values = image_statistics(image_pixels.resize_image(pixels, self.size, fit=self.fit))
        except (Unreadable, ValueError):
            return  # the model has refused it
        with self._lock:
            for name, value in zip(PICTURES, (pixels.shape[1], pixels.shape[0], *values), strict=True):
                self.served[name].observe(float(value))

    def _work(self) -> None:
        while True:
            picture = self._next.get()
            started = time.thread_time()
            self.measure(picture)
            del picture
            time.sleep((time.thread_time() - started) * (1 / SHARE - 1))


def of(folder: Path) -> Observation | None:
    """The observation of the version in a folder; None where no reference was exported with it."""
    path = folder / run_files.REFERENCE
    if not path.is_file():
        return None
    try:
        return Observation(run_files.read_json(path))
    except (KeyError, TypeError, ValueError) as damaged:
        log.warning("%s is damaged (%s): what is served is not compared with it", path, damaged)
        return None


def lines(observations: Mapping[int, Observation]) -> Iterator[str]:
    """All that was counted, in Prometheus' text format, by the numbers of the versions."""
    names = sorted({name for each in observations.values() for name in each.served})
    for metric, same in itertools.groupby(names, _metric):
        yield from heading(metric)
        for name, (version, each) in itertools.product(same, observations.items()):
            _, _, part = name.partition(answer_statistics.OF)
            more = {"name": part} if part else {}
            for kind, histograms in (("served", each.served), ("reference", each.reference)):
                if name in histograms:
                    yield from histograms[name].lines(metric, labels(of=kind, version=version, **more))
    yield from heading("cnn_answers_total")
    for version, each in observations.items():
        for kind, counts in (("served", each.answers), ("reference", each.reference_answers)):
            for name in each.reference_answers:
                yield f"cnn_answers_total{{{labels(of=kind, version=version, answer=name)}}} {counts.get(name, 0)}"
    yield from heading("cnn_pictures_unmeasured_total")
    for version, each in observations.items():
        yield f"cnn_pictures_unmeasured_total{{{labels(version=version)}}} {each.unmeasured}"


def _metric(name: str) -> str:
    """What Prometheus knows a quantity by; what it is of is a label."""
    return f"cnn_{'picture' if name in PICTURES else 'answer'}_{name.partition(answer_statistics.OF)[0]}"
