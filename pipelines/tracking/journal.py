"""The journal of a run: what there is to tell a tracking store, kept on disk until it has been told.

Every event is one JSON object on one line of `<n>.jsonl`; `n` counts the MLflow runs of the run's folder.
Beside it `<n>.delivered.json` remembers for every store how far it has been told. Appending takes a few milliseconds
and needs nothing but the disk, on which the event is afterwards; so the journal is also the local copy of every metric.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from cnn_keras.data.files import durable
from pipelines.data.run_files import kept_json, set_aside, write_json

Event = dict[str, Any]


class Journal:
    """One append-only file of events and, for every store, a bookmark in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bookmarks = path.with_suffix(".delivered.json")

    @classmethod
    def all(cls, folder: Path) -> list[Self]:
        """The journals of a folder, oldest first."""
        return [cls(path) for path in sorted(folder.glob("[0-9]*.jsonl"), key=lambda path: int(path.stem))]

    @classmethod
    def last(cls, folder: Path) -> Self:
        """The newest journal of a folder; where there is none, the first one, unwritten."""
        journals = cls.all(folder)
        return journals[-1] if journals else cls(folder / "1.jsonl")

    @classmethod
    def after(cls, journal: Self) -> Self:
        """The unwritten journal that follows another one."""
        return cls(journal.path.with_name(f"{int(journal.path.stem) + 1}.jsonl"))

    @property
    def written(self) -> bool:
        """Whether it holds any event."""
        return self.path.exists()

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event, stamped with the present time in milliseconds."""
        event = {"kind": kind, "time": time.time_ns() // 1_000_000, **fields}
        line = json.dumps(event, allow_nan=False, default=str).encode() + b"\n"
        durable.mkdir(self.path.parent)
        if self.written:
            _drop_half_line(self.path)
        durable.append(self.path, line)

    def events(self, offset: int = 0) -> Iterator[tuple[int, Event]]:
        """Every whole event from byte `offset` on, each with the offset at which it ends."""
        if not self.written:
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                offset += len(line)
                if line.endswith(b"\n"):  # else still being written, or cut short by a kill
                    yield offset, _parse(line)

    def bookmark(self, store: str) -> dict[str, Any]:
        """How far `store` has been told: `delivered`, a byte offset, and `run`, the id it gave the run."""
        known = {"delivered": 0, "run": None, **(kept_json(self._bookmarks) or {}).get(store, {})}
        if self.written and known["delivered"] > self.path.stat().st_size:  # its end was lost in a power cut
            known["delivered"] = 0
        return known

    def advance(self, store: str, **changes: Any) -> None:
        """Move the bookmark of `store`, atomically."""
        bookmarks = kept_json(self._bookmarks) or {}
        write_json(self._bookmarks, bookmarks | {store: self.bookmark(store) | changes})

    def set_aside(self) -> None:
        """Rename it and its bookmarks, for it is damaged."""
        for path in (self._bookmarks, self.path):
            if path.exists():
                set_aside(path)

    def pending(self, store: str) -> int:
        """How many events `store` has not been told."""
        return sum(1 for _ in self.events(self.bookmark(store)["delivered"]))


def _parse(line: bytes) -> Event:
    """The event of one line; a line that a power cut damaged becomes an event of kind `unreadable`."""
    try:
        event: Event = json.loads(line)
    except ValueError:
        return {"kind": "unreadable"}
    return event


def _drop_half_line(path: Path) -> None:
    """Cut off a last line that a kill left half written: the next event must not be glued to it."""
    with path.open("rb+") as file:
        if end := file.seek(0, os.SEEK_END):
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
