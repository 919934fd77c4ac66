"""A gallery in PostgreSQL with the extension pgvector, for processes on any number of machines.

The database searches: comparing all up to `nearest_neighbors.EXACT` embeddings, beyond that with pgvector's own index
of navigable small worlds. Writers take turns by an advisory lock. What is deleted is gone from the tables and the index
when `forget` returns – they are written anew – but the server's write-ahead log and its backups are the server's, and
keep it until they are rotated.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.ops.nearest_neighbors import EXACT
from pipelines.faces.gallery import (
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

LOCK = 0x66616365  # of the writers; any number that no other program uses
LOOKED_AT = 200  # candidates of the index, of which the nearest are given
TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS gallery_settings (
    model text NOT NULL, dimension integer NOT NULL, reference text NOT NULL, liveness text NOT NULL
);
CREATE TABLE IF NOT EXISTS gallery_people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS gallery_embeddings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person bigint NOT NULL REFERENCES gallery_people (id) ON DELETE CASCADE,
    vector vector NOT NULL,
    digest text NOT NULL,
    source text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    UNIQUE (person, digest)
);
"""
UPGRADE = """
ALTER TABLE gallery_settings ADD COLUMN IF NOT EXISTS liveness_model text NOT NULL DEFAULT '';
ALTER TABLE gallery_settings ADD COLUMN IF NOT EXISTS detector text NOT NULL DEFAULT '';
"""
SINCE = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"')"


def _drivers() -> tuple[Any, Any]:
    import pgvector.psycopg  # optional
    import psycopg  # optional

    return psycopg, pgvector.psycopg


