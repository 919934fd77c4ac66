"""Further data that a recipe trains on beside its own: `data.also`.

The recipe's own examples are split as they are without it, so that runs with and without further data are tested on the
same. Further examples train; they neither validate nor test. One that is a copy of an example that validates or tests,
or is of its group, is left out.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cnn_keras.data.split import connected_groups
from pipelines.data import run_files, source_files

ALSO = "also"  # the split of further items until they are known to train

Rows = list[tuple[Any, str]]  # items and what else keeps them in one split, beside their groups
Keys = Callable[[Sequence[Any], Sequence[str]], Sequence[str]]  # of items and the digests of their content


def marked(items: Iterable[Any], number: int) -> list[Any]:
    """Items of the further path of this number, from 1, as such; their ids begin with it."""
    return [item._replace(id=f"also-{number}/{item.id}", split=ALSO) for item in items]


def joined(data: Any, load: Callable[[Any], Sequence[Any]]) -> list[Any]:
    """The items of a data section and those of its further paths; `load` gives those of one section."""
    further = [
        item
        for number, section in enumerate(source_files.sections_of_further_data(data), 1)
        for item in marked(load(section), number)
    ]
    return [*load(data), *further]


def splits(
    items: Sequence[Any],
    digests: Sequence[str],
    divide: Callable[[Rows], Sequence[str]],
    *,
    keys: Keys,
    by_label: bool = False,
) -> list[str | None]:
    """The split of each item: own ones as `divide` says, further ones train; None for those that are left out.

    Args:
        items: those that can be used.
        digests: of their content.
        keys: what keeps items in one split, such as `similar_images.split_keys` of a run.
        by_label: whether items of one label are a group, as pictures of a person are.
    """
    own = [row for row, item in enumerate(items) if item.split != ALSO]
    own_items = [items[row] for row in own]
    divided = divide(list(zip(own_items, keys(own_items, [digests[row] for row in own]), strict=True)))
    named: list[str | None] = [None] * len(items)
    for row, split in zip(own, divided, strict=True):
        named[row] = split
    if len(own) == len(items):
        return named
    shared = [[item.group for item in items], keys(items, digests)]
    groups = connected_groups(*shared, *([[item.label for item in items]] if by_label else []))
    measured = {group for group, split in zip(groups, named, strict=True) if split not in (None, "train")}
    return [
        "train" if item.split == ALSO and group not in measured else split
        for item, group, split in zip(items, groups, named, strict=True)
    ]


def facts(
    run: run_files.Run, items: Sequence[Any], splits_: Sequence[str | None], noun: str = "image"
) -> dict[str, Any]:
    """How many further examples train and how many are left out, as facts of prepare; nothing without `data.also`."""
    further = [split for item, split in zip(items, splits_, strict=True) if item.split == ALSO]
    if not further:
        return {}
    left_out = further.count(None)
    reason = f"; {left_out:,} validate or test already and are left out" if left_out else ""
    run.console.print(f"          {len(further) - left_out:,} further {noun}s train{reason}")
    return {"also": {"examples": len(further) - left_out, "left_out": left_out}}
