"""What is wrong with detections: each matched to the truth of its picture, or given the kind of its error.

The kinds are those of Bolya et al., *TIDE: A General Toolbox for Identifying Object Detection Errors* (ECCV 2020), at
their overlaps of 0.5 and 0.1, and so is what AP50 would gain without each. Matching is COCO's, within the classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.metrics import average_precision as voc

Array = np.ndarray[Any, np.dtype[Any]]

OVERLAP = 0.5  # intersection over union from which on a box is right
TOUCHING = 0.1  # and below which it has nothing to do with an object
RECALLS = 101  # at which COCO reads the precision
NONE = -1

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))


class Detected(NamedTuple):
    """What was found in one picture."""

    boxes: Array  # float [K, 4]: left, top, right, bottom in pixels of the original
    scores: Array  # float [K] in [0, 1]
    classes: Array  # int [K]: numbers of classes


class Objects(NamedTuple):
    """What is in one picture; difficult objects, crowds among them, need not be found."""

    boxes: Array  # float [M, 4], as of Detected
    classes: Array  # int [M]
    difficult: Array  # bool [M]


class Scene(NamedTuple):
    """One picture: what is in it, what was found, and what became of each."""

    truth: Objects
    found: Detected
    outcomes: Array  # int8 [K]: 1 right, 0 wrong, -1 neither
    about: Array  # int64 [K]: the true object that a detection is about, -1 without
    kinds: Array  # int64 [K]: the number of its kind of error, -1 for none
    missed: Array  # bool [M]: no detection is about it

    @property
    def right(self) -> int:
        return int((self.outcomes == 1).sum())

    @property
    def wrong(self) -> int:
        return int((self.outcomes == 0).sum())

    @property
    def wanted(self) -> int:
        return int((~self.truth.difficult).sum())

    @property
    def mistakes(self) -> int:
        return self.wrong + self.wanted - self.right

    @property
    def f1(self) -> float:
        return 2 * self.right / max(self.right + self.wrong + self.wanted, 1)


def scene(truth: Objects, detected: Detected, *, threshold: float = 0.0) -> Scene:
    """Match the detections from a score on within each class; say of every wrong one what is wrong with it."""
    boxes, scores, classes = (np.asarray(column) for column in detected)
    is_shown = scores >= threshold
    detected = Detected(boxes.reshape(-1, 4)[is_shown], scores[is_shown], classes[is_shown])
    outcomes, about = np.zeros(len(detected.scores), np.int8), np.full(len(detected.scores), NONE)
    for number in np.unique(detected.classes):
        mine, theirs = np.flatnonzero(detected.classes == number), np.flatnonzero(truth.classes == number)
        matches = voc.match(
            detected.boxes[mine],
            detected.scores[mine],
            truth.boxes[theirs],
            difficult=truth.difficult[theirs],
            overlap=OVERLAP,
            coco=True,
        )
        outcomes[mine], about[mine] = matches.outcomes, np.append(theirs, NONE)[matches.found]
    kinds = _explain(truth, detected, outcomes, about)
    noticed = about[(outcomes == 1) | np.isin(kinds, (CLASSIFICATION, LOCALISATION))]
    is_missed = ~truth.difficult & ~np.isin(np.arange(len(truth.classes)), noticed)
    return Scene(truth, detected, outcomes, about, kinds, is_missed)


def _explain(truth: Objects, detected: Detected, outcomes: Array, about: Array) -> Array:
    """Return the kind of each error, the first that fits in TIDE's order; fill in which object it is about."""
    shared = voc.pairwise_iou(detected.boxes, truth.boxes)
    same = detected.classes[:, None] == truth.classes[None]
    (right, by), (wrong, off) = (_best(np.where(mask, shared, 0.0)) for mask in (same, ~same))
    none = np.full(len(shared), NONE)
    classes_compared = (
        (LOCALISATION, (by >= TOUCHING) & (by < OVERLAP), right),
        (CLASSIFICATION, off >= OVERLAP, wrong),
        (DUPLICATE, by >= OVERLAP, right),
        (BOTH, off >= TOUCHING, wrong),
        (BACKGROUND, np.ones(len(shared), bool), none),
    )
    kinds = none.copy()
    for kind, fits, row in classes_compared:
        is_explained = (outcomes == 0) & (kinds == NONE) & fits
        kinds[is_explained], about[is_explained] = kind, row[is_explained]
    return kinds


