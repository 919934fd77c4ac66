"""Predictions of exported models about files and folders, as CSV, pictures and masks.

A model of images is asked about image files, a detector about videos too, frame by frame, one of signals about CSV
files, one of volumes about NIfTI files.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import tensorflow as tf
from rich.console import Console

from cnn_keras.data.files import dicom
from cnn_keras.data.files.durable import write_text
from cnn_keras.data.files.file_tree import tree
from cnn_keras.errors import Fault
from pipelines.data.run_files import ParallelMap
from pipelines.data.validation import progress
from pipelines.inference import detection, mask_files, painting
from pipelines.inference.classification import ArrayClassifier, ImageClassifier, MultiLabelClassifier
from pipelines.inference.embedding import Embedder
from pipelines.inference.exported_model import newest
from pipelines.inference.prediction import BATCH, DEFAULT, Prediction, Predictor, batched
from pipelines.inference.regression import Regressor
from pipelines.inference.segmentation import ImageSegmenter, Segmentation, VolumeSegmenter
from pipelines.inference.steering import Steerer


def predict(
    model: Path,
    files: Sequence[Path],
    *,
    top: int,
    console: Console,
    signature: str = DEFAULT,
    parallel_map: ParallelMap | None = None,
) -> list[Prediction]:
    """Ask the newest version of `model` about every file; what cannot be read is answered with its problem.

    Args:
        files: files, or folders of them.
        top: how many classes a classifier names.
        signature: of a model that paints in several styles, the name of one.
        parallel_map: what asks about BATCH files at a time elsewhere, where the files have the same paths.
    """
    folder = newest(model)
    predictor = predictor_of(load(folder), folder, top=top, signature=signature)
    chosen = list(files_of(files, predictor.input, predictor.suffixes))
    if parallel_map is None:
        return predictor.predict(chosen, console)
    ask = partial(_predict, folder=folder.absolute(), top=top, signature=signature)
    batches = list(batched(chosen, BATCH))
    with progress(console) as bar:
        answers = bar.track(parallel_map(ask, batches), total=len(batches), description="predicting")
        return [prediction for part in answers for prediction in part]


def _predict(files: list[Path], *, folder: Path, top: int, signature: str) -> list[Prediction]:
    """A part of the predictions, in a process that has asked the same model before, or loads it."""
    return _predictor(folder, top, signature).predict(files, Console(quiet=True))


@lru_cache(maxsize=1)
def _predictor(folder: Path, top: int, signature: str) -> Predictor:
    return predictor_of(load(folder), folder, top=top, signature=signature)


def load(folder: Path) -> Any:
    """The SavedModel of a version's folder; takes seconds."""
    return tf.saved_model.load(str(folder))


def predictor_of(model: Any, folder: Path, *, top: int, signature: str = DEFAULT) -> Predictor:
    """What asks a loaded SavedModel.

    Raises:
        Fault: the model is of no kind that answers about single files.
    """
    outputs = model.signatures[DEFAULT].structured_outputs
    if "mask" in outputs:
        return VolumeSegmenter(model, folder)
    if "serving_ranked" in model.signatures:
        return ArrayClassifier(model, folder, top)
    if painting.paints(model):
        return painting.Painter(model, signature)
    if detection.detects(model):
        return detection.Detector(model, folder)
    if "angle" in outputs:
        return Steerer(model)
    if {"values", "low", "high"} <= set(outputs):
        return Regressor(model)
    if "mask_bytes" in outputs:
        return ImageSegmenter(model)
    if "chosen" in outputs:
        return MultiLabelClassifier(model)
    if "serving_classify" in model.signatures:
        return ImageClassifier(model, folder, top)
    if "embedding" in outputs:
        return Embedder(model, folder)
    raise Fault(f"MODEL must be one that a task exported, got outputs {', '.join(sorted(outputs))}")


def by_source(predictions: Sequence[Prediction]) -> list[list[Prediction]]:
    """The predictions of each source: one, or those of the frames of a video."""
    return [list(group) for _, group in groupby(predictions, lambda prediction: id(prediction.source))]


def kind_of(predictions: Sequence[Prediction]) -> type[Prediction]:
    """The class of those that are of readable files."""
    return next((type(prediction) for prediction in predictions if not prediction.problem), Prediction)


def write_csv(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the predictions as a table; its columns are those of their kind."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(kind_of(predictions).table(predictions))
    write_text(path, out.getvalue())


def draw(predictions: Sequence[Prediction], folder: Path) -> int:
    """Draw each readable picture with its prediction, each video with those of its frames; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    drawable = [(number, group) for number, group in enumerate(by_source(predictions)) if not group[0].problem]
    for number, (first, *later) in drawable:
        first.draw(folder / f"{number:04d}-{first.path.stem if first.path else 'image'}.png", later)
    return len(drawable)


def write_masks(predictions: Sequence[Prediction], folder: Path) -> int:
    """Write each mask that a segmenter answered with into a folder; return how many.

    Raises:
        Fault: the model is no segmenter.
    """
    segmented = [
        (prediction.path, prediction.segments)
        for prediction in predictions
        if isinstance(prediction, Segmentation) and prediction.path
    ]
    if not segmented:
        raise Fault("--masks requires a segmentation model and readable files; there is no mask to write")
    return mask_files.write([(path, segments.mask) for path, segments in segmented], segmented[0][1].names, folder)


def files_of(
    paths: Iterable[Path], noun: str, suffixes: tuple[str, ...], *, argument: str = "IMAGES"
) -> Iterator[Path]:
    """The files that a predictor is asked about: those that are named, and in folders those that it takes.

    A folder of DICOM slices is a volume.

    Args:
        noun: what it takes: "image", "signal" or "volume".
        suffixes: of its files, in lower case.
        argument: what the paths are called in the message of a Fault.

    Raises:
        Fault: a path leads nowhere, or to a folder without any.
    """
    for path in paths:
        if path.is_dir():
            matching = sorted(
                file
                for folder, files in tree(path)
                for file in (
                    [folder]
                    if noun == "volume" and dicom.is_series(folder)
                    else [file for file in files if file.name.lower().endswith(suffixes)]
                )
            )
            if not matching:
                raise Fault(
                    f"{argument} must be {noun} files or folders of them, found none in {path}", code=Fault.DATA
                )
            yield from matching
        elif path.is_file():
            yield path
        else:
            found = "neither" if path.exists() else "nothing"
            raise Fault(f"{argument} must be files or folders, found {found} at {path}")
