"""What the numbers in masks mean: every mask is read once, and a number that means nothing is told, not trained on."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console

from cnn_keras.fault import Fault
from pipelines import intake
from pipelines.intake import Examined, Problem

if TYPE_CHECKING:
    from cnn_keras.data.label_maps import Item, LabelMaps

Array = np.ndarray[Any, np.dtype[Any]]

MOST = 254  # classes: masks are written as bytes
DIFFERENT = 256  # numbers in one mask from which on it is no mask of classes
IGNORED = "pixels ignored"
DROPPED = "dropped"


class Kept(NamedTuple):
    """A picture or volume that can be used, and how many pixels of its mask have each number."""

    item: "Item"
    digest: str
    size: tuple[int, ...]
    counts: Counter[int]


class Numbering(NamedTuple):
    """The classes, and which of them each number of a mask means; any other number is of what nobody knows."""

    classes: list[str]
    numbers: dict[int, int]
    ignored: tuple[int, ...] = ()  # numbers that say so

    def strange(self, counts: Counter[int]) -> dict[int, int]:
        """The pixels of numbers that mean nothing at all."""
        known = self.numbers.keys() | set(self.ignored)
        return {number: count for number, count in counts.items() if number not in known}

    def written(self, values: Array) -> Array:
        """The numbers of a mask as they are recorded, uint8: that of the class + 1, or 0."""
        found, places = np.unique(values, return_inverse=True)
        meant = [self.numbers.get(int(value), -1) + 1 for value in found]
        recorded: Array = np.array(meant, np.uint8)[places].reshape(values.shape)
        return recorded


def counted(
    items: "Sequence[Item]", examined: Sequence[Examined], *, console: Console
) -> tuple[list[Kept], list[Problem]]:
    """Read the mask of every picture that can be used; a picture whose mask cannot is dropped."""
    kept, problems = [], [problem for found in examined for problem in found.problems]
    with ThreadPoolExecutor(os.cpu_count()) as pool, intake.progress(console) as bar:
        task = bar.add_task("reading masks", total=len(items))
        for item, found, counts in zip(items, examined, pool.map(_count, items, examined), strict=True):
            problems += [Problem(kind, item.id, detail, _action(kind)) for kind, detail in item.troubles]
            if isinstance(counts, Problem):
                problems.append(counts)
            elif found.digest is not None:
                kept.append(Kept(item, found.digest, found.size, counts))
            bar.advance(task)
    return kept, problems


def numbered(found: "LabelMaps", kept: Sequence[Kept], data: Any) -> tuple[Numbering, list[Problem]]:
    """What the numbers mean; and a problem for every picture with numbers that mean nothing.

    The recipe names them, or else the source does; where neither does, every number that is found is a class of that
    name. Numbers of one name are one class.
    """
    from cnn_keras.data.label_maps import UNKNOWN

    names = dict(found.names)
    if data.classes and data.source == "folder":
        names = data.classes if isinstance(data.classes, dict) else dict(enumerate(data.classes))
    ignored = {UNKNOWN, *found.ignored, *([] if data.ignore is None else [data.ignore])} - names.keys()
    there = {number for one in kept for number in one.counts} - {UNKNOWN}
    if not names:
        meant = there - ignored
        names = {number: str(number) for number in sorted(meant if len(meant) > 1 else there)}  # 0 and 255 alone: both
    classes = list(dict.fromkeys(names.values()))  # numbers of one name are one class
    if not 2 <= len(classes) <= MOST:
        raise Fault(
            f"{data.source} must hold masks of 2 to {MOST} classes, got {len(classes)}: "
            f"{', '.join(classes[:8]) or 'no number'}; data.classes names the numbers, data.ignore ({data.ignore}) is "
            f"none of them",
            code=Fault.DATA,
        )
    order = {value: classes.index(name) for value, name in names.items()}
    meaning = Numbering(classes, order, tuple(sorted(ignored)))
    problems = []
    for one in kept:
        if strange := meaning.strange(one.counts):
            said = ", ".join(f"{number} ({count:,} pixels)" for number, count in sorted(strange.items())[:5])
            problems.append(Problem("unknown number", one.item.id, said, IGNORED))
    return meaning, problems


def refuse_unknown(kept: Sequence[Kept], numbers: Numbering, data: Any) -> None:
    """Raise a Fault if more pixels than the recipe bears have numbers that mean nothing."""
    total = sum(one.counts.total() for one in kept)
    bad = sum(sum(numbers.strange(one.counts).values()) for one in kept)
    if bad > data.max_bad * total:
        raise Fault(
            f"data.max_bad must be at least the share of pixels whose number is of no class, got {data.max_bad:.0%} "
            f"and {bad / total:.0%}. problems.csv lists the numbers: name them in data.classes, or set data.ignore.",
            code=Fault.DATA,
        )


def pixels(members: Sequence[Kept], numbers: Numbering) -> dict[str, int]:
    """How many pixels of each class, by its name, there are."""
    found = Counter[str]()
    for one in members:
        for value, number in numbers.numbers.items():
            found[numbers.classes[number]] += one.counts[value]
    return {name: found[name] for name in numbers.classes}


def _count(item: "Item", found: Examined) -> Counter[int] | Problem:
    from cnn_keras.data.encoded import Unreadable

    if found.digest is None:
        return Counter()
    try:
        values, counts = np.unique(item.mask(found.size).values, return_counts=True)
    except OSError as error:
        return Problem("unreadable mask", item.id, f"{error.strerror or error}: {error.filename}", DROPPED)
    except Unreadable as error:
        return Problem(error.kind, item.id, str(error), DROPPED)
    if len(values) > DIFFERENT:
        said = f"{len(values):,} different numbers: it is a picture, or tells things apart instead of classes"
        return Problem("unreadable mask", item.id, said, DROPPED)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _action(kind: str) -> str:
    """What becomes of a picture, or a thing in it, of which annotations say something wrongly."""
    if kind == "without annotation":
        return "kept as background"
    return "painted as unknown" if kind in ("box without a mask", "malformed mask") else "thing dropped"
