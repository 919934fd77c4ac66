"""Who is this? An exported embedder and a gallery: enrol, verify, identify people by their photographs.

A threshold is never a magic number: it follows from a false-accept rate, by an upper bound over the people that the
embedder was calibrated on. To verify, one comparison is made, and the threshold is the one at that rate. To identify,
as many are made as photographs are enrolled, and each could be mistaken; so the rate is divided among them, and a
stranger is taken for anybody at all no more often than the rate says. What the people of the calibration are too few to
show, every answer tells: its `false_accept_bound` is then above the rate. Each face of a picture is asked about
alone, by the liveness classifier, too.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.sources import classification
from cnn_keras.errors import Fault, Unreadable
from pipelines.data.validation import Problem
from pipelines.faces.detector import Face
from pipelines.faces.encoder import BATCH, EQUAL, NO_FACE, Portrait, Recogniser, Threshold
from pipelines.faces.gallery import Array, Gallery, Near, Photo, checked_name, other_model

NEAREST = 32  # enrolled embeddings that a trained head compares
SURE = 0.5  # the probability of `live` from which somebody is
SEVERAL = ("error", "largest", "all")  # what becomes of a photograph of several faces that is to be enrolled
SEVERAL_FACES = "several faces"

Found = tuple[str, Callable[[], bytes], str]  # a photograph: whose it is, what reads the file, what the file is called


class Answer(NamedTuple):
    """What is said of one face: who it is, or None, how far the nearest is, and by which threshold."""

    name: str | None
    distance: float | None  # None where nothing was compared
    threshold: Threshold | None = None
    alive: float | None = None
    problem: str | None = None
    nearest: str | None = None  # whom the distance is to
    face: Face | None = None  # None where each picture is one

    def as_dict(self) -> dict[str, Any]:
        """The answer as JSON writes it."""
        threshold = self.threshold.as_dict() if self.threshold else {}
        live = {} if self.alive is None else {"alive": self.alive}
        face = {} if self.face is None else {"box": list(self.face.box), "score": self.face.score}
        told = {"name": self.name, "nearest": self.nearest, "distance": self.distance, **face, **threshold}
        return {**told, **live, "problem": self.problem}


class Enrolment(NamedTuple):
    """What became of photographs: how many are new, how many were there already, and what is wrong with the others."""

    added: int
    known: int
    problems: list[Problem]


def photographs(paths: Sequence[Path], name: str | None) -> list[Found]:
    """All files that are there to be enrolled: files and folders of `name`, or a folder with one for each person.

    Reading what is no photograph – hidden, no image, outside the people's folders – gives the reason.

    Raises:
        Fault: nothing is there, or files without a name.
    """
    photos: list[Found] = []
    for path in paths:
        if not path.exists():
            raise Fault(f"PHOTOS must be files or folders, found nothing at {path}")
        inner = sorted(path.iterdir()) if path.is_dir() else []
        people = [folder.name for folder in inner if folder.is_dir() and not folder.name.startswith(file_tree.HIDDEN)]
        if name is None and not people:
            raise Fault(f"--name is required with {path}: who is it? Or give a folder with a folder for each person")
        if name is not None and people:
            raise Fault(f"--name must not be given with {path}, whose folders are names: {people[0]} …")
        if name is None:
            try:
                photos += [(item.label, item.read, str(path / item.id)) for item in classification.folder(path)]
            except Fault as fault:
                raise Fault(f"PHOTOS must contain images: {fault}", code=fault.code) from None
        elif path.is_dir():
            if not any(_is_picture(file) for file in inner):
                raise Fault(f"PHOTOS must contain images, found none in {path}", code=Fault.DATA)
            photos += [(name, partial(_own, file), str(file)) for file in inner]
        else:
            photos.append((name, partial(_content, path), str(path)))
    return photos


def _own(file: Path) -> bytes:
    """The content of one of the files of a person's folder."""
    if file.name.startswith(file_tree.HIDDEN):
        file_tree.refuse("hidden", "names like this are ignored")
    if not _is_picture(file):
        file_tree.refuse("not an image", "its suffix is not an image's")
    return _content(file)


def _content(file: Path) -> bytes:
    data: bytes = input_file.read_bytes(file)
    return data


def _is_picture(file: Path) -> bool:
    hidden = file.name.startswith(file_tree.HIDDEN)
    return not hidden and file.name.lower().endswith(tuple(file_tree.IMAGE_SUFFIXES))


