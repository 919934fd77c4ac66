"""Intake: from a source's items to validated, split images. Nothing is dropped in silence.

Every item is read and decoded once, in parallel, with memory bounded by a window of items. What reading one showed is
written down window by window, so that an interrupted preparation goes on behind the last. What cannot be used is
reported by kind with its path; what can be used but is not what it seems – rotated, animated, palette – is made
plain and reported too. Copies of one picture stay in one split, so that none is trained on and tested on.
"""

import csv
import hashlib
import io
import json
import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
from PIL.Image import Transpose
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnn_keras.data.files import durable
from cnn_keras.data.files.image_file import Picture, reason
from cnn_keras.data.image_decoding import pixels
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import additional_data
from pipelines.data.run_files import ParallelMap
from pipelines.data.source_files import files_digest as files_digest
from pipelines.data.source_files import regular_files as regular_files

WINDOW = 1024  # items in flight
SHOWN = 3  # paths of one kind that the terminal shows; problems.csv has them all
DROPPED = (
    "empty",
    "undecodable",
    "unsupported",
    "huge",
    "costly",
    "unreadable",
    "missing image",
    "broken annotation",
    "missing slices",
    "duplicate slices",
    "uneven slices",
)  # images of no use
SKIPPED = (
    "hidden",
    "not an image",
    "not a signal",
    "not a volume",
    "without a class",
    "empty class",
    "deleted frame",
    "not driven by hand",
    "not listed",
)  # what no source offers as an image
DOUBTED = ("without annotation", "size differs")  # kept, and counted as unusable: nobody knows what is in them


class Problem(NamedTuple):
    """One thing that is odd about one item."""

    kind: str
    id: str
    detail: str = ""
    taken: str = ""  # the action, where it is not of the whole image

    @property
    def action(self) -> str:
        if self.taken:
            return self.taken
        return "dropped" if self.kind in DROPPED else "skipped" if self.kind in SKIPPED else "kept"


class Readable(Protocol):
    """What is validated: an item of any source, not read yet."""

    @property
    def id(self) -> str: ...
    @property
    def read(self) -> Callable[[], Any]: ...
    @property
    def label(self) -> str: ...
    @property
    def split(self) -> str | None: ...


class Examined(NamedTuple):
    """What reading an item showed: the digest of its pixels – None where it is of no use – and what is odd.

    `size` is the height and width of an image, `turn` what made it upright, where it was not.
    """

    digest: str | None
    problems: Sequence[Problem]
    size: tuple[int, int] = (0, 0)
    turn: Transpose | None = None


def examine(
    items: Sequence[Readable],
    *,
    console: Console,
    journal: Path | None = None,
    parallel_map: ParallelMap | None = None,
) -> list[Examined]:
    """Read and decode every item, with the decoder that the exported graph has.

    Args:
        journal: a file to which what is known of each window of items is added. Items that are in it already are not
            read again, unless they were of no use: what kept them from being read may have been mended.
        parallel_map: what reads the items instead of `map_in_threads`.
    """
    examined: list[Examined] = _examined_before(items, journal) if journal and journal.is_file() else []
    sizes: dict[tuple[int, int], tuple[int, int]] = {}  # images of one size share it
    written = len(examined)
    with progress(console) as bar, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # what Pillow finds odd is told, by path, in the report
        task = bar.add_task("validating images", total=len(items), completed=written)
        for result in (parallel_map or map_in_threads)(_examined, items[written:]):
            examined.append(result._replace(size=sizes.setdefault(result.size, result.size)))
            bar.advance(task)
            if journal and (len(examined) == written + WINDOW or len(examined) == len(items)):
                durable.append(journal, _lines(items[written : len(examined)], examined[written:]))
                written = len(examined)
    return examined


def map_in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """As the built-in `map`, by as many threads as there are processors, a window of items at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(items), WINDOW):
            yield from pool.map(function, items[start : start + WINDOW])


def _lines(items: Sequence[Readable], examined: Sequence[Examined]) -> bytes:
    """A line of JSON for each item: its id and what is known of it."""
    rows = ([item.id, *result] for item, result in zip(items, examined, strict=True))
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _examined_before(items: Sequence[Readable], journal: Path) -> list[Examined]:
    """What the journal says of the first items; what a killed process left behind its last whole line is cut off."""
    examined: list[Examined] = []
    sizes: dict[tuple[int, int], tuple[int, int]] = {}
    whole = 0
    with journal.open("rb") as file:
        for item, line in zip(items, file, strict=False):
            try:
                name, digest, problems, (height, width), turn = json.loads(line)
            except ValueError:
                break
            if name != item.id or not line.endswith(b"\n"):
                break
            result = Examined(
                digest,
                tuple(Problem(*problem) for problem in problems),
                sizes.setdefault((height, width), (height, width)),
                None if turn is None else Transpose(turn),
            )
            examined.append(result if digest else _examined(item))
            whole += len(line)
    os.truncate(journal, whole)
    return examined


def duplicates(items: Sequence[Readable], examined: Sequence[Examined]) -> list[Problem]:
    """Items whose pixels equal an earlier item's; worse when the labels differ or prescribed splits share one."""

    def digest(row: int) -> str:
        return examined[row].digest or ""

    copies = []  # rows of an item and of the first that it equals
    for _, (first, *others) in groupby(sorted(filter(digest, range(len(items))), key=digest), digest):
        copies += [(row, first) for row in others]
    problems = []
    for row, first in sorted(copies):
        item, earlier = items[row], items[first]
        kind = "duplicate"
        if earlier.label != item.label:
            kind = "duplicate with another label"
        elif earlier.split != item.split and additional_data.ALSO not in (earlier.split, item.split):
            kind = "duplicate across splits"
        problems.append(Problem(kind, item.id, f"same content as {earlier.id}"))
    return problems


