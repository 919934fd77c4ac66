"""Splits: which example trains, which validates, which tests."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from cnn_keras.errors import Fault

T = TypeVar("T")


def stratified(
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    fractions: dict[str, float],
    seed: int,
    fold: tuple[int, int] | None = None,
) -> np.ndarray:
    """Give every example a split: each class in its share, and all examples of one group in the same split.

    The result does not depend on the order of the examples.

    Args:
        labels: the class of each example.
        groups: the group of each example; examples that must stay together – one patient's, one scene's, copies
            of one picture: see `connected_groups` – share a group. A group counts as one, with the
            rarest of its classes.
        fractions: the share of each split besides "train", which takes the rest: {"validation": 0.1, "test": 0.2}.
            A share above 0 gets at least one group of every class, and so does what is left for "train".
        seed: of the shuffle.
        fold: (number from 1, folds) of a cross-validation: each group is in "test" in one fold, whatever its fraction.

    Returns:
        The name of each example's split.

    Raises:
        Fault: fractions that leave nothing for "train", or a class with too few groups to be in every split.
    """
    sizes = _sizes(fractions, fold)
    frequency = Counter(labels)
    classes: dict[str, list[list[int]]] = {}  # the rows of each group, by its rarest label
    for _, rows in groupby(sorted(range(len(labels)), key=groups.__getitem__), groups.__getitem__):
        members = list(rows)
        rarest = min((labels[row] for row in members), key=lambda label: (frequency[label], label))
        classes.setdefault(rarest, []).append(members)
    generator = np.random.default_rng(seed)
    splits = np.full(len(labels), "train", dtype=object)
    for label in sorted(classes):
        shuffled = generator.permutation(len(classes[label]))
        if fold:
            tested, shuffled = _divided(label, shuffled, fold)
            for index in tested:
                splits[classes[label][index]] = "test"
        start = 0
        for split, count in _counts(label, len(shuffled), sizes).items():
            for index in shuffled[start : start + count]:
                splits[classes[label][index]] = split
            start += count
    return splits


def iteratively_stratified(
    present: Sequence[Collection[str]],
    groups: Sequence[str],
    *,
    fractions: dict[str, float],
    seed: int,
    fold: tuple[int, int] | None = None,
) -> np.ndarray:
    """Give every example a split so that each label, of which an example may have several, has its share in each.

    Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", 2011: of the label that fewest of
    the examples left have, each goes where most of that label is still wanted; what has no label fills up the rest.
    The result does not depend on the order of the examples. A label that fewer groups have than there are splits is
    not in all of them.

    Differs from the paper: what is given a split is a group, which counts with all its examples.

    Args:
        present: the labels of each example, none or several.
        groups, fractions, seed, fold: as of `stratified`.

    Returns:
        The name of each example's split.

    Raises:
        Fault: fractions that leave nothing for "train", or fewer groups than splits or folds.
    """
    sizes = _sizes(fractions, fold)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    generator = np.random.default_rng(seed)
    order = [sorted(members)[place] for place in generator.permutation(len(members))]
    needed = max(len(sizes) + 1, fold[1] if fold else 1)
    if len(order) < needed:
        raise Fault(f"data must have at least {needed} images or groups that differ, got {len(order)}", code=Fault.DATA)
    names = sorted({name for labels in present for name in labels})
    numbers = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(order), len(names)))  # of each label in each group
    for place, group in enumerate(order):
        for row in members[group]:
            counts[place, [numbers[name] for name in set(present[row])]] += 1
    weights = np.array([len(members[group]) for group in order], float)
    splits = np.full(len(order), "train", dtype=object)
    free = np.arange(len(order))
    if fold:
        part = _apportioned(counts, weights, np.full(fold[1], 1 / fold[1]), generator)
        splits[part == fold[0] - 1] = "test"
        free = np.flatnonzero(part != fold[0] - 1)
    shares = np.array([1 - sum(sizes.values()), *sizes.values()])
    part = _apportioned(counts[free], weights[free], shares, generator)
    splits[free] = np.array(["train", *sizes], dtype=object)[part]
    result = np.empty(len(groups), dtype=object)
    for group, split in zip(order, splits, strict=True):
        result[members[group]] = split
    return result


def by_time(
    drives: Sequence[str], *, fractions: dict[str, float], gap: int = 0, fold: tuple[int, int] | None = None
) -> list[str | None]:
    """Give every moment of a recording a split by blocks of time: each drive's end is kept for what measures.

    Neighbouring moments are almost the same, so that a random split would test on what was trained on.

    Args:
        drives: the drive of each moment; those of one drive stand in the order of time.
        fractions: the share of each split behind "train", in the order of time: {"validation": 0.1, "test": 0.2}.
        gap: moments that are left out, None, between the blocks.
        fold: (number from 1, folds) of a cross-validation: of so many blocks of each drive, the one of this number is
            "test", whatever its fraction, and the last of the others validate.

    Raises:
        Fault: a drive that is too short to be in every split.
    """
    shares = {split: share for split, share in fractions.items() if share > 0}
    lengths = Counter(drives)
    groups_of: dict[str, list[str | None]] = {}
    for drive, length in lengths.items():
        if fold:
            groups_of[drive] = _blocks(drive, length, fold, share=shares.get("validation", 0.0), gap=gap)
            continue
        sizes = {split: max(1, round(share * length)) for split, share in shares.items()}
        first = length - sum(sizes.values()) - gap * len(sizes)
        if first < 1:
            raise Fault(
                f"a drive must have more than {length - first} frames to be in every split, got {length} in "
                f"{drive or 'the recording'}; record more, or lower data.gap",
                code=Fault.DATA,
            )
        blocks: list[str | None] = ["train"] * first
        for split, size in sizes.items():
            blocks += [None] * gap + [split] * size
        groups_of[drive] = blocks
    places: Counter[str] = Counter()
    splits = []
    for drive in drives:
        splits.append(groups_of[drive][places[drive]])
        places[drive] += 1
    return splits


def rarest_class(present: Sequence[Collection[T]], groups: Sequence[str], *, least: int) -> list[str]:
    """A label for each example to stratify by: the rarest of the classes that are in it.

    Args:
        present: the classes of each example, none or several.
        groups: as of `stratified`.
        least: examples of classes with fewer groups than this, and those without any class, all have the label "" –
            and if they themselves are of fewer groups, all examples have.
    """
    frequency = Counter(name for names in present for name in set(names))
    labels = [str(min(names, key=lambda name: (frequency[name], str(name)))) if names else "" for names in present]
    members: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        members.setdefault(label, set()).add(group)
    labels = [label if len(members[label]) >= least else "" for label in labels]
    mixed_groups = {group for label, group in zip(labels, groups, strict=True) if label == ""}
    return [""] * len(labels) if mixed_groups and len(mixed_groups) < least else labels


def connected_groups(*keys: Sequence[str | None]) -> list[str]:
    """One group for examples that share any key, directly or through others.

    `connected_groups(patients, digests)` keeps together one patient's pictures and, across patients, copies of one
    picture. Each argument holds one key per example, None for none; an example needs one key at least.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.get(key, key)) != key:
            parent[key] = parent.get(above, above)
            key = parent[key]
        return key

    def examples() -> Iterator[list[str]]:
        for row in zip(*keys, strict=True):
            yield [f"{column}:{key}" for column, key in enumerate(row) if key is not None]

    for first, *others in examples():
        for other in others:
            low, high = sorted((root(first), root(other)))
            if low != high:
                parent[high] = low
    return [root(first) for first, *_ in examples()]