def enrol(
    gallery: Gallery, recogniser: Recogniser, photos: Iterable[Found], *, anew: bool = False, several: str = "error"
) -> Enrolment:
    """Add photographs; of those that two names are given to, here or in the gallery, none is taken.

    A batch of them is in memory at a time. They are enrolled together at the end, or none is.

    Args:
        several: what becomes of a photograph with several faces, one of SEVERAL: of "error" it is not enrolled.

    Raises:
        Fault: the gallery belongs to another model, or `several` is none of them.
    """
    if several not in SEVERAL:
        raise Fault(f"--several must be {', '.join(SEVERAL)}, got {several!r}")
    good, pixels, problems = [], [], []
    rest = iter(photos)
    while batch := list(islice(rest, BATCH)):
        read, unread = _read(batch)
        problems += unread
        rows, faceless = _portraits(recogniser, read, several)
        problems += faceless
        vectors = recogniser.embed([portrait.data for _, _, portrait in rows], faced=True)
        for ((name, data, source), number, _), vector in zip(rows, vectors, strict=True):
            if isinstance(vector, str):
                problems.append(Problem(NO_FACE if vector.startswith(NO_FACE) else "undecodable", source, vector))
                continue
            digest = hashlib.sha256(data).hexdigest() + (f"#{number}" if number else "")
            good.append(Photo(checked_name(name), vector, digest, source))
            pixels.append(_pixels(data))
    others = _other_names(good, pixels, [] if anew else _nearest_of(gallery, recogniser, good))
    problems += [
        Problem("of two names", photo.source, f"the same photograph is {other}: who is in it?")
        for photo, other in zip(good, others, strict=True)
        if other
    ]
    good = [photo for photo, other in zip(good, others, strict=True) if not other]
    added = gallery.enrol(recogniser.settings, good, anew=anew) if good else 0
    return Enrolment(added, len(good) - added, problems)


def _portraits(
    recogniser: Recogniser, read: Sequence[tuple[str, bytes, str]], several: str
) -> tuple[list[tuple[tuple[str, bytes, str], int, Portrait]], list[Problem]]:
    """Each portrait that is to be enrolled, with its photograph and its number in that; and why others have none."""
    rows, problems = [], []
    for photo in read:
        portraits = recogniser.portraits(photo[1])
        if isinstance(portraits, str):
            problems.append(Problem("undecodable", photo[2], portraits))
        elif not portraits:
            problems.append(Problem(NO_FACE, photo[2], "the photograph must show one, from the front"))
        elif len(portraits) > 1 and several == "error":
            advice = "--several largest enrols the largest, --several all enrols each of them"
            problems.append(Problem(SEVERAL_FACES, photo[2], f"{len(portraits)} faces, whose are they? {advice}"))
        else:
            chosen = [max(portraits, key=_area)] if several == "largest" else portraits
            rows += [(photo, number, portrait) for number, portrait in enumerate(chosen)]
    return rows, problems


def _area(portrait: Portrait) -> float:
    return portrait.face.area if portrait.face else 0.0


def _read(photos: Sequence[Found]) -> tuple[list[tuple[str, bytes, str]], list[Problem]]:
    """The name, the content and the source of what can be read, and why the others cannot."""
    read, problems = [], []
    for name, load, source in photos:
        try:
            read.append((name, load(), source))
        except Unreadable as reason:
            problems.append(Problem(reason.kind, source, str(reason)))
        except OSError as error:
            problems.append(Problem("unreadable", source, error.strerror or str(error)))
    return read, problems


def _other_names(photos: list[Photo], pixels: list[str], near: Sequence[list[Near]]) -> list[str]:
    """Who else each photograph is said to be; empty where one name is given to it, here and in the gallery.

    Of photographs here the pixels are compared; of those enrolled only embeddings are known, and where two are equal
    the model can tell nobody apart by them.
    """
    named: dict[str, dict[str, str]] = defaultdict(dict)
    for photo, own in zip(photos, pixels, strict=True):
        named[own].setdefault(photo.name, photo.source)
    others = []
    for row, (photo, own) in enumerate(zip(photos, pixels, strict=True)):
        duplicates = [f"{name}'s, {source}" for name, source in named[own].items() if name != photo.name]
        for neighbour in near[row] if near else ():
            if neighbour.name != photo.name and np.square(photo.vector.astype(float) - neighbour.vector).sum() < EQUAL:
                duplicates.append(f"{neighbour.name}'s, who is enrolled")
        others.append(duplicates[0] if duplicates else "")
    return others


def _nearest_of(gallery: Gallery, recogniser: Recogniser, photos: list[Photo]) -> list[list[Near]]:
    if not photos or not gallery.count():
        return []
    return gallery.nearest(recogniser.settings.model, np.stack([photo.vector for photo in photos]), 1)


def _pixels(data: bytes) -> str:
    """The digest of a photograph's pixels, whatever format it is in."""
    with Image.open(io.BytesIO(normalize(data)[0])) as image:
        colours = image.convert("RGB")
    return hashlib.sha256(repr(colours.size).encode() + colours.tobytes()).hexdigest()