def _best(shared: Array) -> tuple[Array, Array]:
    """Return the column of each row's largest overlap, and that overlap."""
    if not shared.shape[1]:
        return np.full(len(shared), NONE), np.zeros(len(shared))
    return shared.argmax(axis=1), shared.max(axis=1)


class Square(NamedTuple):
    """A part of a picture, or all of it: what is shown and counted as one."""

    image: int  # number of the picture
    window: tuple[int, int, int, int] | None  # left, top, right, bottom in pixels of the picture; None is all of it
    scene: Scene  # boxes in pixels of the picture


def squares(image: int, scene: Scene, extent: tuple[int, int], *, side: int) -> list[Square]:
    """A picture of this height and width in squares of about `side` pixels, row by row.

    An object is in the square of its midpoint, a detection in that of the object that it is about, or of its own.
    """
    height, width = extent
    rows, columns = (max(1, round(length / side)) for length in extent)
    lines = [np.linspace(0, *ends).round().astype(int) for ends in ((width, columns + 1), (height, rows + 1))]
    cells = [_cell(boxes, lines) for boxes in (scene.truth.boxes, scene.found.boxes)]
    cells[1] = np.where(scene.about == NONE, cells[1], np.append(cells[0], NONE)[scene.about])
    squares_ = []
    for number in range(rows * columns):
        row, column = divmod(number, columns)
        window: Any = tuple(
            int(line[place + end]) for end in (0, 1) for line, place in zip(lines, (column, row), strict=True)
        )
        mine, theirs = (np.flatnonzero(cell == number) for cell in cells)
        place = np.full(len(scene.missed) + 1, NONE)
        place[mine] = np.arange(len(mine))
        part = Scene(
            Objects(*(values[mine] for values in scene.truth)),
            Detected(*(values[theirs] for values in scene.found)),
            scene.outcomes[theirs],
            place[scene.about[theirs]],
            scene.kinds[theirs],
            scene.missed[mine],
        )
        squares_.append(Square(image, window, part))
    return squares_


