"""Splits: which example trains, which validates, which tests."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cnn_keras.fault import Fault


def stratified(labels: Sequence[str], groups: Sequence[str], *, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Give every example a split: each class in its share, and all examples of one group in the same split.

    The result does not depend on the order of the examples.

    Args:
        labels: the class of each example.
        groups: the group of each example; examples that must stay together – one patient's, one scene's, copies
            of one picture: see `linked` – share a group. A group counts as one, with the rarest of its classes.
        fractions: the share of each split besides "train", which takes the rest: {"validation": 0.1, "test": 0.2}.
            A share above 0 gets at least one group of every class, and so does what is left for "train".
        seed: of the shuffle.

    Returns:
        The name of each example's split.

    Raises:
        Fault: fractions that leave nothing for "train", or a class with too few groups to be in every split.
    """
    wanted = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    if sum(wanted.values()) >= 1:
        shares = " and ".join(f"data.{split}" for split in wanted)
        raise Fault(
            f"{shares} must be below 1 together, so that something is left to train, got {sum(wanted.values())}"
        )
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    frequency = Counter(labels)
    classes: dict[str, list[str]] = {}
    for group in sorted(members):
        rarest = min((labels[row] for row in members[group]), key=lambda label: (frequency[label], label))
        classes.setdefault(rarest, []).append(group)
    generator = np.random.default_rng(seed)
    splits = np.full(len(labels), "train", dtype=object)
    for label in sorted(classes):
        shuffled = generator.permutation(len(classes[label]))
        start = 0
        for split, count in _counts(label, len(shuffled), wanted).items():
            for index in shuffled[start : start + count]:
                splits[members[classes[label][index]]] = split
            start += count
    return splits


def linked(*keys: Sequence[str | None]) -> list[str]:
    """One group for examples that share any key, directly or through others.

    `linked(patients, digests)` keeps together one patient's pictures and, across patients, copies of one picture.
    Each argument holds one key per example, None for none; an example needs one key at least.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    examples = [
        [f"{column}:{key}" for column, key in enumerate(given) if key is not None] for given in zip(*keys, strict=True)
    ]
    for first, *others in examples:
        for other in others:
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return [root(example[0]) for example in examples]


def _counts(label: str, groups: int, fractions: dict[str, float]) -> dict[str, int]:
    """How many of a class's groups go into each split, so that each, "train" too, has one."""
    if groups <= len(fractions):
        raise Fault(
            f"class {label!r} must have at least {len(fractions) + 1} images or groups that differ, one for each "
            f"split, got {groups}; add images or remove the class",
            code=Fault.DATA,
        )
    counts = {split: max(1, round(fraction * groups)) for split, fraction in fractions.items()}
    while sum(counts.values()) >= groups:
        counts[max(counts, key=counts.__getitem__)] -= 1
    return counts
