"""An exported embedder as something to ask: pictures to embeddings, embeddings to distances, a rate to a threshold.

Before it stands the detector, if there is one, which finds the faces of a picture; beside it the guard, a classifier
that tells the living from pictures of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras.data.files.image_file import encode_png, normalize, reason
from cnn_keras.data.transforms import face_alignment
from cnn_keras.data.transforms.face_alignment import Aligner
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.metrics import verification
from pipelines.data import run_files
from pipelines.export import savedmodel
from pipelines.faces import detector
from pipelines.faces.detector import Face
from pipelines.faces.gallery import Array, Settings
from pipelines.inference import exported_model
from pipelines.inference.embedding import FACTS
from pipelines.inference.prediction import pixels

BATCH = 32  # pictures that are embedded at once
LIVE = "live"  # the class of a liveness classifier that is let in
NO_FACE = "no face found"
EQUAL = 1e-8  # ‖f − f′‖² of one picture embedded twice is less: only the order of the sums differs


class Threshold(NamedTuple):
    """A distance up to which two are called the same, and what is known of it."""

    distance: float
    far: float  # the false-accept rate that was asked for, over all comparisons of an answer
    frr: float  # the share of one person's pairs that are farther apart, and rejected
    # what the false-accept rate is at most, with a confidence of 95 %; None of a model that knows no bounds
    bound: float | None
    people: int  # whom it was calibrated on

    @property
    def measured(self) -> bool:
        """Whether so many people can show the rate that was asked for; else the threshold is extrapolated."""
        return self.bound is not None and self.bound <= self.far

    def as_dict(self) -> dict[str, Any]:
        """The threshold and its rates, as JSON writes them."""
        return {
            "threshold": self.distance,
            "false_accept_rate": self.far,
            "false_accept_bound": self.bound,
            "false_reject_rate": self.frr,
            "calibration_people": self.people,
            "measured": self.measured,
        }

    def __str__(self) -> str:
        known = f"{self.frr:.2%} of the photographs of known people are not recognised"
        wrong = f"recognised up to {self.distance:.3f}: a stranger is taken for somebody at a rate of"
        if self.bound is None:
            return f"{wrong} {self.far:g}, a point estimate by {self.people} people, which strangers may pass; {known}"
        if self.measured:
            return (
                f"{wrong} at most {self.far:g}, sure to {verification.CONFIDENCE:.0%} by {self.people} people; {known}"
            )
        origin = f"which is extrapolated: {self.people} people can show no rate below {self.bound:.2g}"
        return f"{wrong} {self.far:g}, {origin}; {known}"


class Portrait(NamedTuple):
    """What an embedder is given of a picture: the part around a face as PNG; all of it where nothing looks for one."""

    data: bytes
    face: Face | None = None


class Recogniser:
    """An exported embedder, newest version or the one whose digest is asked for, and, if any, a liveness classifier.

    Args:
        reference: a recipe whose run was exported, or a model's folder.
        model: the digest that a gallery was made with.
        liveness: the same as `reference`, of a classifier with the class `live`.
        liveness_model: the digest of the classifier that a gallery was made with; any if empty.
        detector_name: what finds the faces, see `detector.resolve`; if empty, each picture is one.

    Raises:
        Fault: nothing is exported there, no embedder, or another than `model`; so of the classifier and the detector.
    """

    def __init__(
        self,
        reference: str,
        runs: Path,
        *,
        model: str | None = None,
        liveness: str = "",
        liveness_model: str = "",
        detector_name: str = "",
    ) -> None:
        folder = exported_model.locate(reference, runs)
        self.folder = version_of(folder, model)
        self.facts = run_files.read_json(self.folder / FACTS)
        self._loaded = tf.saved_model.load(str(self.folder))
        self._guard = Guard(liveness, runs, model=liveness_model) if liveness else None
        guard = (str(self._guard.folder), self._guard.model) if self._guard else ("", "")
        found_by = detector.resolve(detector_name, runs)
        self.settings = Settings(self.facts["model"], self.facts["dimension"], str(folder.resolve()), *guard, found_by)
        self._detector = detector.open_detector(found_by)
        self._aligner: Aligner | None = None

    def threshold(self, far: float | None, comparisons: int = 1) -> Threshold:
        """At `far`, the calibrated one unless given, shared among so many comparisons."""
        far = self.facts["far"] if far is None else far
        if not 0 < far < 1:
            raise Fault(f"--far must be between 0 and 1, got {far}")
        comparisons = max(1, comparisons)
        table, bound = self.facts.get("false_accept_bounds"), None
        if table:
            bound = max(far, min(1.0, self.facts["least_far"] * comparisons))
        distance = verification.threshold_for(table or self.facts["false_accepts"], far / comparisons)
        rejects = verification.false_reject_rate(self.facts["false_rejects"], distance)
        return Threshold(distance, far, rejects, bound, self.facts["calibration_people"])

    def embed(self, files: Sequence[bytes], *, faced: bool = False) -> list[Array | str]:
        """The embedding of each picture, float32 (dimension,), or what is wrong with it.

        If `faced`, a picture without a face is of no use, where anything looks for one before the graph is asked.
        """
        ready = [self._plain(file, faced=faced) for file in files]
        good = [row for row, data in enumerate(ready) if isinstance(data, bytes)]
        embeddings: list[Array | str] = [data if isinstance(data, str) else "" for data in ready]
        for start in range(0, len(good), BATCH):
            rows = good[start : start + BATCH]
            for row, vector in zip(rows, self._vectors([ready[row] for row in rows]), strict=True):
                embeddings[row] = vector
        return embeddings

    def portraits(self, file: bytes) -> list[Portrait] | str:
        """The faces of an encoded picture, none where there is none; or what is wrong with the picture."""
        data = _upright(file)
        if isinstance(data, str) or self._detector is None:
            return data if isinstance(data, str) else [Portrait(data)]
        try:
            image = pixels(data)
        except (OSError, ValueError, SyntaxError) as error:  # as Pillow says that pixels are broken
            return reason(error)
        return [Portrait(encode_png(detector.crop(image, face.box)), face) for face in self._detector(image)]

    def compare(self, vector: Array, others: Array) -> Array:
        """The distance of an embedding, float32 (dimension,), to each of others, (N, dimension): float32 (N,)."""
        if not self.facts["head"]:
            distances: Array = np.square(others - vector).sum(axis=1)
            return np.where(distances < EQUAL, np.float32(0), distances)

        left = np.repeat(vector[None], len(others), axis=0)
        answer = self._loaded.signatures["match"](left=tf.constant(left), right=tf.constant(others))
        return np.asarray(answer["distance"])

    def alive(self, files: Sequence[bytes]) -> list[float | None]:
        """The probability that each picture is of somebody who is there; None where nobody asks."""
        return [self._guard(file) if self._guard else None for file in files]

    def _plain(self, file: bytes, *, faced: bool = False) -> bytes | str:
        """A picture as the graph takes it – upright, and aligned where the graph does not do that – or its problem."""
        data = _upright(file)
        if isinstance(data, str) or self.facts["align"] != "opencv":
            return data
        if self._aligner is None:
            self._aligner = face_alignment.cascades()
        aligner, size = self._aligner, tuple(self.facts["size"])
        aligned: bytes | None = face_alignment.align_image(data, lambda image: aligner("", image), size=size)
        if aligned is None and faced:
            return f"{NO_FACE}; the photograph must show a face that is upright, large enough, with open eyes"
        return aligned or data

    def _vectors(self, files: Sequence[Any]) -> Sequence[Array | str]:
        """One batch; when the graph refuses it, its pictures are asked about one by one."""
        try:
            return list(self._loaded.signatures["embed"](image_bytes=tf.constant(files))["embedding"].numpy())
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            if len(files) > 1:
                return [vector for file in files for vector in self._vectors([file])]
            return [reason(error)]


class Guard:
    """A classifier that tells the living from pictures of them: what `classify` exports, with a class `live`.

    Args:
        model: the digest of the one that is wanted; the newest if empty.

    Raises:
        Fault: nothing is exported there, or it has no such class.
    """

    def __init__(self, reference: str, runs: Path, *, model: str = "") -> None:

        self.folder = exported_model.locate(reference, runs).resolve()
        versions = {graph_digest(version): version for version in reversed(_versions_of(self.folder))}
        self.model = model or graph_digest(_versions_of(self.folder)[0])
        if self.model not in versions:
            raise Fault(
                f"--liveness must be the classifier that the gallery was created with, {model[:19]}, got {self.folder} "
                f"with {', '.join(sorted(digest[:19] for digest in versions))}; give the folder where that one is"
            )
        self._loaded = tf.saved_model.load(str(versions[self.model]))
        self._classify = self._loaded.signatures.get("serving_classify")
        if self._classify is None:
            raise Fault(f"liveness must be a classifier with a class {LIVE}, got {reference}, which is none")

    def __call__(self, file: bytes) -> float:
        """The probability of `live` of a picture; 0 of one that cannot be read."""
        data = _upright(file)
        if isinstance(data, str):
            return 0.0
        outputs = self._classify(inputs=tf.constant([savedmodel.as_example(data)], tf.string))
        names = [name.decode() for name in outputs["classes"][0].numpy()]
        if LIVE not in names:
            raise Fault(f"liveness must have a class {LIVE}, got {self.folder} with {', '.join(sorted(names))}")
        return float(outputs["scores"][0, names.index(LIVE)])


def _upright(file: bytes) -> bytes | str:
    """A picture as JPEG or PNG that stands upright, or what is wrong with it."""
    try:
        data: bytes = normalize(file)[0]
    except Unreadable as error:
        return str(error)
    return data


def version_of(folder: Path, model: str | None) -> Path:
    """The newest version below a model's folder, or the newest whose digest is `model`.

    Raises:
        Fault: it is no embedder, or was exported before galleries were; or none has the digest.
    """
    versions = _versions_of(folder)
    facts = {version: version / FACTS for version in versions}
    known = {
        version: report
        for version, path in facts.items()
        if path.is_file() and "false_rejects" in (report := run_files.read_json(path))
    }
    if not known:
        raise Fault(
            f"MODEL must be an embedder that the task verify exported, got {folder}; `cnn export` an older one again"
        )
    fitting = [version for version, report in known.items() if model in (None, report["model"])]
    if not fitting:
        raise Fault(
            f"--model must be the one that the gallery was created with, {str(model)[:19]}, got {folder} with "
            f"{', '.join(sorted({report['model'][:19] for report in known.values()}))}: it has been trained again "
            "since, or is another. Give that one with --model, or enrol everybody's photographs again with --anew"
        )
    return fitting[0]


def _versions_of(folder: Path) -> list[Path]:
    """Version folders, the highest number first; or the folder itself, if it is one."""
    if (folder / "saved_model.pb").is_file():
        return [folder]
    folders = [path.parent for path in folder.glob("[0-9]*/saved_model.pb") if path.parent.name.isdigit()]
    return sorted(folders, key=lambda path: -int(path.name))


def graph_digest(version: Path) -> str:
    """The digest of an exported model's graph and weights, wherever its folder is."""
    files = [version / "saved_model.pb", *sorted((version / "variables").glob("*"))]
    return run_files.digest([run_files.file_digest(file) for file in files])
