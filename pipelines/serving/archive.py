"""Pictures that are served and the answers to them, kept in a folder for labelling: `cnn serve --keep`.

A picture is a file named by the first half of its SHA-256, `<digest>.jpg` or `<digest>.png`, as the model was given it;
`<digest>.json` beside it says which model and version answered what, when, and why it is kept. One that is there
already is not written again. Nothing of what a client sends chooses a path.

A thread of its own writes; the thread that calls the model only draws which pictures are kept and puts them into a
queue of bounded size. What cannot be kept – the queue or the folder is full, the disk fails – is counted and never
holds up or fails a request. Several processes may keep into one folder: they write in turn, and `.used` has the bytes
that are taken.
"""

import hashlib
import json
import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from cnn_keras.data.files import durable
from cnn_keras.data.files.image_file import PNG_SIGNATURE, encode_png
from cnn_keras.errors import Fault
from pipelines.serving.metrics import heading, labels
from pipelines.serving.model import Model
from pipelines.serving.rest import tensors
from pipelines.serving.signature import PICTURE, Signature, Tensors

log = logging.getLogger(__name__)

ENCODED, PIXELS = "image_bytes", "image"  # inputs that hold a picture
LIKELY = 0.5  # the confidence below which an answer is unsure, where the model has no threshold of its own
RESULTS = KEPT, KNOWN, FULL, BUSY, FAILED = ("kept", "known", "full", "busy", "failed")  # what became of a picture
WAITING = 2**26  # bytes that wait to be written
OBJECTS = 4096  # bytes that an entry takes beside its arrays
LARGEST = 10_000  # values of an output that is written into an answer
AGAIN = 10.0  # seconds between two looks at how much a full folder holds
PATIENCE = 10.0  # seconds for what waits to be written at the end
USED, LOCK = ".used", ".used.lock"


@dataclass(frozen=True)
class Settings:
    """What is kept of what is served.

    Attributes:
        folder: that it is written into.
        share: of all pictures that is kept, drawn at random.
        unsure: whether those with unsure answers are kept, too.
        below: the confidence below which an answer is unsure; None for the model's own threshold, or LIKELY.
        limit: bytes that the folder may hold; further pictures are not kept.
    """

    folder: Path
    share: float = 0.01
    unsure: bool = False
    below: float | None = None
    limit: int = 10**9

    def described(self) -> str:
        """What the server says when it starts."""
        unsure = " and those with unsure answers" if self.unsure else ""
        return (
            f"keeps {self.share:.4g} of the pictures that are served{unsure}, with the answers, in {self.folder}: at "
            f"most {self.limit / 1e6:,.0f} MB"
        )


class Archive:
    """The folder, and the thread that writes into it."""

    def __init__(self, settings: Settings) -> None:
        """Make the folder, for its owner alone, unless it is there.

        Raises:
            Fault: nothing can be written into it.
        """
        check(settings.folder)
        self._settings = settings
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # of the counts and of the bytes that wait
        self._waiting: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._held, self._looked = 0, -AGAIN
        self._bytes = self._used(0)
        self._thread = threading.Thread(target=self._work, name="archive", daemon=True)
        self._thread.start()

    def called(self, model: Model, signature: str, given: Tensors, outputs: Tensors) -> None:
        """Keep of a call of the model what is to be kept; returns at once and raises nothing."""
        try:
            pictures = given.get(ENCODED, given.get(PIXELS))
            if pictures is None or (pictures.dtype != object and (pictures.dtype != np.uint8 or pictures.ndim != 4)):
                return
            unsure = is_unsure(outputs, self._settings.below) if self._settings.unsure else None
            for row, picture in enumerate(pictures):
                if random.random() < self._settings.share:
                    reason = "share"
                elif unsure is not None and unsure[row]:
                    reason = "unsure"
                else:
                    continue
                self._put(
                    _Entry(picture, model.name, model.version, signature, reason, _row(outputs, row), time.time())
                )
        except Exception:  # the request has its answer whatever is wrong here
            log.exception("a picture could not be kept")
            self._count(FAILED)

    def close(self) -> None:
        """Write what waits, for some seconds."""
        self._waiting.put(None)
        self._thread.join(PATIENCE)

    def lines(self) -> Iterator[str]:
        """What was kept, in Prometheus' text format."""
        yield from heading("cnn_kept_pictures_total")
        for result in RESULTS:
            yield f"cnn_kept_pictures_total{{{labels(result=result)}}} {self.counts[result]}"
        yield from heading("cnn_kept_bytes")
        yield f"cnn_kept_bytes {self._bytes}"

    def _put(self, entry: "_Entry") -> None:
        with self._lock:
            if is_busy := self._held + entry.size > WAITING:
                self.counts[BUSY] += 1
            else:
                self._held += entry.size
        if not is_busy:
            self._waiting.put(
                entry if isinstance(entry.picture, bytes) else replace(entry, picture=entry.picture.copy())
            )

    def _count(self, result: str) -> None:
        with self._lock:
            self.counts[result] += 1

    def _work(self) -> None:
        while entry := self._waiting.get():
            result = FAILED
            try:
                result = self._write(entry)
            except OSError as error:  # a full disk, or a folder that is gone
                if not self.counts[FAILED]:
                    log.warning("a picture could not be kept: %s", error)
            except Exception:
                log.exception("a picture could not be kept")
            with self._lock:
                self.counts[result] += 1
                self._held -= entry.size
            del entry

    def _write(self, entry: "_Entry") -> str:
        """Write a picture and then its answer, whose file says that both are there; what became of it."""
        folder, picture = self._settings.folder, entry.encoded()
        name, answer = hashlib.sha256(picture).hexdigest()[:32], entry.answer()
        path = folder / (name + (".png" if picture.startswith(PNG_SIGNATURE) else ".jpg"))
        with FileLock(folder / LOCK):
            if (folder / f"{name}.json").exists():
                return KNOWN
            size = len(picture) + len(answer)
            self._bytes = self._used(size)
            if self._bytes + size > self._settings.limit:
                return FULL
            try:
                with durable.atomic_write(path) as temporary:
                    temporary.write_bytes(picture)
                with durable.atomic_write(folder / f"{name}.json") as temporary:
                    temporary.write_bytes(answer)
            except OSError:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise
            self._bytes += size
            (folder / USED).write_text(str(self._bytes))
        return KEPT

    def _used(self, more: int) -> int:
        """Bytes that the folder holds; where there is no room it is looked at again: somebody may have made some."""
        with suppress(OSError, ValueError):
            used = int((self._settings.folder / USED).read_text())
            if used + more <= self._settings.limit or time.monotonic() < self._looked + AGAIN:
                return used
        self._looked, used = time.monotonic(), 0
        for path in self._settings.folder.iterdir():
            with suppress(FileNotFoundError):  # somebody is just making room
                used += path.stat().st_size if path.name not in (USED, LOCK) else 0
        return used