def verify(
    gallery: Gallery, recogniser: Recogniser, name: str, files: Sequence[bytes], far: float | None
) -> list[Answer]:
    """Is it the person of this name? The answer's name is theirs if so."""
    known = gallery.vectors(name)
    _check(gallery, recogniser)
    return _verify_all(recogniser, known, name, files, far)


def compare(
    recogniser: Recogniser, reference: bytes, name: str, files: Sequence[bytes], far: float | None
) -> list[Answer]:
    """Is it the person of a reference photograph, which `name` is of? No gallery is needed.

    Raises:
        Fault: the reference photograph shows no face or several, or it cannot be read.
    """
    portraits = recogniser.portraits(reference)
    if not isinstance(portraits, str) and len(portraits) != 1:
        raise Fault(f"{name} must be a photograph of one face, found {len(portraits)}", code=Fault.DATA)
    vector = portraits if isinstance(portraits, str) else recogniser.embed([portraits[0].data], faced=True)[0]
    if isinstance(vector, str):
        raise Fault(f"{name} must be a photograph of a face, but: {vector}", code=Fault.DATA)
    return _verify_all(recogniser, vector[None], name, files, far)


def _verify_all(
    recogniser: Recogniser, known: Array, name: str, files: Sequence[bytes], far: float | None
) -> list[Answer]:
    """The answer about each picture, of the nearest of a person's embeddings, float32 (N, dimension).

    In a picture of several faces that is the face that is nearest; the rate is divided among them.
    """
    answers = []
    for file in files:
        portraits = recogniser.portraits(file)
        found = [] if isinstance(portraits, str) else portraits
        threshold = recogniser.threshold(far, len(known) * max(1, len(found)))
        near = []
        problem = portraits if isinstance(portraits, str) else NO_FACE
        for portrait, vector in zip(found, recogniser.embed([portrait.data for portrait in found]), strict=True):
            if isinstance(vector, str):
                problem = vector
            else:
                near.append((float(recogniser.compare(vector, known).min()), portrait))
        if not near:
            answers.append(Answer(None, None, threshold, problem=problem))
            continue
        distance, nearest = min(near, key=lambda one: one[0])
        (alive,) = recogniser.alive([nearest.data])
        same = distance <= threshold.distance and _lives(alive)
        answers.append(Answer(name if same else None, distance, threshold, alive, nearest=name, face=nearest.face))
    return answers


def identify(gallery: Gallery, recogniser: Recogniser, files: Sequence[bytes], far: float | None) -> list[list[Answer]]:
    """Who of the gallery is it? Of each picture the answer about each face; its name is None for a stranger.

    A picture that cannot be read, or shows no face, has one answer with the problem.
    """
    enrolled = gallery.count()
    threshold = recogniser.threshold(far, enrolled)
    pictures = [recogniser.portraits(file) for file in files]
    portraits = [portrait for faces in pictures if not isinstance(faces, str) for portrait in faces]
    embeddings = recogniser.embed([portrait.data for portrait in portraits])
    vectors = [vector for vector in embeddings if not isinstance(vector, str)]
    near: Iterator[list[Near]] = iter([[]] * len(vectors))
    if vectors and enrolled:
        count = NEAREST if recogniser.facts["head"] else 1
        near = iter(gallery.nearest(recogniser.settings.model, np.stack(vectors), count))
    rest = zip(embeddings, recogniser.alive([portrait.data for portrait in portraits]), strict=True)
    answers = []
    for faces in pictures:
        if isinstance(faces, str) or not faces:
            answers.append([Answer(None, None, threshold, problem=NO_FACE if not faces else str(faces))])
            continue
        row = []
        for portrait, (vector, alive) in zip(faces, rest, strict=False):
            if isinstance(vector, str):
                row.append(Answer(None, None, threshold, problem=vector, face=portrait.face))
            else:
                answer = _nearest(recogniser, vector, next(near), threshold, alive)
                row.append(answer._replace(face=portrait.face))
        answers.append(row)
    return answers


def _nearest(
    recogniser: Recogniser, vector: Array, candidates: list[Near], threshold: Threshold, alive: float | None
) -> Answer:
    """The answer about one face, of the enrolled embeddings near to it."""
    if not candidates:
        return Answer(None, None, threshold, alive)
    distances = recogniser.compare(vector, np.stack([candidate.vector for candidate in candidates]))
    best = int(np.argmin(distances))
    nearest, distance = candidates[best].name, float(distances[best])
    known = distance <= threshold.distance and _lives(alive)
    return Answer(nearest if known else None, distance, threshold, alive, nearest=nearest)


def _lives(alive: float | None) -> bool:
    return alive is None or alive >= SURE


def _check(gallery: Gallery, recogniser: Recogniser) -> None:
    stored = gallery.settings()
    if stored and stored.model != recogniser.settings.model:
        raise other_model(gallery.location, stored, recogniser.settings.model)
