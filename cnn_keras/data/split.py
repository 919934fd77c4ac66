"""Splits: which example trains, which validates, which tests."""

from collections.abc import Sequence

import numpy as np

from cnn_keras.fault import Fault


def stratified(labels: Sequence[str], groups: Sequence[str], *, fractions: dict[str, float], seed: int) -> np.ndarray:
    """Give every example a split: each class in its share, and all examples of one group in the same split.

    Args:
        labels: the class of each example.
        groups: the group of each example; examples that must stay together – one patient's, one scene's, copies
            of one picture – share a group. A group counts with the class of its first example.
        fractions: the share of each split besides "train", which takes the rest: {"validation": 0.1, "test": 0.2}.
            A share above 0 gets at least one group of every class.
        seed: of the shuffle.

    Returns:
        The name of each example's split.

    Raises:
        Fault: a class with too few groups to have one in every split.
    """
    wanted = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    classes: dict[str, list[str]] = {}
    for group, rows in members.items():
        classes.setdefault(labels[rows[0]], []).append(group)
    generator = np.random.default_rng(seed)
    splits = np.full(len(labels), "train", dtype=object)
    for label in sorted(classes):
        shuffled = [classes[label][index] for index in generator.permutation(len(classes[label]))]
        if len(shuffled) <= len(wanted):
            raise Fault(
                f"class {label!r} must have at least {len(wanted) + 1} images that differ, one for each split, "
                f"got {len(shuffled)}; add images or remove the class",
                code=Fault.DATA,
            )
        counts = {split: max(1, round(fraction * len(shuffled))) for split, fraction in wanted.items()}
        start = 0
        for split, count in counts.items():
            for group in shuffled[start : start + count]:
                splits[members[group]] = split
            start += count
    return splits
