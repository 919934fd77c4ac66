"""Where a run's model and its labels differ: what `cnn review` lists and shows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from cnn_keras import inference
from cnn_keras.data import records
from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from cnn_keras.metrics import label_errors
from pipelines.analysis.labelling import mask_findings
from pipelines.analysis.labelling.finding import (
    LABEL_ERROR,
    MISSED,
    NOT_ANNOTATED,
    RIGHT,
    WRONG,
    WRONG_CLASS,
    Box,
    Finding,
    Findings,
    Picture,
)
from pipelines.data import image_dataset, run_files
from pipelines.engine import recipe as recipes
from pipelines.engine import reference_statistics, stages
from pipelines.engine.classification import classifier, classifier_report, label_kind
from pipelines.engine.experiments import cross_validation
from pipelines.tasks.classify import dataset
from pipelines.tasks.detect import box_report, error_types
from pipelines.tasks.detect.error_types import Scene

KINDS = {  # of a detector's errors, by `error_types`
    error_types.CLASSIFICATION: WRONG_CLASS,
    error_types.LOCALISATION: "wrong place",
    error_types.BOTH: "wrong class and place",
    error_types.DUPLICATE: "found twice",
    error_types.BACKGROUND: NOT_ANNOTATED,
}
UNKNOWN = 0.5  # the quality of the label of an object that is missed: nothing was found that speaks against it


def find(reference: str, *, runs: Path, console: Console) -> Findings:
    """The findings in what a run's model was not trained on.

    Of a classifier or a segmenter of images these are the test parts of all folds where `cnn cross-validate` has been
    run, which are all examples; else the validation and the test split. Of a detector it is the test split.

    Args:
        reference: a run, `classify/photos`, or its recipe.

    Raises:
        Fault: no evaluated run, or one of another task.
    """
    folder = stages.run_folder(reference, runs)
    if not ((folder / "prepare" / run_files.MANIFEST).is_file() or _folds(folder)):
        raise Fault(f"RUN must be a run that was evaluated, found none in {folder}; `cnn evaluate RECIPE` evaluates it")
    run = _opened(folder, console, reference)
    if run.recipe.task == "detect":
        return _of_boxes(run)
    if run.recipe.task == "segment" and run.recipe.data.axes == 2:
        return mask_findings.find(_name(run), _sources(run))
    if run.recipe.task != "classify":
        raise Fault(f"RUN must be of the task classify, detect or segment, of pictures, got {reference}")
    return _of_labels(run) if label_kind.of(run.recipe) is label_kind.MULTI else _of_classes(run)


def encoded(findings: Findings, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """The encoded images of these pictures, by their numbers, in any order; with masks, the true one and the answer."""
    if findings.sources and findings.sources[0][0].recipe.task == "segment":
        yield from mask_findings.encoded(findings, numbers)
        return
    for source, (run, split) in enumerate(findings.sources):
        wanted = {
            findings.pictures[number].place: number for number in numbers if findings.pictures[number].source == source
        }
        rows = records.read(run.finished("prepare"), split, features=reference_statistics.ENCODED)
        for place, row in enumerate(rows.take(max(wanted, default=-1) + 1)):
            if place in wanted:
                yield wanted[place], row["image"].numpy()


def _opened(folder: Path, console: Console, reference: str = "") -> stages.Run:
    """The run of a folder by what its training has written down; by its recipe, where its folds alone were trained."""
    written = folder / "recipe.yaml"
    return stages.Run(recipes.load(str(written) if written.is_file() else reference), console, folder.parents[1])


def _name(run: stages.Run) -> str:
    return f"{run.recipe.task}/{run.recipe.name}"


class OutOfSample(NamedTuple):
    """What a classifier answers to examples that it was not trained on: labels (N,), probabilities (N, classes).

    Of any number of labels, `labels` are bool (N, classes).
    """

    labels: Any
    probabilities: Any
    pictures: list[Picture]
    sources: list[tuple[stages.Run, str]]


def out_of_sample(run: stages.Run) -> OutOfSample:
    """The answers to the test parts of all folds, or else to the validation and the test split.

    Raises:
        Fault: there is neither, or the folds are of other data.
    """
    sources = _sources(run)
    names = sources[0][0].facts("prepare")["classes"]
    pictures, labels, probabilities = [], [], []
    for number, (source, split) in enumerate(sources):
        if source.facts("prepare")["classes"] != names:
            raise Fault(f"{source.folder} must have the classes of its run; `cnn cross-validate RECIPE` trains it anew")
        shares, truth, ids = _answers(source, split)
        pictures += [Picture(name, number, place) for place, name in enumerate(ids)]
        labels.append(truth)
        probabilities.append(shares)
    return OutOfSample(np.concatenate(labels), np.concatenate(probabilities), pictures, sources)


def _sources(run: stages.Run) -> list[tuple[stages.Run, str]]:
    if folds := _folds(run.folder):
        return [(_opened(fold, run.console), "test") for fold in folds]
    there = run.facts("prepare")["splits"]
    sources = [(run, split) for split in ("validation", "test") if split in there]
    if not sources:
        raise Fault("RUN must have a validation or a test split, got none: nothing is left out of the training")
    return sources


def _folds(folder: Path) -> list[Path]:
    """The evaluated folds of the run in a folder."""
    folds = sorted((folder / cross_validation.FOLDER).glob("*/fold-*"))
    return [fold for fold in folds if (fold / "evaluate" / run_files.MANIFEST).is_file()]


def _of_classes(run: stages.Run) -> Findings:
    """Confident learning over all out-of-sample probabilities."""
    labels, probabilities, pictures, sources = out_of_sample(run)
    errors, names = label_errors.find(labels, probabilities), sources[0][0].facts("prepare")["classes"]
    rows = []
    for row in errors.order.tolist():
        label, likeliest = int(labels[row]), int(errors.likeliest[row])
        kind = LABEL_ERROR if errors.wrong[row] else RIGHT if likeliest == label else WRONG
        score, quality = float(probabilities[row, likeliest]), float(errors.quality[row])
        rows.append(Finding(row, kind, names[label], names[likeliest], score, quality))
    return Findings(_name(run), rows, pictures, sources, names)


def _of_labels(run: stages.Run) -> Findings:
    """Confident learning for each label by itself: whether it is there or not. Only what differs is listed."""
    labels, probabilities, pictures, sources = out_of_sample(run)
    names = sources[0][0].facts("prepare")["classes"]
    rows: list[Finding] = []
    for name, column, truth in zip(names, probabilities.T, (labels >= 0.5).T.astype(int), strict=True):
        errors = label_errors.find(truth, np.stack([1 - column, column], axis=1))
        for row in np.flatnonzero(errors.likeliest != truth).tolist():
            kind, quality = LABEL_ERROR if errors.wrong[row] else WRONG, float(errors.quality[row])
            label, prediction = (name, "") if truth[row] else ("", name)
            rows.append(Finding(row, kind, label, prediction, float(column[row]) if prediction else 0.0, quality))
    rows.sort(key=lambda row: row.quality)
    return Findings(_name(run), rows, pictures, sources, names)


def _answers(run: stages.Run, split: str) -> tuple[Any, Any, list[str]]:
    """Probabilities (N, classes), labels (N,) or shares (N, classes), and ids of a split."""
    model = classifier.load_trained(run)
    kind = label_kind.of(run.recipe)
    answer: Callable[[Any], Any] = inference.predictor(model, partial(kind.probabilities, model))
    batches = dataset.batches(run.finished("prepare"), split, image_dataset.shape_of(run.recipe.data))
    return classifier_report.answers(run, answer, batches, run.facts("prepare")["splits"][split])


def _of_boxes(run: stages.Run) -> Findings:
    """The errors that evaluate has matched, of detections from `evaluate.shown` on."""
    split = image_dataset.test_split(run.facts("prepare"))
    truth = run_files.read_json(run.finished("prepare") / f"truth-{split}.json")
    detections = input_file.read_json(run.finished("evaluate") / "detections.json")
    pairs = zip(box_report.objects_of(truth), box_report.detected(truth, detections), strict=True)
    scenes = [error_types.scene(*pair, threshold=run.recipe.evaluate.shown) for pair in pairs]
    names = [category["name"] for category in truth["categories"]]
    rows: list[Finding] = []
    pictures = []
    for number, (facts, scene) in enumerate(zip(truth["images"], scenes, strict=True)):
        annotated = _boxes(scene.truth.boxes, scene.truth.classes, [None] * len(scene.truth.boxes), names)
        found = _boxes(scene.found.boxes, scene.found.classes, scene.found.scores.tolist(), names)
        pictures.append(Picture(str(facts["file_name"]), 0, number, annotated, found))
        rows += _errors(number, scene, names)
    rows.sort(key=lambda row: row.quality)
    return Findings(_name(run), rows, pictures, [(run, split)], names)


def _boxes(boxes: Any, classes: Any, scores: Sequence[float | None], names: Sequence[str]) -> tuple[Box, ...]:
    return tuple(
        (*(float(edge) for edge in box), names[number], score)
        for box, number, score in zip(boxes, classes, scores, strict=True)
    )


def _errors(picture: int, scene: Scene, names: Sequence[str]) -> Iterator[Finding]:
    """The errors in one picture: what is found with a high score and is not annotated so, is suspicious."""
    for row, kind in enumerate(scene.kinds.tolist()):
        if kind in KINDS:
            about = int(scene.about[row])
            label = names[scene.truth.classes[about]] if about != error_types.NONE else ""
            score, thing = float(scene.found.scores[row]), names[scene.found.classes[row]]
            of = None if about == error_types.NONE else about
            yield Finding(picture, KINDS[kind], label, thing, score, 1 - score, of, row)
    for row in np.flatnonzero(scene.missed).tolist():
        yield Finding(picture, MISSED, names[scene.truth.classes[row]], "", 0.0, UNKNOWN, row)