class PostgresGallery:
    """The gallery in the database at `location`; see `pipelines.faces.gallery.Gallery` for what it does."""

    def __init__(self, location: str) -> None:
        try:
            psycopg, _ = _drivers()
        except ImportError:
            raise Fault(
                "gallery must be a file, or postgresql:// with the packages psycopg and pgvector, which are not "
                "installed; `pip install 'cnn-keras[postgres]'`"
            ) from None
        self.location = location
        self._errors = psycopg.Error
        self._lock = threading.RLock()
        self._connection: Any = None
        with self._writing() as database:
            database.execute(TABLES)
            database.execute(UPGRADE)
        self.close()  # so that the next one knows the type that the extension has brought

    def settings(self) -> Settings | None:
        with self._reading() as database:
            return _settings(database)

    def enrol(self, settings: Settings, photos: Sequence[Photo], *, anew: bool = False) -> int:
        with self._writing() as database:
            stored = _settings(database)
            if anew and stored:
                check_everybody([row[0] for row in database.execute("SELECT name FROM gallery_people")], photos)
                database.execute("DELETE FROM gallery_embeddings")
                database.execute("DELETE FROM gallery_settings")
                database.execute("DROP INDEX IF EXISTS gallery_near")
                stored = None
            if stored is None:
                database.execute("INSERT INTO gallery_settings VALUES (%s, %s, %s, %s, %s, %s)", settings)
            elif stored.model != settings.model:
                raise other_model(self.shown, stored, settings.model)
            before = _count(database)
            with database.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO gallery_people (name) VALUES (%s) ON CONFLICT DO NOTHING",
                    [(name,) for name in {photo.name for photo in photos}],
                )
                cursor.executemany(
                    "INSERT INTO gallery_embeddings (person, vector, digest, source) "
                    "SELECT id, %s, %s, %s FROM gallery_people WHERE name = %s ON CONFLICT DO NOTHING",
                    [(photo.vector, photo.digest, photo.source, photo.name) for photo in photos],
                )
            count = _count(database)
        if anew:
            self._scrub()
        if count > EXACT:
            self._index()
        return count - before

    def count(self) -> int:
        with self._reading() as database:
            return _count(database)

    def people(self) -> list[Person]:
        with self._reading() as database:
            rows = database.execute(
                f"SELECT name, count(*), {SINCE.format('min(since)')} FROM gallery_people p "
                "JOIN gallery_embeddings e ON e.person = p.id GROUP BY name ORDER BY name"
            )
            return [Person(*row) for row in rows]

    def vectors(self, name: str) -> Array:
        rows = [embedding.vector for embedding in self.enrolled(name)]
        if not rows:
            raise nobody(name, self.shown)
        return np.stack(rows)

    def nearest(self, model: str, queries: Array, count: int) -> list[list[Near]]:
        with self._reading() as database:
            stored = _settings(database)
            if stored is None:
                raise Fault(f"gallery must contain a person, got {self.shown}, which is empty; `cnn faces enrol` first")
            if stored.model != model:
                raise other_model(self.shown, stored, model)
            database.execute(f"SET LOCAL hnsw.ef_search = {LOOKED_AT}")
            as_indexed = f"vector::vector({stored.dimension})"
            question = (
                f"SELECT name, vector, {as_indexed} <-> %s AS far FROM gallery_embeddings e JOIN gallery_people p "
                f"ON e.person = p.id ORDER BY {as_indexed} <-> %s LIMIT %s"
            )
            return [
                [
                    Near(name, far**2, _array(vector))
                    for name, vector, far in database.execute(question, (row, row, count))
                ]
                for row in np.asarray(queries, np.float32)
            ]

    def forget(self, name: str) -> int:
        with self._writing() as database:
            count = database.execute(
                "SELECT count(*) FROM gallery_embeddings JOIN gallery_people p ON person = p.id WHERE name = %s",
                (name,),
            ).fetchone()[0]
            if not count:
                raise nobody(name, self.shown)
            database.execute("DELETE FROM gallery_people WHERE name = %s", (name,))
        self._scrub()
        return int(count)

    def enrolled(self, name: str | None = None) -> Iterator[Enrolled]:
        condition, parameters = ("WHERE name = %s", (name,)) if name is not None else ("", ())
        with self._reading() as database:
            rows = database.execute(
                f"SELECT name, source, {SINCE.format('since')}, vector FROM gallery_people p "
                f"JOIN gallery_embeddings e ON e.person = p.id {condition} ORDER BY name, e.id",
                parameters,
            ).fetchall()
        for person, source, since, vector in rows:
            yield Enrolled(person, source, since, _array(vector))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def shown(self) -> str:
        """The location without a password, which may stand before the host or among the parameters."""
        scheme, _, rest = self.location.partition("?")[0].partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """A transaction: one state of the database for all that is read in it."""
        with self._lock:
            try:
                with self._connected().transaction():
                    yield self._connection
            except self._errors as error:
                raise Fault(f"gallery must be a database that answers, got {self.shown}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A transaction that no other writer is beside, and that sees what those before it have written."""
        with self._reading() as database:
            database.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")  # else it sees what was when it waited
            database.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            yield database

    def _connected(self) -> Any:
        """The connection, made anew where the server has closed it."""
        if self._connection is None or self._connection.closed:
            psycopg, vectors = _drivers()
            settings = {"autocommit": True, "connect_timeout": 30, "prepare_threshold": None}  # poolers prepare nothing
            self._connection = psycopg.connect(self.location, **settings)
            self._connection.execute("SET default_transaction_isolation = 'repeatable read'")
            if self._connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
                vectors.register_vector(self._connection)
        return self._connection

    def _index(self) -> None:
        """Index the embeddings, in a transaction of its own: one that has deleted rows would index them, too."""
        with self._writing() as database:
            stored = _settings(database)
            if stored:
                database.execute(
                    "CREATE INDEX IF NOT EXISTS gallery_near ON gallery_embeddings "
                    f"USING hnsw ((vector::vector({stored.dimension})) vector_l2_ops)"
                )

    def _scrub(self) -> None:
        """Write table and index anew, without the rows that were only marked as deleted."""
        with self._lock:
            try:
                self._connected().execute("VACUUM (FULL) gallery_embeddings")
            except self._errors as error:
                raise Fault(
                    f"{self.shown} must be free to be written anew without what was forgotten, got {error}. Nobody is "
                    "recognised by it any more; `VACUUM (FULL) gallery_embeddings` removes the bytes"
                ) from error


def _settings(database: Any) -> Settings | None:
    row = database.execute(f"SELECT {', '.join(Settings._fields)} FROM gallery_settings").fetchone()
    return Settings(*row) if row else None


def _count(database: Any) -> int:
    return int(database.execute("SELECT count(*) FROM gallery_embeddings").fetchone()[0])


def _array(vector: Any) -> Array:
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, np.float32)
