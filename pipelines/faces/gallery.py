"""A gallery: the people whom an application knows, by the embeddings of their photographs; never the photographs.

A gallery belongs to one embedder, by the digest of its model, because embeddings of two cannot be compared; it knows
where that one is, too, a file by a path from its own folder, so that both can be moved together. Its
location is a SQLite file (`sqlite.py`), or `postgresql://…` (`postgres.py`) where processes on several
machines share it. Every method is one transaction, and any number of processes may call them at once.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cnn_keras.errors import Fault

Array = np.ndarray[Any, np.dtype[Any]]

LONGEST = 200  # characters of a name
OPENCV = "opencv"  # as a detector


class Settings(NamedTuple):
    """What a gallery is made with."""

    model: str  # the digest of the embedder
    dimension: int
    reference: str  # the folder of the embedder's versions
    liveness: str = ""  # the same of a classifier that tells the living from pictures of them; none where empty
    liveness_model: str = ""  # the digest of that one; of a gallery from before there were any, empty
    detector: str = ""  # what finds the faces: "opencv" or a detector's folder; if empty, each photograph is one


class Photo(NamedTuple):
    """A photograph to enrol."""

    name: str  # of the person
    vector: Array  # float32 (dimension,), of length 1
    digest: str  # of the file, so that none is enrolled twice
    source: str = ""  # what the file is called


class Person(NamedTuple):
    """A row of the list."""

    name: str
    photos: int
    since: str  # when the first was enrolled, ISO 8601 in UTC


class Enrolled(NamedTuple):
    """An embedding as it is exported."""

    name: str
    source: str
    since: str
    vector: Array


class Near(NamedTuple):
    """An enrolled embedding that is near to a query."""

    name: str
    distance: float  # ‖f − f′‖²
    vector: Array


class Gallery(Protocol):
    """What every kind of gallery does."""

    location: str

    def settings(self) -> Settings | None:
        """What it was made with; None where nobody has been enrolled yet."""

    def enrol(self, settings: Settings, photos: Sequence[Photo], *, anew: bool = False) -> int:
        """Add photographs, all or none; return how many were not there yet.

        With `anew` they replace every embedding that there is, which then may be another model's.

        Raises:
            Fault: the gallery belongs to another model, or `anew` and somebody who is enrolled is not among them.
        """

    def count(self) -> int:
        """How many photographs are enrolled."""

    def people(self) -> list[Person]:
        """Everybody, by name."""

    def vectors(self, name: str) -> Array:
        """The embeddings of one person, float32 (photos, dimension).

        Raises:
            Fault: nobody of this name is enrolled.
        """

    def nearest(self, model: str, queries: Array, count: int) -> list[list[Near]]:
        """Of each query, float32 (N, dimension), the nearest embeddings, nearest first, `count` or fewer.

        Raises:
            Fault: the gallery belongs to another model than `model`.
        """

    def forget(self, name: str) -> int:
        """Delete a person so that nothing of the embeddings is left in the store; return how many there were.

        Raises:
            Fault: nobody of this name is enrolled, or the store is so busy that remains of them are still in it.
        """

    def enrolled(self, name: str | None = None) -> Iterator[Enrolled]:
        """Everything that is known of everybody, or of one person."""

    def close(self) -> None:
        """Let go of the store."""


def checked_name(name: str) -> str:
    """A name that can be shown in a table and written into a path of a URL."""
    if not name.strip() or len(name) > LONGEST or not name.isprintable() or "/" in name:
        raise Fault(f"name must be 1 to {LONGEST} printable characters without a slash, got {name[:LONGEST]!r}")
    return name.strip()


def other_model(location: str, stored: Settings, model: str) -> Fault:
    """What is said where embeddings of two models meet."""
    return Fault(
        f"gallery must be of the model {model[:19]}, got {location} with embeddings of {stored.model[:19]}, "
        f"{stored.reference}: two models' embeddings cannot be compared. Ask with that model, or enrol everybody's "
        "photographs again with --anew"
    )


def nobody(name: str, location: str) -> Fault:
    """What is said of a name that is not there."""
    return Fault(f"NAME must be an enrolled person, got {name!r}, who is not in {location}; see `cnn faces list`")


def check_everybody(known: Sequence[str], photos: Sequence[Photo]) -> None:
    """Refuse to replace embeddings where somebody would be lost."""
    if missing := sorted(set(known) - {photo.name for photo in photos}):
        raise Fault(
            f"--anew requires a photograph of every enrolled person; missing are {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + ". Add theirs, or `cnn faces forget` them first"
        )
