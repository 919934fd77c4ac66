"""What the numbers in masks mean: every mask is read once, and a number that means nothing is told, not trained on."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cnn_keras.data.formats.masks import color_tables
from cnn_keras.data.label_map import UNKNOWN, Item, LabelMaps, Mask
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import validation
from pipelines.data.boxes.box_validation import TAKEN
from pipelines.data.run_files import Run
from pipelines.data.validation import Examined, Problem
from pipelines.tasks.segment.config import Data

Array = np.ndarray[Any, np.dtype[Any]]

MOST = 254  # classes: masks are written as bytes
DIFFERENT = 256  # numbers in one mask from which on it is no mask of classes
SHOWN = 6  # numbers that are told
IGNORED = "pixels ignored"
DROPPED = "dropped"


class UsablePicture(NamedTuple):
    """A picture or volume that can be used, and how many pixels of its mask have each number."""

    item: Item
    digest: str
    size: tuple[int, ...]
    counts: Counter[int]
    notes: tuple[tuple[str, str], ...] = ()  # kind and detail of what is odd about the mask


class Numbering(NamedTuple):
    """The classes, and which of them each number of a mask means; any other number is of what nobody knows."""

    classes: list[str]
    numbers: dict[int, int]
    ignored: tuple[int, ...] = ()  # numbers that say so
    doubtful: tuple[int, ...] = ()  # those of them that the recipe alone calls so, and that count as unusable
    remark: str = ""  # how the numbers were understood, where nothing names them

    def strange(self, counts: Counter[int]) -> dict[int, int]:
        """The pixels of numbers that mean nothing at all."""
        known = self.numbers.keys() | set(self.ignored)
        return {number: count for number, count in counts.items() if number not in known}

    def written(self, values: Array) -> Array:
        """The numbers of a mask as they are recorded, uint8: that of the class + 1, or 0."""
        distinct, places = np.unique(values, return_inverse=True)
        positions = [self.numbers.get(int(value), -1) + 1 for value in distinct]
        recorded: Array = np.array(positions, np.uint8)[places].reshape(values.shape)
        return recorded


def count_labels(
    items: Sequence[Item], examined: Sequence[Examined], run: Run
) -> tuple[list[UsablePicture], list[Problem]]:
    """Read the mask of every picture that can be used; a picture whose mask cannot is dropped."""
    usable, problems = [], [problem for result in examined for problem in result.problems]
    rows = list(zip(items, examined, strict=True))
    with validation.progress(run.console) as bar:
        task = bar.add_task("reading masks", total=len(items))
        counted = (run.parallel_map or validation.map_in_threads)(_count, rows)
        for (item, result), counts in zip(rows, counted, strict=True):
            problems += [Problem(kind, item.id, detail, _action(kind)) for kind, detail in item.troubles]
            if isinstance(counts, Problem):
                problems.append(counts)
            elif result.digest is not None:
                usable.append(UsablePicture(item, result.digest, result.size, *counts))
                problems += [Problem(kind, item.id, detail) for kind, detail in usable[-1].notes]
            bar.advance(task)
    return usable, problems


def map_labels(
    maps: LabelMaps, pictures: Sequence[UsablePicture], data: Data, known: Sequence[str] | None = None
) -> tuple[Numbering, list[Problem]]:
    """The class of each number; and a problem for every picture with numbers that have none.

    The recipe names them, or else the source does; where neither does, every number that is found is a class of that
    name. Numbers of one name are one class. Where masks hold two numbers and a list names two classes, such as 0 and
    255, they are those classes. Where `known` says which classes there are, in their order, others are of none.
    """
    names = dict(maps.names)
    if data.classes and data.source == "folder":
        names = data.classes if isinstance(data.classes, dict) else dict(enumerate(data.classes))
    counts = sum((picture.counts for picture in pictures), Counter[int]())
    if maps.assumed and not data.classes:
        names = {number: name for number, name in names.items() if number in counts}
    there = sorted(counts.keys() - {UNKNOWN, *maps.ignored})
    remark = ""
    if sorted(names) == [0, 1] and not isinstance(data.classes, dict) and len(there) == 2 and set(there) != {0, 1}:
        names = dict(zip(there, names.values(), strict=True))
        remark = "masks hold two numbers: " + ", ".join(
            f"{number_text(number)} is {name}" for number, name in names.items()
        )
    doubtful = (set() if data.ignore is None else {data.ignore}) - {*names, *maps.ignored}
    ignored = {UNKNOWN, *maps.ignored, *doubtful} - names.keys()
    if not names:
        class_numbers = [number for number in there if number not in ignored]
        names = {
            number: number_text(number) for number in (class_numbers if len(class_numbers) > 1 else there)
        }  # 0 and 255 alone: both
        doubtful -= names.keys()
        _refuse_shades(counts, doubtful, names)
    classes = list(known or dict.fromkeys(names.values()))  # numbers of one name are one class
    names = {number: name for number, name in names.items() if name in classes}
    if not 2 <= len(classes) <= MOST:
        raise Fault(
            f"{data.source} must contain masks of 2 to {MOST} classes, got {len(classes)}: "
            f"{', '.join(classes[:8]) or 'no number'}; data.classes names the numbers, data.ignore ({data.ignore}) is "
            f"none of them",
            code=Fault.DATA,
        )
    order = {value: classes.index(name) for value, name in names.items()}
    numbering = Numbering(classes, order, tuple(sorted(ignored - names.keys())), tuple(doubtful), remark)
    problems = []
    for picture in pictures:
        if strange := numbering.strange(picture.counts):
            strange_text = ", ".join(
                f"{number_text(number)} ({count:,} pixels)" for number, count in sorted(strange.items())[:5]
            )
            problems.append(Problem("unknown number", picture.item.id, strange_text, IGNORED))
    return numbering, problems


def join(
    numbers: Numbering, maps: LabelMaps, pictures: Sequence[UsablePicture], data: Data
) -> tuple[Numbering, list[UsablePicture], list[Problem]]:
    """Further pictures, whose masks have numbers of their own, with the numbers of before.

    Classes are the same where their names are; others become classes of their own, unless the recipe names all there
    are. Where nothing names the numbers they mean what they did before.

    Args:
        data: the section of the further pictures.

    Returns:
        The numbering with the new classes, the pictures, and what is odd about them.
    """
    if not maps.names:
        return numbers, list(pictures), []
    own, problems = map_labels(maps._replace(assumed=False), pictures, data.model_copy(update={"classes": None}))
    number_of = {place: number for number, place in reversed(numbers.numbers.items())}
    classes, all_numbers, table = list(numbers.classes), dict(numbers.numbers), {}
    counts = sum((picture.counts for picture in pictures), Counter[int]())
    for number, place in own.numbers.items():
        if maps.assumed and number not in counts:
            continue
        name = own.classes[place]
        if name not in classes and not data.classes:
            classes.append(name)
        if name in classes:
            at = classes.index(name)
            table[number] = number_of.setdefault(at, max([*all_numbers, DIFFERENT]) + 1)
            all_numbers[table[number]] = at
    renumbered = [
        picture._replace(
            item=picture.item._replace(mask=partial(_renumbered, picture.item.mask, table)),
            counts=_counts(picture.counts, table),
        )
        for picture in pictures
    ]
    return numbers._replace(classes=classes, numbers=all_numbers), renumbered, problems


def _renumbered(mask: Callable[[tuple[int, ...]], Mask], table: Mapping[int, int], size: tuple[int, ...]) -> Mask:
    """A mask with other numbers; what is not in the table nobody knows."""
    read = mask(size)
    scan = read.scan and read.scan._replace(values=_replaced(read.scan.values, table))
    return read._replace(values=_replaced(read.values, table), scan=scan)


def _replaced(values: Array, table: Mapping[int, int]) -> Array:
    distinct, places = np.unique(values, return_inverse=True)
    replaced: Array = np.array([table.get(int(value), UNKNOWN) for value in distinct], np.int32)[places]
    return replaced.reshape(values.shape)


def _counts(counts: Counter[int], table: Mapping[int, int]) -> Counter[int]:
    replaced = Counter[int]()
    for number, count in counts.items():
        replaced[table.get(number, UNKNOWN)] += count
    return replaced


def refuse_unknown(pictures: Sequence[UsablePicture], numbers: Numbering, data: Data) -> None:
    """Raise a Fault if more pixels than the recipe bears have numbers that mean nothing, or that of `data.ignore`."""
    counts = sum((picture.counts for picture in pictures), Counter[int]())
    bad = numbers.strange(counts) | {number: counts[number] for number in numbers.doubtful if counts[number]}
    if sum(bad.values()) > data.max_bad * counts.total():
        raise Fault(
            f"data.max_bad must be at least the share of pixels whose number has no class, got {data.max_bad:.0%}"
            f" and {sum(bad.values()) / counts.total():.0%}: {shares(bad, counts.total())}; masks hold "
            f"{shares(counts, counts.total())}. problems.csv lists the masks. Mend them, name them in data.classes, "
            f"such as {{{_example(counts)}}}, or set data.ignore or data.max_bad.",
            code=Fault.DATA,
        )


def refuse_a_single_class(members: Sequence[UsablePicture], numbers: Numbering) -> None:
    """Raise a Fault if what trains shows one class alone: a model of it would never have seen the others."""
    counts = sum((picture.counts for picture in members), Counter[int]())
    classes_there = [name for name, count in pixels(members, numbers).items() if count]
    if len(classes_there) < 2:
        raise Fault(
            f"masks that train must show two classes or more of {', '.join(numbers.classes[:8])}, got "
            f"{', '.join(classes_there) or 'none'} alone; they hold {shares(counts, counts.total())}. Name these "
            f"numbers in data.classes, such as {{{_example(counts)}}}",
            code=Fault.DATA,
        )


def ignored_told(members: Sequence[UsablePicture], numbers: Numbering) -> str:
    """The shares of pixels that nobody judges, by number; "" where there are none."""
    counts = sum((picture.counts for picture in members), Counter[int]())
    return shares({number: counts[number] for number in counts if number not in numbers.numbers}, counts.total())


def shares(counts: Mapping[int, int], total: int) -> str:
    """Numbers and the shares of pixels that have them, the commonest first: "0 81.2%, 255 18.8%"."""
    common = sorted(counts, key=lambda number: -counts[number])
    common_text = ", ".join(f"{number_text(number)} {counts[number] / max(total, 1):.1%}" for number in common[:SHOWN])
    return common_text + (f" and {len(common) - SHOWN} more numbers" if len(common) > SHOWN else "")


def number_text(number: int) -> str:
    """A number of a mask for messages: "7", "#400080" of a colour, "unknown" of unlabelled pixels."""
    return "unknown" if number < 0 else color_tables.format_number(number)


def _example(counts: Counter[int]) -> str:
    first, second, *_ = [*sorted(number for number, _ in counts.most_common(2) if number >= 0), 0, 1]
    quoted = [f"'{name}'" if (name := number_text(number)).startswith("#") else name for number in (first, second)]
    return f"{quoted[0]}: background, {quoted[1]}: object"


def _refuse_shades(counts: Counter[int], doubtful: set[int], names: dict[int, str]) -> None:
    """Raise a Fault for masks of 0 and 255 whose borders are shades of grey: 255 is the thing, and no void."""
    void = sum(counts[number] for number in doubtful)
    between = [number for number in names if number]
    if void > sum(counts[number] for number in between) and between != list(range(1, len(between) + 1)):
        raise Fault(
            f"masks must hold a number for each class, got {shares(counts, counts.total())}, which looks like 0 and "
            f"{', '.join(map(str, doubtful))} with shades between them. Name the classes, such as "
            f"data.classes={{{_example(counts)}}}; other numbers are then of no class",
            code=Fault.DATA,
        )


def pixels(members: Sequence[UsablePicture], numbers: Numbering) -> dict[str, int]:
    """How many pixels of each class, by its name, there are."""
    totals = Counter[str]()
    for picture in members:
        for value, number in numbers.numbers.items():
            totals[numbers.classes[number]] += picture.counts[value]
    return {name: totals[name] for name in numbers.classes}


def _count(row: tuple[Item, Examined]) -> tuple[Counter[int], tuple[tuple[str, str], ...]] | Problem:
    item, result = row
    if result.digest is None:
        return Counter(), ()
    try:
        mask = item.mask(result.size)
        values, counts = np.unique(mask.values, return_counts=True)
    except OSError as error:
        return Problem("unreadable mask", item.id, validation.os_error_text(error), DROPPED)
    except Unreadable as error:
        return Problem(error.kind, item.id, str(error), DROPPED)
    if len(values) > DIFFERENT:
        problem = f"{len(values):,} different numbers: it is an image, or distinguishes objects instead of classes"
        return Problem("unreadable mask", item.id, problem, DROPPED)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))), mask.notes


def _action(kind: str) -> str:
    """What becomes of a picture, or a thing in it, of which annotations say something wrongly."""
    if kind in TAKEN:
        return TAKEN[kind]
    return "painted as unknown" if kind in ("box without a mask", "malformed mask") else "thing dropped"
