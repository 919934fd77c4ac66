"""What is counted of the answers to a split, picture by picture, and the intervals of figures that come of it.

Intervals are bootstrapped over pictures or, where these are few, over blocks of them: pixels next to each other tell
the same.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.metrics import lesions, segmentation
from pipelines.engine import plugins

Array = np.ndarray[Any, np.dtype[Any]]

FEW = 20  # pictures: of fewer, blocks are drawn for the intervals
BLOCK = {2: 64, 3: 32}  # pixels or voxels along each side of one, by axes
RESAMPLES = 1000
PIXELS = ("true_pixels", "predicted_pixels", "right_pixels")  # of a class in a picture
DIAGONAL = 0.0075  # of a picture: how far a border may be off (Csurka et al., 2013)


class Answer(NamedTuple):
    """What was said of one picture: the truth and the labels, integers (*sizes), and how sure on average.

    spacing: the sides of a voxel along each axis, in millimetres; None of pictures.
    """

    id: str
    truth: Array
    labels: Array
    confidence: float
    spacing: tuple[float, ...] | None = None


class Tally(NamedTuple):
    """What counts of all pictures: confusions of each, of each block, and the counts of borders; pictures' rows.

    distances: of each picture and class, see `segmentation.surface_distances`; unit: theirs. lesions: by the number of
    a class whose lesions are counted, of each picture, see `lesions.counts`.
    """

    pictures: list[Array]
    blocks: list[Array]
    borders: Array
    rows: list[dict[str, Any]]
    axes: int
    distances: Array
    unit: str
    lesions: dict[int, Array]

    @property
    def interval(self) -> str:
        """Over what figures are resampled."""
        noun, side = ("pixels", BLOCK[2]) if self.axes == 2 else ("voxels", BLOCK[3])
        if len(self.pictures) >= FEW:
            return f"over {len(self.pictures)} pictures"
        return f"over {len(self.blocks)} blocks of {side} {noun}"

    def samples(self) -> list[segmentation.Scores]:
        """The figures of RESAMPLES splits that might have been, drawn with replacement."""
        units = np.array(self.pictures if len(self.pictures) >= FEW else self.blocks)
        return [segmentation.scores(total) for total in np.tensordot(draws(len(units)), units, axes=1)]

    def mean_distances(self) -> Array:
        """The means over the pictures that have them: float64 (classes, 2), NaN where none has."""
        known = np.isfinite(self.distances)
        sums = np.where(known, self.distances, 0).sum(axis=0)
        means: Array = np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.nan)
        return means

    def rows_by_class(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """A row for each picture and class that is true or said in it."""
        rows = []
        for picture, row in enumerate(self.rows):
            dice = segmentation.scores(self.pictures[picture]).dice
            for number in np.flatnonzero(np.isfinite(dice)).tolist():
                hausdorff, surface = self.distances[picture, number].tolist()
                figures = {"dice": float(dice[number]), "hausdorff_95": hausdorff, "surface_distance": surface}
                confusion = self.pictures[picture]
                pixels = (confusion[number].sum(), confusion[:, number].sum(), confusion[number, number])
                counts = self.lesions[number][picture, :3] if number in self.lesions else [""] * 3
                counted = dict(zip(("lesions", "found", "false_positives"), counts, strict=True))
                rows.append(
                    {
                        "id": row["id"],
                        "class": names[number],
                        **figures,
                        **counted,
                        **dict(zip(PIXELS, pixels, strict=True)),
                    }
                )
        return rows


def tally(
    answers: Iterable[Answer],
    classes: int,
    *,
    tolerance: float | None,
    metrics: Sequence[str] = (),
    lesion_classes: Sequence[int] = (),
    overlap: float = 0.0,
) -> Tally:
    """Count the answers to a split, one by one.

    Args:
        tolerance: pixels that a border may be off; None is DIAGONAL of each picture.
        metrics: of the user's own.
        lesion_classes: numbers of those whose lesions are counted; overlap: what one needs to be found.
    """
    pictures, blocks, rows, axes, unit = [], [], [], 2, "pixels"
    distances: list[Array] = []
    found: dict[int, list[Array]] = {number: [] for number in lesion_classes}
    borders = np.zeros((classes, 4), np.int64)
    for answer in answers:
        axes = answer.truth.ndim
        unit = "mm" if answer.spacing else "pixels" if axes == 2 else "voxels"
        pictures.append(segmentation.confusion(answer.truth, answer.labels, classes))
        blocks += list(_blocks(answer, classes))
        reach = DIAGONAL * math.hypot(*answer.truth.shape) if tolerance is None else tolerance
        borders += segmentation.border_counts(answer.truth, answer.labels, classes, tolerance=reach)
        distances.append(segmentation.surface_distances(answer.truth, answer.labels, classes, spacing=answer.spacing))
        for number, counts in found.items():
            claimed = (answer.labels == number) & (answer.truth >= 0)
            counts.append(lesions.counts(answer.truth == number, claimed, overlap=overlap))
        figures = segmentation.scores(pictures[-1])
        named = {"pixel_accuracy": figures.pixel_accuracy, "mean_iou": figures.mean_iou, "mean_dice": figures.mean_dice}
        named |= plugins.measure(metrics, answer.truth, answer.labels)
        rows.append({"id": answer.id, **named, "confidence": answer.confidence})
    lesion_counts = {number: np.array(counts) for number, counts in found.items()}
    return Tally(pictures, blocks, borders, rows, axes, np.array(distances), unit, lesion_counts)


def mean_iou(counted: Tally) -> tuple[float, tuple[float, float]]:
    """The mean IoU of what was counted, with its interval."""
    low, high = interval([sample.mean_iou for sample in counted.samples()])
    return float(segmentation.scores(np.sum(counted.pictures, axis=0)).mean_iou), (low, high)


def draws(count: int) -> Array:
    """How often each of `count` units is in RESAMPLES splits drawn with replacement: int64 (RESAMPLES, count)."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)


def interval(values: Sequence[float]) -> list[float]:
    """The middle 95 %; [0, 1] where hardly a split has the figure."""
    known = np.array(values)[np.isfinite(values)]
    if len(known) < RESAMPLES // 10:
        return [0.0, 1.0]
    return [float(value) for value in np.percentile(known, (2.5, 97.5))]


def _blocks(answer: Answer, classes: int) -> Iterable[Array]:
    """The confusion of each block of a picture in which something is known."""
    side = BLOCK[answer.truth.ndim]
    for corner in np.ndindex(*(-(-length // side) for length in answer.truth.shape)):
        window = tuple(slice(side * place, side * (place + 1)) for place in corner)
        counts = segmentation.confusion(answer.truth[window], answer.labels[window], classes)
        if counts.any():
            yield counts
