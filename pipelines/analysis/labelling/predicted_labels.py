"""What a model says of the files of a folder, as annotations with scores, and how unsure it is."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Item, Landmark, Object
from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.data.files.image_file import normalize
from cnn_keras.errors import Fault
from cnn_keras.metrics import uncertainty
from pipelines.data import run_files
from pipelines.data.validation import progress
from pipelines.engine import stages
from pipelines.inference import exported_model, predict
from pipelines.inference.classification import (
    ArrayClassifier,
    Classification,
    ImageClassifier,
    Labels,
    MultiLabelClassifier,
)
from pipelines.inference.detection import Detections, Detector
from pipelines.inference.prediction import BATCH, batched
from pipelines.inference.segmentation import ImageSegmenter, Segmentation

DOUBLE = (".nii.gz",)  # suffixes of two parts
PORTABLE = (".pgm", ".ppm")


class Labelled(NamedTuple):
    """A file, and what a model says of it.

    Attributes:
        file: as it was given.
        item: under the name that it is written by: the file, with the objects in it.
        labels: of the whole picture, signal or volume, with their probabilities.
        uncertainty: of the answer, 0 to 1.
        entropy: of the probabilities, 0 to 1; None where the model does not tell them.
    """

    file: Path
    item: Item
    labels: tuple[tuple[str, float], ...]
    uncertainty: float
    entropy: float | None


class Answers(NamedTuple):
    """What a model says of a folder.

    Attributes:
        rows: of the files that are labelled.
        problems: why a file could not be read, by file.
        unsure: how many files are left out because their score is too low.
        classes: in the order of the run; of a model without one, in that in which they are found.
    """

    rows: list[Labelled]
    problems: dict[Path, str]
    unsure: int
    classes: list[str]


class Said(NamedTuple):
    """The part of an answer that differs from task to task; see `Labelled`."""

    objects: tuple[Object, ...] = ()
    labels: tuple[tuple[str, float], ...] = ()
    uncertainty: float = 0.0
    entropy: float | None = None
    names: Sequence[str] = ()  # of classes that the model is known to have


class Kind(NamedTuple):
    """What a kind of model answers with.

    formats: that its answers can be written in, the usual one first. read: of an answer and the least score what is
    said, or None where the whole file is left out.
    """

    formats: tuple[str, ...]
    read: Callable[[Any, float], Said | None]


def _of_class(answer: Classification, least: float) -> Said | None:
    probabilities = np.array([list(answer.every.values())])
    label = answer.classes[0]
    doubt, entropy = (float(measure(probabilities)[0]) for measure in (uncertainty.margin, uncertainty.entropy))
    return Said((), (label,), doubt, entropy, list(answer.every)) if label[1] >= least else None


def _of_labels(answer: Labels, least: float) -> Said:
    labels = tuple((name, answer.every[name]) for name in answer.chosen if answer.every[name] >= least)
    return Said((), labels, *_of_decisions(list(answer.every.values())), list(answer.every))


def _of_objects(answer: Detections, least: float) -> Said:
    objects = tuple(object_ for object_ in _objects(answer) if object_.score is not None and object_.score >= least)
    scores = [score for _, score in answer.classes]
    return Said(objects, (), *_of_decisions(scores), [name for name, _ in answer.classes])


def _of_mask(answer: Segmentation, least: float) -> Said | None:
    """An object for each class that is there, the background among them."""
    segments = answer.segments
    if segments.sureness < least:
        return None
    objects = []
    for number, (name, confidence) in enumerate(zip(segments.names, segments.confidence, strict=True)):
        inside = segments.mask == number
        if inside.any():
            objects.append(Object(_extent(inside), name, mask=run_length.encode(inside), score=confidence))
    return Said(tuple(objects), (), 1 - segments.sureness, None, segments.names)


KINDS = {
    ImageClassifier: Kind(("folders", "csv"), _of_class),
    ArrayClassifier: Kind(("folders", "csv"), _of_class),
    MultiLabelClassifier: Kind(("csv",), _of_labels),
    Detector: Kind(("coco", "yolo", "labelme", "csv", "voc"), _of_objects),
    ImageSegmenter: Kind(("masks", "coco", "labelme"), _of_mask),
}


def ask(
    reference: str,
    folder: Path,
    *,
    runs: Path,
    to: str | None,
    least: float,
    console: Console,
    files: Sequence[Path] = (),
) -> tuple[str, Answers]:
    """Ask the newest version of a model about the files of a folder, videos left out.

    Args:
        reference: a run, its recipe, or the folder of an exported model.
        to: the format that is to be written; None takes the usual one of the model.
        least: the score from which an object, or the answer to a whole file, is taken.
        files: those of the folder that it is asked about; () for all.

    Returns:
        The format, and the answers.

    Raises:
        Fault: a model whose answers are no labels or cannot be written so, or a folder without a readable file.
    """
    version = exported_model.newest(exported_model.locate(reference, runs))
    predictor = predict.predictor_of(predict.load(version), version, top=1)
    kind = KINDS.get(type(predictor))
    if kind is None:
        raise Fault(f"MODEL must be one that classifies, detects, localizes or segments images, got {reference}")
    if to is not None and to not in kind.formats:
        raise Fault(f"--to must be one of {', '.join(kind.formats)} for what this model answers, got {to!r}")
    if not folder.is_dir():
        raise Fault(f"FOLDER must be a folder of {predictor.input} files, got {file_tree.describe_path(folder)}")
    suffixes = tuple(IMAGE_SUFFIXES) if predictor.input == "image" else predictor.suffixes
    files = files or [file for file in predict.files_of([folder], predictor.input, suffixes) if file.is_file()]
    names, rows, problems = _names(folder, files), [], {}
    unsure, named = 0, dict.fromkeys(_classes(reference, runs))
    with progress(console) as bar:
        task = bar.add_task("predicting", total=len(files))
        for batch in batched(files, BATCH):
            for file, answer in zip(batch, predictor.predict(batch, Console(quiet=True)), strict=True):
                said = None if answer.problem else kind.read(answer, least)
                if answer.problem:
                    problems[file] = answer.problem
                elif said is None:
                    unsure += 1
                else:
                    named.update(dict.fromkeys(said.names))
                    item = Item(names[file], _reader(file), said.objects, file=file)
                    rows.append(Labelled(file, item, said.labels, said.uncertainty, said.entropy))
            bar.advance(task, len(batch))
    if len(problems) == len(files):
        first = next(iter(problems), folder)
        raise Fault(f"FOLDER must hold a file that can be read, got {first}: {problems.get(first)}", code=Fault.DATA)
    return to or kind.formats[0], Answers(rows, problems, unsure, list(named))


def _of_decisions(probabilities: Sequence[float]) -> tuple[float, float]:
    """How unsure yes or no is: by the least certain of all, and on average; 0 where there is nothing to decide.

    Of a detector's picture, as Brust et al., "Active learning for deep object detection", 2019, sum up its objects.
    """
    if not probabilities:
        return 0.0, 0.0
    shares = uncertainty.binary(np.array(probabilities))
    return float(uncertainty.margin(shares).max()), float(uncertainty.entropy(shares).mean())


def _objects(answer: Detections) -> Iterator[Object]:
    masks: list[Any] = [None] * len(answer.boxes)
    if answer.instances is not None:
        masks = [run_length.encode(answer.instances == number) for number in range(1, len(answer.boxes) + 1)]
    marks = answer.landmarks or [{}] * len(answer.boxes)
    for (name, score), box, mask, points in zip(answer.classes, answer.boxes, masks, marks, strict=True):
        landmarks = tuple(Landmark(part, point[0], point[1]) for part, point in points.items() if point)
        left, top, right, bottom = box
        yield Object((left, top, right, bottom), name, mask=mask, landmarks=landmarks, score=score)


def _extent(inside: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    """The box of the pixels that are True."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0


def _names(folder: Path, files: Iterable[Path]) -> dict[Path, str]:
    """The names that files are written by: their paths below the folder, no two of which differ in their suffix alone.

    PGM and PPM become PNG, which writers of annotations know.
    """
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        name = annotation.inner_name(Item(annotation.relative_id(folder, file), bytes))
        suffix = next((ending for ending in DOUBLE if name.lower().endswith(ending)), PurePosixPath(name).suffix)
        stem = name[: len(name) - len(suffix)]
        candidates = chain([stem, f"{stem}-{suffix[1:]}"], (f"{stem}-{number}" for number in count(2)))
        stem = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(stem.lower())
        names[file] = stem + (".png" if suffix.lower() in PORTABLE else suffix)
    return names


def _reader(file: Path) -> Callable[[], bytes]:
    if file.suffix.lower() in PORTABLE:
        return lambda: normalize(input_file.read_bytes(file))[0]
    return partial(input_file.read_bytes, file)


def _classes(reference: str, runs: Path) -> list[str]:
    """The classes of a run, in its order; none of a model's folder."""
    prepared = stages.run_folder(reference, runs) / "prepare" / run_files.MANIFEST
    return list(run_files.read_json(prepared)["facts"]["classes"]) if prepared.is_file() else []
