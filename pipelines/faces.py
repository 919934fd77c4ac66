"""Who is this? An exported embedder and a gallery: enrol, verify, identify people by their photographs.

A threshold is never a magic number: it follows from a false-accept rate, on pairs of people that the embedder was
calibrated on. To verify, one comparison is made, and the threshold is the one at that rate. To identify, as many are
made as photographs are enrolled, and each could be mistaken; so the rate is divided among them, and a stranger is
taken for anybody at all no more often than the rate says.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn_keras import verification
from cnn_keras.fault import Fault
from pipelines import embedder, savedmodel, stages
from pipelines.gallery import Array, Gallery, Near, Photo, Settings, checked_name, other_model

if TYPE_CHECKING:
    from cnn_keras.data.alignment import Aligner

BATCH = 32  # pictures that are embedded at once
NEAREST = 32  # enrolled embeddings that a trained head compares
LIVE = "live"  # the class of a liveness classifier that is let in
SURE = 0.5  # its probability from which it is


class Threshold(NamedTuple):
    """A distance up to which two are called the same, and what is known of it."""

    distance: float
    far: float  # the false-accept rate that it follows from, over all comparisons of an answer
    frr: float  # the share of one person's pairs that are farther apart, and rejected
    measured: bool  # on pairs, or by the line through the strictest of them

    def as_dict(self) -> dict[str, Any]:
        rates = {"false_accept_rate": self.far, "false_reject_rate": self.frr}
        return {"threshold": self.distance, **rates, "measured": self.measured}


class Recogniser:
    """An exported embedder, newest version or the one whose digest is asked for, and, if any, a liveness classifier.

    Args:
        reference: a recipe whose run was exported, or a model's folder.
        model: the digest that a gallery was made with.
        liveness: the same as `reference`, of a classifier with the class `live`.

    Raises:
        Fault: nothing is exported there, no embedder, or another than `model`.
    """

    def __init__(self, reference: str, runs: Path, *, model: str | None = None, liveness: str = "") -> None:
        import tensorflow as tf

        folder = savedmodel.locate(reference, runs)
        self.folder = version_of(folder, model)
        self.facts = stages.read_json(self.folder / embedder.FACTS)
        self._loaded = tf.saved_model.load(str(self.folder))
        self._guard = Guard(liveness, runs) if liveness else None
        guard = str(self._guard.folder) if self._guard else ""
        self.settings = Settings(self.facts["model"], self.facts["dimension"], str(folder.resolve()), guard)
        self._aligner: Aligner | None = None

    def threshold(self, far: float | None, comparisons: int = 1) -> Threshold:
        """At `far`, the calibrated one unless given, shared among so many comparisons."""
        far = self.facts["far"] if far is None else far
        if not 0 < far < 1:
            raise Fault(f"--far must be between 0 and 1, got {far}")
        distance, measured = verification.threshold_for(self.facts["false_accepts"], far / max(1, comparisons))
        return Threshold(distance, far, verification.rejects_at(self.facts["false_rejects"], distance), measured)

    def embed(self, files: Sequence[bytes]) -> list[Array | str]:
        """The embedding of each picture, float32 (dimension,), or what is wrong with it."""
        ready = [self._plain(file) for file in files]
        good = [row for row, data in enumerate(ready) if isinstance(data, bytes)]
        found: list[Array | str] = [data if isinstance(data, str) else "" for data in ready]
        for start in range(0, len(good), BATCH):
            rows = good[start : start + BATCH]
            for row, vector in zip(rows, self._vectors([ready[row] for row in rows]), strict=True):
                found[row] = vector
        return found

    def compare(self, vector: Array, others: Array) -> Array:
        """The distance of an embedding, float32 (dimension,), to each of others, (N, dimension): float32 (N,)."""
        if not self.facts["head"]:
            distances: Array = np.maximum(2 - 2 * others @ vector, 0)
            return distances
        import tensorflow as tf

        left = np.repeat(vector[None], len(others), axis=0)
        answer = self._loaded.signatures["match"](left=tf.constant(left), right=tf.constant(others))
        return np.asarray(answer["distance"])

    def alive(self, files: Sequence[bytes]) -> list[float | None]:
        """The probability that each picture is of somebody who is there; None where nobody asks."""
        return [self._guard(file) if self._guard else None for file in files]

    def _plain(self, file: bytes) -> bytes | str:
        """A picture as the graph takes it – upright, and aligned where the graph does not do that – or its problem."""
        from cnn_keras.data import alignment

        data = _upright(file)
        if isinstance(data, str) or self.facts["align"] != "opencv":
            return data
        if self._aligner is None:
            self._aligner = alignment.cascades()
        aligner, size = self._aligner, tuple(self.facts["size"])
        aligned: bytes | None = alignment.turned(data, lambda image: aligner("", image), size=size)
        return aligned or data

    def _vectors(self, files: Sequence[Any]) -> Sequence[Array | str]:
        """One batch; when the graph refuses it, its pictures are asked about one by one."""
        import tensorflow as tf

        from cnn_keras.data.encoded import reason

        try:
            return list(self._loaded.signatures["embed"](image_bytes=tf.constant(files))["embedding"].numpy())
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            if len(files) > 1:
                return [vector for file in files for vector in self._vectors([file])]
            return [reason(error)]


class Guard:
    """A classifier that tells the living from pictures of them: what `classify` exports, with a class `live`.

    Raises:
        Fault: nothing is exported there, or it has no such class.
    """

    def __init__(self, reference: str, runs: Path) -> None:
        import tensorflow as tf

        self.folder = savedmodel.locate(reference, runs).resolve()
        self._loaded = tf.saved_model.load(str(savedmodel.newest(self.folder)))
        self._classify = self._loaded.signatures.get("serving_classify")
        if self._classify is None:
            raise Fault(f"liveness must be a classifier with a class {LIVE}, got {reference}, which is none")

    def __call__(self, file: bytes) -> float:
        """The probability of `live` of a picture; 0 of one that cannot be read."""
        import tensorflow as tf

        data = _upright(file)
        if isinstance(data, str):
            return 0.0
        found = self._classify(inputs=tf.constant([savedmodel.as_example(data)], tf.string))
        names = [name.decode() for name in found["classes"][0].numpy()]
        if LIVE not in names:
            raise Fault(f"liveness must have a class {LIVE}, got {self.folder} with {', '.join(sorted(names))}")
        return float(found["scores"][0, names.index(LIVE)])


def _upright(file: bytes) -> bytes | str:
    """A picture as JPEG or PNG that stands upright, or what is wrong with it."""
    from cnn_keras.data.encoded import Unreadable, plain

    try:
        data: bytes = plain(file)[0]
    except Unreadable as reason:
        return str(reason)
    return data


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


def version_of(folder: Path, model: str | None) -> Path:
    """The newest version below a model's folder, or the newest whose digest is `model`.

    Raises:
        Fault: it is no embedder, or was exported before galleries were; or none has the digest.
    """
    versions = [folder] if (folder / "saved_model.pb").is_file() else _versions(folder)
    facts = {version: version / embedder.FACTS for version in versions}
    known = {
        version: found
        for version, path in facts.items()
        if path.is_file() and "false_rejects" in (found := stages.read_json(path))
    }
    if not known:
        raise Fault(f"MODEL must be an embedder that the task verify exported, got {folder}; `cnn export` it again")
    fitting = [version for version, found in known.items() if model in (None, found["model"])]
    if not fitting:
        raise Fault(
            f"MODEL must be the one that the gallery was made with, {str(model)[:12]}, got {folder} with "
            f"{', '.join(sorted({found['model'][:12] for found in known.values()}))}: it has been trained again since. "
            "Enrol everybody's photographs again with --anew"
        )
    return fitting[0]


def _versions(folder: Path) -> list[Path]:
    """Version folders, the highest number first."""
    found = [path.parent for path in folder.glob("[0-9]*/saved_model.pb") if path.parent.name.isdigit()]
    return sorted(found, key=lambda path: -int(path.name))


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