def _cell(boxes: Array, lines: Sequence[Array]) -> Array:
    """The number of the square that the midpoint of each box is in."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    column, row = (
        np.clip(np.searchsorted(line, middle, side="right") - 1, 0, len(line) - 2)
        for line, middle in zip(lines, middles.T, strict=True)
    )
    cell: Array = row * (len(lines[0]) - 1) + column
    return cell


def confusion(scenes: Sequence[Scene], classes: int) -> Array:
    """Return counts [C + 1, C + 1], a row per true class and a column per answer; the last of either is background.

    An object is in its row once: found, taken for another class by the most confident of such detections, or missed.
    """
    counts = np.zeros((classes + 1, classes + 1), int)
    for truth, detected, outcomes, about, kinds, _ in scenes:
        true_classes = np.where(truth.difficult, NONE, classes)
        true_classes[about[outcomes == 1]] = detected.classes[outcomes == 1]
        for row in np.argsort(-detected.scores, kind="stable"):
            if outcomes[row] != 0:
                continue
            if kinds[row] == CLASSIFICATION and true_classes[about[row]] == classes:
                true_classes[about[row]] = detected.classes[row]
            else:
                counts[classes, detected.classes[row]] += 1
        np.add.at(counts, (truth.classes[true_classes != NONE], true_classes[true_classes != NONE]), 1)
    return counts


class Table(NamedTuple):
    """The detections of all pictures end to end, and how many objects of each class there are to find."""

    images: Array  # int [K]
    classes: Array  # int [K]
    scores: Array
    outcomes: Array
    kinds: Array
    objects: Array  # int [K]: numbers of true objects over all pictures, -1 without
    positives: Array  # int [images, C]

    def curve(self, number: int) -> voc.Curve:
        """Precision and recall of one class."""
        rows = self.classes == number
        return voc.precision_recall(self.scores[rows], self.outcomes[rows], int(self.positives[:, number].sum()))

    def ap50(self) -> float | None:
        """The mean over the classes that have objects, read as COCO reads it; None without any."""
        precisions = [
            voc.average_precision(curve.recall, curve.precision, points=RECALLS)
            for number in np.flatnonzero(self.positives.sum(axis=0))
            for curve in [self.curve(int(number))]
        ]
        return float(np.mean(precisions)) if precisions else None

    def resampled_ap50(self, weights: Array) -> Array:
        """AP50 where each picture counts as often as `weights`, int [draws, images], say: float64 [draws].

        It is NaN where nothing is to be found.
        """
        present = np.flatnonzero(self.positives.sum(axis=0))
        values = np.full((len(weights), len(present)), np.nan)
        for column, number in enumerate(present):
            rows = (self.classes == number) & (self.outcomes >= 0)
            order = np.argsort(-self.scores[rows], kind="stable")
            of, right = self.images[rows][order], self.outcomes[rows][order] == 1
            for row, times in enumerate(weights):
                if positives := times @ self.positives[:, number]:
                    right_so_far, so_far = np.cumsum(times[of] * right), np.cumsum(times[of])
                    precision = right_so_far / np.maximum(so_far, 1)
                    values[row, column] = voc.average_precision(right_so_far / positives, precision, points=RECALLS)
        known = ~np.isnan(values)
        means: Array = np.where(known, values, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return np.where(known.any(axis=1), means, np.nan)


def table(scenes: Sequence[Scene], classes: int) -> Table:
    """Put the scenes end to end."""
    starts = np.cumsum([0, *(len(scene.truth.classes) for scene in scenes)])
    empty = np.zeros(0, int)
    objects = [
        np.where(scene.about < 0, NONE, scene.about + start) for scene, start in zip(scenes, starts, strict=False)
    ]
    positives = [np.bincount(scene.truth.classes[~scene.truth.difficult], minlength=classes) for scene in scenes]
    return Table(
        np.repeat(np.arange(len(scenes)), [len(scene.found.scores) for scene in scenes]),
        np.concatenate([empty, *(scene.found.classes for scene in scenes)]),
        np.concatenate([empty, *(scene.found.scores for scene in scenes)]),
        np.concatenate([empty, *(scene.outcomes for scene in scenes)]),
        np.concatenate([empty, *(scene.kinds for scene in scenes)]),
        np.concatenate([empty, *objects]),
        np.array(positives, int).reshape(len(scenes), classes),
    )


def gains(scenes: Sequence[Scene], classes: int) -> dict[str, float]:
    """Return by how much AP50 would grow without each kind of error, the others left as they are.

    A wrong class or place is put right, unless the object is found anyway, where the detection is dropped like the
    other kinds; a missed object is no longer looked for.
    """
    whole = table(scenes, classes)
    before = whole.ap50()
    if before is None:
        return dict.fromkeys(KINDS, 0.0)
    truth = np.concatenate([scene.truth.classes for scene in scenes])
    difficult = np.concatenate([scene.truth.difficult for scene in scenes])
    matched = set(whole.objects[whole.outcomes == 1].tolist()) | set(np.flatnonzero(difficult).tolist())
    put_right = {}
    for kind in (CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND):
        outcomes, labels, claimed = whole.outcomes.copy(), whole.classes.copy(), set(matched)
        rows = np.flatnonzero(whole.kinds == kind)
        outcomes[rows] = -1
        for row in (
            rows[np.argsort(-whole.scores[rows], kind="stable")] if kind in (CLASSIFICATION, LOCALISATION) else ()
        ):
            if (number := int(whole.objects[row])) not in claimed:
                claimed.add(number)
                outcomes[row], labels[row] = 1, truth[number]
        put_right[KINDS[kind]] = whole._replace(outcomes=outcomes, classes=labels).ap50()
    put_right[KINDS[MISSED]] = _without_missed(whole, scenes, classes)
    return {kind: max(0.0, (after or 0.0) - before) for kind, after in put_right.items()}


def _without_missed(whole: Table, scenes: Sequence[Scene], classes: int) -> float:
    """AP50 when what was missed is not looked for; a class that was missed altogether then has nothing wrong."""
    missed_counts = np.array([np.bincount(scene.truth.classes[scene.missed], minlength=classes) for scene in scenes])
    left, classes_before = (
        whole._replace(positives=whole.positives - missed_counts),
        int(np.any(whole.positives, axis=0).sum()),
    )
    classes_after = int(np.any(left.positives, axis=0).sum())
    return ((left.ap50() or 0.0) * classes_after + classes_before - classes_after) / classes_before


def counts(scenes: Sequence[Scene]) -> Mapping[str, int]:
    """Return how many errors there are of each kind."""
    kinds = np.concatenate([np.zeros(0, int), *(scene.kinds for scene in scenes)])
    by_kind = {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)}
    return by_kind | {KINDS[MISSED]: int(sum(scene.missed.sum() for scene in scenes))}