def report(problems: Sequence[Problem], total: int, *, path: Path, max_bad: float, console: Console) -> None:
    """Write every problem to a CSV file, show them grouped by kind, and refuse when too many images are unusable.

    Those of which nobody knows what is in them (DOUBTED) count as unusable, although they are kept.
    `total` counts all items; those that are skipped are no images and count neither as unusable nor in the whole.
    The list is kept beside the folder of `path`, too, when it refuses: a stage's unfinished folder is thrown away.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "action", "id", "detail"])
    writer.writerows([problem.kind, problem.action, problem.id, problem.detail] for problem in problems)
    durable.write_text(path, out.getvalue())
    for kind, group in group_by_kind(problems).items():
        colour = "red" if group[0].action == "dropped" else "yellow"
        console.print(f"          [{colour}]{len(group)} {kind}[/], {group[0].action}:")
        for problem in _examples(group):
            console.print(f"            {escape(problem.id)}  [dim]{escape(problem.detail)}[/]")
        if len(group) > SHOWN:
            console.print(f"            [dim]… and {len(group) - SHOWN} more, all in {path.name}[/]")
    actions = Counter(problem.action for problem in problems)
    bad = actions["dropped"] + len({problem.id for problem in problems if problem.kind in DOUBTED})
    total -= actions["skipped"]
    if bad > max_bad * total:
        folder = path.parent.with_name(path.name)
        durable.write_text(folder, out.getvalue())
        raise Fault(
            f"data.max_bad must be at least the share of unusable files, got {max_bad:.0%} and {bad} of {total} "
            f"unusable ({bad / total:.0%}). They are listed in {folder}; correct or remove them, or raise "
            "data.max_bad.",
            code=Fault.DATA,
        )


def sizes_told(sizes: Iterable[tuple[int, ...]], becoming: tuple[int, ...], fit: str, noun: str) -> str:
    """One line about the sizes that came in and what they become: "images of 32×32 become 224×224 (stretch, …)"."""
    counts = Counter(sizes)
    named = ["×".join(map(str, size)) for size, _ in counts.most_common(SHOWN)]
    if len(counts) > 1:
        common = [
            f"{name} ({counts[size]:,})" for name, size in zip(named, dict(counts.most_common(SHOWN)), strict=True)
        ]
        ends = ["×".join(map(str, size)) for size in (min(counts, key=_volume), max(counts, key=_volume))]
        more = f" and {len(counts) - SHOWN} other sizes from {ends[0]} to {ends[1]}" if len(counts) > SHOWN else ""
        named = [", ".join(common) + more]
    if set(counts) == {tuple(becoming)}:
        return f"{noun}s of {named[0]}"
    sides = "×".join(map(str, becoming))
    effect = f"are read in patches of {sides}" if fit == "patch" else f"become {sides} ({fit})"
    return f"{noun}s of {named[0]} {effect}"


def _volume(size: tuple[int, ...]) -> int:
    return math.prod(size)


def group_by_kind(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Problems by kind, the dropped kinds first, then the skipped, those of a part of an image last."""
    groups: dict[str, list[Problem]] = defaultdict(list)
    ranks = {"dropped": 0, "skipped": 1, "kept": 2}
    for problem in sorted(problems, key=lambda problem: (ranks.get(problem.action, 3), problem.kind, problem.id)):
        groups[problem.kind].append(problem)
    return groups


def _examples(group: Sequence[Problem]) -> list[Problem]:
    """The problems of a kind to show: the first of each detail, so that what differs is seen, then others."""
    places: dict[str, int] = {}
    for place, problem in enumerate(group):
        places.setdefault(problem.detail, place)
    places_shown = dict.fromkeys([*places.values()][:SHOWN] + [*range(len(group))][:SHOWN])
    return [group[place] for place in sorted([*places_shown][:SHOWN])]


def progress(console: Console) -> Progress:
    """A bar with a count and the time left, gone when it is done."""
    columns = (TextColumn("          {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def os_error_text(error: OSError) -> str:
    """The message of an error of the operating system, with the file that it is about."""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _examined(item: Readable) -> Examined:
    try:
        picture = Picture(item.read())
        image = pixels(picture.plain())
    except OSError as error:
        return Examined(None, (Problem("unreadable", item.id, os_error_text(error)),))
    except Unreadable as error:
        return Examined(None, (Problem(error.kind, item.id, str(error)),))
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        return Examined(None, (Problem("undecodable", item.id, reason(error)),))
    digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
    notes = tuple(Problem(note, item.id) for note in picture.notes)
    return Examined(digest, notes, tuple(image.shape[:2]), picture.turn)