@dataclass(frozen=True)
class _Entry:
    """A picture that waits to be written, and its row of each output, with the axis of the batch."""

    picture: Any  # encoded, or uint8 (height, width, channels)
    name: str
    version: int
    signature: str
    reason: str
    answers: Mapping[str, Any]
    time: float

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        picture = len(self.picture) if isinstance(self.picture, bytes) else self.picture.nbytes
        return OBJECTS + picture + sum(int(values.nbytes) for values in self.answers.values())

    def encoded(self) -> bytes:
        return self.picture if isinstance(self.picture, bytes) else encode_png(self.picture)

    def answer(self) -> bytes:
        """As JSON."""
        confidence = confidence_of(self.answers)
        content = {
            "model": self.name,
            "version": self.version,
            "signature": self.signature,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            "kept": self.reason,
            "confidence": None if confidence is None else round(float(confidence[0]), 6),
            "answer": {
                name: tensors.values(values, name)[0] for name, values in self.answers.items() if values.size <= LARGEST
            },
        }
        return f"{json.dumps(content)}\n".encode()


def _row(outputs: Tensors, row: int) -> Tensors:
    """One row of each output, without the batch that it is a part of."""
    return {name: values[row : row + 1].copy() for name, values in outputs.items() if values.ndim}


def check(folder: Path) -> None:
    """Make the folder, for its owner alone, unless it is there.

    Raises:
        Fault: nothing can be written into it.
    """
    try:
        durable.mkdir(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        with FileLock(folder / LOCK, timeout=PATIENCE):
            pass
    except OSError as error:
        raise Fault(
            f"--keep must be a folder that can be written into, got {folder}: {error.strerror or error}"
        ) from None


def check_model(model: Model, settings: Settings) -> None:
    """Raise a Fault for a model of whose requests nothing can be kept."""
    keepable = [signature for signature in model.signatures.values() if _has_pictures(signature)]
    if not keepable:
        raise Fault(f"--keep requires a model that answers about one picture, got {model.name}")
    if settings.unsure and not any(_has_confidence(signature) for signature in keepable):
        raise Fault(f"--keep-unsure requires a model that says how sure it is, got {model.name}; leave it out")


def confidence_of(outputs: Mapping[str, Any]) -> Any:
    """How sure a model is of each row of an answer, float (rows,), 0 to 1; None where it does not say.

    Of one class an image this is the probability of the likeliest class; of several labels, and of the objects in a
    picture, that of the least certain decision, ½ or more, and 1 where nothing is found; of a localizer the less
    certain of its two, whether a thing is there and which; of a mask the mean over pixels.
    """
    if "presence" in outputs:
        presence, likeliest = (
            np.asarray(outputs["presence"], np.float64),
            np.asarray(outputs["probabilities"]).max(axis=1),
        )
        return np.where(presence < 0.5, 1 - presence, np.minimum(presence, likeliest))
    if "count" in outputs:
        scores, count = np.asarray(outputs["scores"], np.float64), np.asarray(outputs["count"])
        there = np.arange(scores.shape[1]) < count[:, None]
        return np.where(there, np.maximum(scores, 1 - scores), 1.0).min(axis=1, initial=1.0)
    if "chosen" in outputs:
        probabilities = np.asarray(outputs["probabilities"], np.float64)
        return np.maximum(probabilities, 1 - probabilities).min(axis=1)
    if "probabilities" in outputs:
        return np.asarray(outputs["probabilities"]).max(axis=1)
    if "shares" in outputs and "confidence" in outputs:
        return (np.asarray(outputs["shares"], np.float64) * np.asarray(outputs["confidence"])).sum(axis=1)
    return None


def is_unsure(outputs: Mapping[str, Any], below: float | None) -> Any:
    """Which rows of an answer are unsure, bool (rows,): by the model's own threshold, unless `below` is another."""
    if "accepted" in outputs and below is None:
        return ~np.asarray(outputs["accepted"])
    confidence = confidence_of(outputs)
    return None if confidence is None else confidence < (LIKELY if below is None else below)


def _has_pictures(signature: Signature) -> bool:
    encoded, pixels = signature.inputs.get(ENCODED), signature.inputs.get(PIXELS)
    is_one = (encoded is not None and encoded.is_image) or (pixels is not None and pixels.dtype == np.uint8)
    return is_one and PICTURE not in signature.outputs


def _has_confidence(signature: Signature) -> bool:
    names = set(signature.outputs)
    return "probabilities" in names or {"scores", "count"} <= names or {"shares", "confidence"} <= names
