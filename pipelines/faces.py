"""Who is this? An exported embedder and a gallery: enrol, verify, identify people by their photographs.

A threshold is never a magic number: it follows from a false-accept rate, by an upper bound over the people that the
embedder was calibrated on. To verify, one comparison is made, and the threshold is the one at that rate. To identify,
as many are made as photographs are enrolled, and each could be mistaken; so the rate is divided among them, and a
stranger is taken for anybody at all no more often than the rate says. What the people of the calibration are too few to
show, every answer tells: its `false_accept_bound` is then above the rate.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.fault import Fault
from pipelines.gallery import Array, Gallery, Near, Photo, checked_name, other_model
from pipelines.recogniser import Recogniser, Threshold

NEAREST = 32  # enrolled embeddings that a trained head compares
SURE = 0.5  # the probability of `live` from which somebody is


class Answer(NamedTuple):
    """What is said of one picture: who it is, or None, how far the nearest is, and by which threshold."""

    name: str | None
    distance: float | None  # None where nothing was compared
    threshold: Threshold | None = None
    alive: float | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        told = self.threshold.as_dict() if self.threshold else {}
        live = {} if self.alive is None else {"alive": self.alive}
        return {"name": self.name, "distance": self.distance, **told, **live, "problem": self.problem}


def photographs(paths: Sequence[Path], name: str | None) -> Iterator[tuple[str, Path]]:
    """(name, file) of what is to be enrolled: files and folders of `name`, or a folder with one for each person.

    Raises:
        Fault: nothing is there, or files without a name.
    """
    from cnn_keras.data.read import IMAGE_SUFFIXES

    def pictures(folder: Path) -> list[Path]:
        return sorted(file for file in folder.iterdir() if file.name.lower().endswith(tuple(IMAGE_SUFFIXES)))

    for path in paths:
        if not path.exists():
            raise Fault(f"PHOTOS must be files or folders, found nothing at {path}")
        people = sorted(inner for inner in path.iterdir() if inner.is_dir()) if path.is_dir() else []
        if name is None and not people:
            raise Fault(
                f"--name is required with {path}: whose photograph is it? Or give a folder with one for each person"
            )
        if name is not None and people:
            raise Fault(f"--name must not be given with {path}, whose folders are names: {people[0].name} …")
        found = [(person.name, file) for person in people for file in pictures(person)]
        if name is not None:
            found = [(name, file) for file in (pictures(path) if path.is_dir() else [path])]
        if not found:
            raise Fault(f"PHOTOS must hold images, found none in {path}", code=Fault.DATA)
        yield from found


def enrol(
    gallery: Gallery, recogniser: Recogniser, photos: Sequence[tuple[str, bytes, str]], *, anew: bool = False
) -> tuple[int, list[tuple[str, str]]]:
    """Add photographs, each a name, a file's bytes and what it is called.

    Returns:
        How many were not there yet, and (file, problem) of those that could not be used.

    Raises:
        Fault: the gallery belongs to another model, or none could be used.
    """
    vectors = recogniser.embed([data for _, data, _ in photos])
    good, problems = [], []
    for (name, data, source), vector in zip(photos, vectors, strict=True):
        if isinstance(vector, str):
            problems.append((source, vector))
        else:
            good.append(Photo(checked_name(name), vector, hashlib.sha256(data).hexdigest(), source))
    if not good:
        raise Fault(f"PHOTOS must hold a readable image, got {problems[0][0]}: {problems[0][1]}", code=Fault.DATA)
    return gallery.enrol(recogniser.settings, good, anew=anew), problems


def verify(
    gallery: Gallery, recogniser: Recogniser, name: str, files: Sequence[bytes], far: float | None
) -> list[Answer]:
    """Is it the person of this name? The answer's name is theirs if so."""
    known = gallery.vectors(name)
    _check(gallery, recogniser)
    threshold = recogniser.threshold(far, len(known))
    answers = []
    for vector, alive in zip(recogniser.embed(files), recogniser.alive(files), strict=True):
        if isinstance(vector, str):
            answers.append(Answer(None, None, threshold, problem=vector))
            continue
        distance = float(recogniser.compare(vector, known).min())
        same = distance <= threshold.distance and _lives(alive)
        answers.append(Answer(name if same else None, distance, threshold, alive))
    return answers


def identify(gallery: Gallery, recogniser: Recogniser, files: Sequence[bytes], far: float | None) -> list[Answer]:
    """Who of the gallery is it? The answer's name is None for a stranger."""
    enrolled = gallery.count()
    threshold = recogniser.threshold(far, enrolled)
    found, lives = recogniser.embed(files), recogniser.alive(files)
    vectors = [vector for vector in found if not isinstance(vector, str)]
    near: Iterator[list[Near]] = iter([[]] * len(vectors))
    if vectors and enrolled:
        count = NEAREST if recogniser.facts["head"] else 1
        near = iter(gallery.nearest(recogniser.settings.model, np.stack(vectors), count))
    return [
        Answer(None, None, threshold, problem=vector)
        if isinstance(vector, str)
        else _nearest(recogniser, vector, next(near), threshold, alive)
        for vector, alive in zip(found, lives, strict=True)
    ]


def _nearest(
    recogniser: Recogniser, vector: Array, candidates: list[Near], threshold: Threshold, alive: float | None
) -> Answer:
    """The answer about one picture, of the enrolled embeddings near to it."""
    if not candidates:
        return Answer(None, None, threshold, alive)
    distances = recogniser.compare(vector, np.stack([one.vector for one in candidates]))
    best = int(np.argmin(distances))
    known = float(distances[best]) <= threshold.distance and _lives(alive)
    return Answer(candidates[best].name if known else None, float(distances[best]), threshold, alive)


def _lives(alive: float | None) -> bool:
    return alive is None or alive >= SURE


def _check(gallery: Gallery, recogniser: Recogniser) -> None:
    stored = gallery.settings()
    if stored and stored.model != recogniser.settings.model:
        raise other_model(gallery.location, stored, recogniser.settings.model)
