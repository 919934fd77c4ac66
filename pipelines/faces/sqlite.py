"""A gallery in one SQLite file, for any number of processes of one machine.

Writers take turns (`BEGIN IMMEDIATE`) and readers never wait, by SQLite's write-ahead log, which is on the disk before
an enrolment is said to be done: a process that is killed leaves the file as it was after the last whole transaction.
The file is for its owner's eyes only. What is deleted is overwritten with zeros, the file written anew and the log cut
off, because each of them may hold a copy.

Searches are in memory: every process keeps its own `Neighbours`, and takes in before each search what others have
added and forgotten since – numbers that only rise tell what that is.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.ops.nearest_neighbors import Neighbours
from pipelines.faces.gallery import (
    OPENCV,
    Array,
    Enrolled,
    Near,
    Person,
    Photo,
    Settings,
    check_everybody,
    nobody,
    other_model,
)

PATIENCE = 30.0  # seconds to wait for other processes
BATCH = 10_000  # embeddings that are read at once
NAMES = ("", OPENCV)  # that stand in the place of a folder
FORMAT = 3  # of 1 the settings had no liveness_model, of 2 no detector
TABLES = """
CREATE TABLE settings (
    model TEXT NOT NULL, dimension INTEGER NOT NULL, reference TEXT NOT NULL, liveness TEXT NOT NULL,
    liveness_model TEXT NOT NULL DEFAULT '', detector TEXT NOT NULL DEFAULT ''
);
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    person INTEGER NOT NULL REFERENCES people (id),
    vector BLOB NOT NULL,
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    since TEXT NOT NULL,
    UNIQUE (person, digest)
);
CREATE TABLE forgotten (
    id INTEGER PRIMARY KEY AUTOINCREMENT, embedding INTEGER NOT NULL, scrubbed INTEGER NOT NULL DEFAULT 0
);
"""

ADDED = {2: "liveness_model", 3: "detector"}  # columns of the settings, by the format that brought them


class SqliteGallery:
    """The gallery in the file at `location`; see `pipelines.faces.gallery.Gallery` for what it does."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._lock = threading.RLock()
        self._database = _connected(Path(location))
        self._near: Neighbours | None = None
        self._people: dict[int, str] = {}  # names by number of embedding
        self._seen = (0, 0, "")  # the last rows of embeddings and forgotten, and the model, that `_near` knows

    def settings(self) -> Settings | None:
        with self._lock:
            row = self._database.execute(f"SELECT {', '.join(Settings._fields)} FROM settings").fetchone()
        if not row:
            return None
        settings = Settings(*row)
        return _with_folders(settings, self._absolute)

    def enrol(self, settings: Settings, photos: Sequence[Photo], *, anew: bool = False) -> int:
        with self._writing() as database:
            stored = self.settings()
            if anew and stored:
                check_everybody([name for (name,) in database.execute("SELECT name FROM people")], photos)
                self._delete("SELECT id FROM embeddings")
                database.execute("DELETE FROM settings")
                stored = None
            if stored is None:
                relative = _with_folders(settings, self._relative)
                database.execute("INSERT INTO settings VALUES (?, ?, ?, ?, ?, ?)", relative)
            elif stored.model != settings.model:
                raise other_model(self.location, stored, settings.model)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            database.executemany("INSERT OR IGNORE INTO people (name) VALUES (?)", [(photo.name,) for photo in photos])
            before = database.total_changes
            database.executemany(
                "INSERT OR IGNORE INTO embeddings (person, vector, digest, source, since) "
                "VALUES ((SELECT id FROM people WHERE name = ?), ?, ?, ?, ?)",
                [
                    (photo.name, photo.vector.astype("<f4").tobytes(), photo.digest, photo.source, now)
                    for photo in photos
                ],
            )
            added = database.total_changes - before
        self._scrub()
        return added

    def count(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT count(*) FROM embeddings").fetchone()[0])

    def people(self) -> list[Person]:
        with self._lock:
            rows = self._database.execute(
                "SELECT name, count(*), min(since) FROM people JOIN embeddings ON person = people.id "
                "GROUP BY people.id ORDER BY name"
            ).fetchall()
        return [Person(*row) for row in rows]

    def vectors(self, name: str) -> Array:
        rows = [embedding.vector for embedding in self.enrolled(name)]
        if not rows:
            raise nobody(name, self.location)
        return np.stack(rows)

    def nearest(self, model: str, queries: Array, count: int) -> list[list[Near]]:
        with self._lock:
            near = self._synchronised(model)
            numbers, distances = near.nearest(np.asarray(queries, np.float32), count)
            return [
                [
                    Near(self._people[number], distance, near.vector(number))
                    for number, distance in zip(*row, strict=True)
                ]
                for row in zip(numbers.tolist(), distances.tolist(), strict=True)
            ]

    def forget(self, name: str) -> int:
        selection = "SELECT embeddings.id FROM embeddings JOIN people ON person = people.id WHERE name = ?"
        try:
            with self._writing() as database:
                count = self._delete(selection, name)
                if not count:
                    raise nobody(name, self.location)
                database.execute("DELETE FROM people WHERE name = ?", (name,))
        finally:
            self._scrub()  # also after a process that was killed before it could
        return count

    def enrolled(self, name: str | None = None) -> Iterator[Enrolled]:
        condition, parameters = ("WHERE name = ?", (name,)) if name is not None else ("", ())
        with self._lock:
            rows = self._database.execute(
                f"SELECT name, source, since, vector FROM people JOIN embeddings ON person = people.id {condition} "
                "ORDER BY name, embeddings.id",
                parameters,
            ).fetchall()
        for person, source, since, vector in rows:
            yield Enrolled(person, source, since, np.frombuffer(vector, "<f4"))

    def close(self) -> None:
        if self._near is not None:
            self._near.close()
        self._database.close()

    def _relative(self, folder: str) -> str:
        """A folder as the file names it: from its own, so that both can be moved together."""
        return folder if folder in NAMES else os.path.relpath(folder, Path(self.location).resolve().parent)

    def _absolute(self, folder: str) -> str:
        return folder if folder in NAMES else os.path.normpath(Path(self.location).resolve().parent / folder)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside; undone when anything is raised in it."""
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise _busy(self.location, error) from error
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _delete(self, selection: str, *name: str) -> int:
        """Delete embeddings and write down their numbers, so that other processes' searches lose them too."""
        self._database.execute(f"INSERT INTO forgotten (embedding) {selection}", name)
        return self._database.execute(f"DELETE FROM embeddings WHERE id IN ({selection})", name).rowcount

    def _scrub(self) -> None:
        """Where somebody was forgotten, write the file anew and cut the log off: both may hold copies."""
        with self._lock:
            deadline, reason = time.monotonic() + PATIENCE, ""
            while self._database.execute("SELECT count(*) FROM forgotten WHERE NOT scrubbed").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise Fault(
                        f"{self.location} must be free for a moment, to be written anew without what was forgotten, "
                        f"got no chance in {PATIENCE:g} s: {reason}. Nobody is recognised by it any more, but the "
                        "bytes are still there; give the same command again when it is less busy"
                    )
                try:
                    self._database.execute("VACUUM")
                    if self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                        raise sqlite3.OperationalError("other processes are reading")
                    self._database.execute("UPDATE forgotten SET scrubbed = 1")
                except sqlite3.OperationalError as error:
                    reason = str(error)
                    time.sleep(0.02)

    def _synchronised(self, model: str) -> Neighbours:
        """The embeddings in memory, as they are in the file now."""
        database = self._database
        database.execute("BEGIN")  # one state of the file for all that follows
        try:
            stored = self.settings()
            if stored is None:
                raise Fault(
                    f"gallery must contain a person, got {self.location}, which is empty; `cnn faces enrol` first"
                )
            if stored.model != model:
                raise other_model(self.location, stored, model)
            if self._near is None or self._seen[2] != model:
                self._near, self._people, self._seen = Neighbours(stored.dimension), {}, (0, 0, model)
            near, (last, lost, _) = self._near, self._seen
            gone = database.execute("SELECT id, embedding FROM forgotten WHERE id > ? ORDER BY id", (lost,)).fetchall()
            near.remove([number for _, number in gone])
            for _, number in gone:
                self._people.pop(number, None)
            added = database.execute(
                "SELECT embeddings.id, name, vector FROM embeddings JOIN people ON person = people.id "
                "WHERE embeddings.id > ? ORDER BY embeddings.id",
                (last,),
            )
            while rows := added.fetchmany(BATCH):
                numbers, names, vectors = zip(*rows, strict=True)
                near.add(np.array(numbers), np.frombuffer(b"".join(vectors), "<f4").reshape(len(rows), -1))
                self._people |= zip(numbers, names, strict=True)
                last = numbers[-1]
            self._seen = (last, gone[-1][0] if gone else lost, model)
            return near
        finally:
            database.execute("COMMIT")


def _with_folders(settings: Settings, place: Callable[[str], str]) -> Settings:
    """The settings with `place` of each folder."""
    return settings._replace(
        reference=place(settings.reference), liveness=place(settings.liveness), detector=place(settings.detector)
    )


def _connected(path: Path) -> sqlite3.Connection:
    """The file, made where it is not there, with a write-ahead log.

    Raises:
        Fault: it cannot be written, or is something else.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise Fault(f"gallery must be a file that can be written, got {path}: {error}") from error
    try:
        _prepared(database, path)
    except sqlite3.DatabaseError as error:
        database.close()
        raise _busy(str(path), error) from error
    except BaseException:
        database.close()
        raise
    return database


def _prepared(database: sqlite3.Connection, path: Path) -> None:
    """Set what every connection needs; make the tables if nobody has."""
    for setting in ("synchronous = FULL", "secure_delete = ON", "foreign_keys = ON", "temp_store = MEMORY"):
        database.execute(f"PRAGMA {setting}")
    deadline = time.monotonic() + PATIENCE
    while database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:  # unlike any other statement, this one does not wait for its turn
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,), (tables,) = (
            database.execute(question).fetchone()
            for question in ("PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
        )
        if version not in range(FORMAT + 1) or (version == 0 and tables):
            raise Fault(f"gallery must be a file of format {FORMAT}, got {path} with {version}; name another file")
        if version == 0:
            for statement in filter(str.strip, TABLES.split(";\n")):
                database.execute(statement)
        for format_, column in ADDED.items() if version else ():
            if version < format_:
                database.execute(f"ALTER TABLE settings ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
        database.execute(f"PRAGMA user_version = {FORMAT}")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def _busy(location: str, error: Exception) -> Fault:
    if "locked" in str(error):
        return Fault(f"gallery must be free to write within {PATIENCE:g} s, got {location}, in use: {error}; try again")
    return Fault(f"gallery must be a file from `cnn faces enrol`, got {location}: {error}")