def _sizes(fractions: dict[str, float], fold: tuple[int, int] | None) -> dict[str, float]:
    """The shares of the splits besides "train" that there are; a fold says itself what is tested."""
    sizes = {
        split: fraction for split, fraction in fractions.items() if fraction > 0 and not (fold and split == "test")
    }
    if sum(sizes.values()) >= 1:
        shares = " and ".join(f"data.{split}" for split in sizes)
        raise Fault(f"{shares} must be below 1 together, so that something is left to train, got {sum(sizes.values())}")
    return sizes


def _apportioned(counts: np.ndarray, weights: np.ndarray, shares: np.ndarray, generator: np.random.Generator) -> Any:
    """The part of each of N groups, int64 (N,), by iterative stratification into parts of these `shares`.

    Args:
        counts: how many examples of each label a group has, (N, labels).
        weights: how many examples it has, (N,).
    """
    wanted = shares[:, None] * counts.sum(axis=0)  # of each label in each part
    room = shares * weights.sum()
    part = np.full(len(counts), -1)
    left = counts.sum(axis=0)

    def give(group: int, label: int | None) -> None:
        choice = np.arange(len(shares))
        for desire in (wanted[:, label] if label is not None else room, room):
            choice = choice[desire[choice] >= desire[choice].max() - 1e-9]
        chosen = int(choice[0] if len(choice) == 1 else generator.choice(choice))
        part[group] = chosen
        wanted[chosen] -= counts[group]
        room[chosen] -= weights[group]
        left[:] -= counts[group]

    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in np.flatnonzero((part < 0) & (counts[:, label] > 0)):
            give(int(group), label)
    for group in np.flatnonzero(part < 0):
        give(int(group), None)
    return part


