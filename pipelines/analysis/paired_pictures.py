"""Two detectors, or two segmenters, on the same test pictures: what a figure gains, with its interval.

The interval is that of the paired bootstrap (Koehn, "Statistical significance tests for machine translation
evaluation", EMNLP 2004): both are measured on the same draws of pictures, so that pictures that are hard for both do
not make it wider. It knows nothing of the luck of the seed.

Of a detector the figure is AP50, of a segmenter the mean IoU and the mean Dice. All are of all pictures together, not
means over pictures, which is why the counts of each picture are needed: those that `evaluate` has written.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.data.files import input_file
from cnn_keras.metrics import segmentation
from pipelines.data import run_files
from pipelines.tasks.detect import box_report, error_types
from pipelines.tasks.detect.error_types import Scene
from pipelines.tasks.segment import tally

FEW = 20  # pictures: of fewer a bootstrap says little
DRAWS = 1000

Array = np.ndarray[Any, np.dtype[Any]]


class Pictures(NamedTuple):
    """What is counted of each test picture of a run, by its id: the scenes of boxes, or the pixels of each class."""

    names: list[str]  # of the classes
    counts: dict[str, Any]


def differences(first: Path, second: Path, shared: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """What the second run has more of each figure: by name `difference`, `interval` of 95 % and how many `pictures`.

    Args:
        first: the folder of a run; `second` likewise.
        shared: the ids in both of each test picture that both have.

    Returns:
        {} of other tasks, of runs of before the counts were written, of other classes, and of fewer than FEW pictures.
    """
    for read, values in ((_boxes, _ap50), (_pixels, _overlaps)):
        before, after = read(first), read(second)
        if before is None or after is None or before.names != after.names:
            continue
        found = ((before.counts.get(one), after.counts.get(other)) for one, other in shared)
        pairs = [pair for pair in found if all(one is not None for one in pair) and _same_truth(*pair)]
        if len(pairs) < FEW:
            continue
        weights = np.random.default_rng(0).multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), DRAWS)
        weights = np.concatenate([np.ones((1, len(pairs)), int), weights])  # the pictures themselves first
        old, new = (values(list(column), len(before.names), weights) for column in zip(*pairs, strict=True))
        return {name: _row(new[name] - old[name], len(pairs)) for name in old}
    return {}


def _row(drawn: Array, pictures: int) -> dict[str, Any]:
    low, high = np.nanpercentile(drawn[1:], (2.5, 97.5)).tolist()
    return {"difference": float(drawn[0]), "interval": (low, high), "pictures": pictures}


def _boxes(folder: Path) -> Pictures | None:
    """The scenes of a detector's test split; None of another run."""
    path = folder / "evaluate" / "detections.json"
    if not path.is_file():
        return None
    split = "test" if (folder / "prepare" / "truth-test.json").is_file() else "validation"
    truth = run_files.read_json(folder / "prepare" / f"truth-{split}.json")
    detected = box_report.detected(truth, input_file.read_json(path))
    scenes = [error_types.scene(*pair) for pair in zip(box_report.objects_of(truth), detected, strict=True)]
    ids = (image["file_name"] for image in truth["images"])
    return Pictures([category["name"] for category in truth["categories"]], dict(zip(ids, scenes, strict=True)))


def _ap50(scenes: list[Scene], classes: int, weights: Array) -> dict[str, Array]:
    return {"ap50": error_types.table(scenes, classes).resampled_ap50(weights)}


def _pixels(folder: Path) -> Pictures | None:
    """The pixels of each class of a segmenter's test pictures, int64 (classes, 3) as of `tally.PIXELS`; or None."""
    path = folder / "evaluate" / "pictures_by_class.csv"
    if not path.is_file():
        return None
    report = run_files.read_json(folder / "evaluate" / "report.json")
    names = [row["name"] for row in report["classes"]]
    counts: dict[str, Array] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if tally.PIXELS[0] not in row:
                return None
            own = counts.setdefault(row["id"], np.zeros((len(names), len(tally.PIXELS)), np.int64))
            own[names.index(row["class"])] = [int(row[key]) for key in tally.PIXELS]
    return Pictures(names, counts)


def _overlaps(pixels: list[Array], classes: int, weights: Array) -> dict[str, Array]:
    true, predicted, right = np.moveaxis(np.tensordot(weights, np.array(pixels), axes=1), -1, 0)
    return segmentation.mean_overlaps(true, predicted, right)


def _same_truth(first: Any, second: Any) -> bool:
    if isinstance(first, Scene):
        columns = zip(first.truth, second.truth, strict=True)
        return all(np.array_equal(one, other) for one, other in columns)
    return np.array_equal(first[:, 0], second[:, 0])
