"""What `evaluate` writes about lesions: how many are found, and how many are claimed where there is none.

Intervals are bootstrapped over pictures or, where these are few, computed as if lesions were independent of each other.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from cnn_keras.errors import Fault
from cnn_keras.metrics import lesions
from pipelines.tasks.segment.config import Lesions
from pipelines.tasks.segment.tally import FEW, Array, Tally, draws, interval

FIGURES = ("sensitivity", "false_positives", "f1", "dice")
MISSING = {f"lesion_{name}": "evaluate.lesions is not set, or there are no lesions" for name in FIGURES}


def numbers(settings: Lesions, names: Sequence[str]) -> list[int]:
    """The numbers of the classes whose lesions are counted.

    Raises:
        Fault: one is no class of the data.
    """
    wanted = settings.classes or tuple(names[1:])
    if unknown := [name for name in wanted if name not in names]:
        raise Fault(f"evaluate.lesions.classes must be of {', '.join(names)}, got {', '.join(unknown)}")
    return [names.index(name) for name in wanted]


def summarize(counted: Tally, names: Sequence[str]) -> dict[str, Any]:
    """What the report says of lesions; nothing where none are counted.

    Returns:
        lesion_sensitivity, lesion_false_positives (for each picture), lesion_f1 and lesion_dice of all these classes
        together; `lesions`: a row for each class, with intervals; lesion_interval: what they are.
    """
    if not counted.lesions:
        return {}
    pictures = len(counted.pictures)
    pooled = lesions.scores(sum(counts.sum(axis=0) for counts in counted.lesions.values()), pictures)
    return {
        **{f"lesion_{name}": _number(value) for name, value in pooled._asdict().items()},
        "lesion_interval": f"over {pictures} pictures" if pictures >= FEW else "as if lesions were independent",
        "lesions": [_row(names[number], counts) for number, counts in counted.lesions.items()],
    }


def say(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a line for each class whose lesions are counted."""
    for line in lines(summary):
        console.print(f"          {escape(line)}", highlight=False)
    if "lesions" in summary:
        console.print(f"          [dim]95 % intervals of lesions {summary['lesion_interval']}[/]")


def lines(summary: Mapping[str, Any]) -> list[str]:
    """A sentence for each class whose lesions are counted."""
    return [
        f"{row['name']}: {row['found']:,} of {row['lesions']:,} lesions found, "
        f"{_with_interval(row, 'sensitivity', '.1%')}; {_with_interval(row, 'false_positives', '.2f')} false positives "
        f"for each of {summary['pictures']:,}; F1 {_with_interval(row, 'f1', '.3f')}, "
        f"Dice {'–' if row['dice'] is None else format(row['dice'], '.3f')}"
        for row in summary.get("lesions", [])
    ]


def _with_interval(row: Mapping[str, Any], name: str, form: str) -> str:
    """A figure and its interval, such as "50.0% (15.0% to 85.0%)"; a dash where there is none."""
    if row[name] is None:
        return "–"
    low, high = (format(end, form) for end in row[f"{name}_interval"])
    return f"{row[name]:{form}} ({low} to {high})"


def _row(name: str, counts: Array) -> dict[str, Any]:
    """The figures of a class, of the counts of each picture."""
    pictures, total = len(counts), counts.sum(axis=0)
    figures = lesions.scores(total, pictures)
    between: dict[str, Any] = {key: list(ends) for key, ends in lesions.intervals(total, pictures).items()}
    if pictures >= FEW:
        samples = np.array([lesions.scores(sample, pictures) for sample in draws(pictures) @ counts])
        between = dict(zip(FIGURES, map(interval, samples.T), strict=True))
    return {
        "name": name,
        "lesions": int(total[0]),
        "found": int(total[1]),
        "claimed_falsely": int(total[2]),
        **{key: _number(value) for key, value in figures._asdict().items()},
        **{f"{key}_interval": ends for key, ends in between.items()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