def _divided(label: str, groups: np.ndarray, fold: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The groups that a fold tests, and the others."""
    number, folds = fold
    if len(groups) < folds:
        what = f"class {label!r}" if label else "data"
        raise Fault(
            f"{what} must have at least {folds} images or groups that differ, one for each fold, got {len(groups)}; "
            "add images or lower --folds",
            code=Fault.DATA,
        )
    tested = np.arange(len(groups)) % folds == number - 1
    return groups[tested], groups[~tested]


def _blocks(drive: str, length: int, fold: tuple[int, int], *, share: float, gap: int) -> list[str | None]:
    """The split of each moment of a drive in a fold of a cross-validation."""
    number, folds = fold
    start, end = (number - 1) * length // folds, number * length // folds
    blocks: list[str | None] = ["train"] * length
    blocks[max(start - gap, 0) : end + gap] = [None] * len(blocks[max(start - gap, 0) : end + gap])
    blocks[start:end] = ["test"] * (end - start)
    free = [row for row, name in enumerate(blocks) if name == "train"]
    reserved = free[-max(1, round(share * length)) :] if share else []
    for row in reserved:
        blocks[row] = "validation"
    for row in range(max(reserved[0] - gap, 0), reserved[0]) if reserved else ():
        blocks[row] = None if blocks[row] == "train" else blocks[row]
    if "train" not in blocks or start == end:
        raise Fault(
            f"a drive must be long enough for {folds} folds, got {length} frames in {drive or 'the recording'}; record "
            "more, or lower data.gap or --folds",
            code=Fault.DATA,
        )
    return blocks


def _counts(label: str, groups: int, fractions: dict[str, float]) -> dict[str, int]:
    """How many of a class's groups go into each split, so that each, "train" too, has one."""
    if groups <= len(fractions):
        what, remedy = (
            (f"class {label!r}", "remove the class") if label else ("data", "set data.validation or data.test to 0")
        )
        raise Fault(
            f"{what} must have at least {len(fractions) + 1} images or groups that differ, one for each split, got "
            f"{groups}; add images or {remedy}",
            code=Fault.DATA,
        )
    counts = {split: max(1, round(fraction * groups)) for split, fraction in fractions.items()}
    while sum(counts.values()) >= groups:
        counts[max(counts, key=counts.__getitem__)] -= 1
    return counts
