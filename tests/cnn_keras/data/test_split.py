"""Splits: every class everywhere, groups whole, shares kept, nothing left to chance but the seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnn_keras.data.split import by_time, connected_groups, iteratively_stratified, stratified
from cnn_keras.errors import Fault

FRACTIONS = {"validation": 0.1, "test": 0.2}
SHARES = st.fixed_dictionaries({"validation": st.floats(0, 0.6), "test": st.floats(0, 0.6)})


@st.composite
def labelled_groups(draw):
    """Labels and groups of 1 to 4 examples, at least three groups of each class."""
    labels, groups = [], []
    for label in draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True)):
        for number, size in enumerate(draw(st.lists(st.integers(1, 4), min_size=3, max_size=30))):
            labels += [label] * size
            groups += [f"{label}{number}"] * size
    return labels, groups


@given(labelled_groups(), SHARES, st.integers(0, 9))
def test_every_class_is_in_every_split_in_its_share_and_groups_stay_whole(examples, fractions, seed):
    assume(sum(fractions.values()) < 1)
    labels, groups = examples
    splits = stratified(labels, groups, fractions=fractions, seed=seed)
    assert len(splits) == len(labels)
    wanted = {split: fraction for split, fraction in fractions.items() if fraction > 0}
    assert set(splits) == {"train", *wanted}
    assert {(label, split) for label in labels for split in set(splits)} == set(zip(labels, splits, strict=True))
    of_group = dict(zip(groups, splits, strict=True))
    assert [of_group[group] for group in groups] == list(splits)
    for label in set(labels):
        found = Counter(split for group, split in of_group.items() if group.startswith(label))
        for split, fraction in wanted.items():
            # to the nearest group, unless the smallest class must give one to each
            assert abs(found[split] - fraction * found.total()) <= 1 or found["train"] == 1


@given(labelled_groups(), st.randoms(use_true_random=False))
def test_the_order_of_the_examples_does_not_matter(examples, random):
    labels, groups = examples
    order = list(range(len(labels)))
    random.shuffle(order)
    splits = stratified(labels, groups, fractions=FRACTIONS, seed=1)
    shuffled = stratified([labels[i] for i in order], [groups[i] for i in order], fractions=FRACTIONS, seed=1)
    assert list(shuffled) == [splits[i] for i in order]


def test_the_seed_decides():
    labels, groups = ["a"] * 100, [str(row) for row in range(100)]
    first, same, other = (stratified(labels, groups, fractions=FRACTIONS, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_a_hundred_examples_are_split_70_10_20():
    splits = stratified(["a"] * 100, [str(row) for row in range(100)], fractions=FRACTIONS, seed=0)
    assert Counter(splits) == {"train": 70, "validation": 10, "test": 20}


def test_a_share_of_zero_makes_no_split():
    assert set(stratified(["a", "b"], ["1", "2"], fractions={"validation": 0, "test": 0}, seed=0)) == {"train"}


def test_a_group_of_two_classes_counts_with_the_rarer_one():
    labels = ["common"] * 30 + ["common", "rare"] * 3
    groups = [str(row) for row in range(30)] + [f"mixed{row // 2}" for row in range(6)]
    splits = stratified(labels, groups, fractions=FRACTIONS, seed=0)
    assert {split for label, split in zip(labels, splits, strict=True) if label == "rare"} == {"train", *FRACTIONS}


def test_a_class_with_too_few_groups_is_named():
    with pytest.raises(
        Fault, match=r"class 'b' must have at least 3 .* got 2; add images or remove the class"
    ) as fault:
        stratified(["a"] * 9 + ["b"] * 9, [*"123456789", *"xxxxxxxxy"], fractions=FRACTIONS, seed=0)
    assert fault.value.code == Fault.DATA


def test_shares_that_leave_nothing_to_train_are_refused():
    with pytest.raises(Fault, match=r"data.validation and data.test must be below 1 together.* got 1.0"):
        stratified(["a"] * 9, list("123456789"), fractions={"validation": 0.5, "test": 0.5}, seed=0)


def test_large_shares_of_a_small_class_leave_one_to_train():
    splits = stratified(["a"] * 4, list("1234"), fractions={"validation": 0.45, "test": 0.5}, seed=0)
    assert Counter(splits)["train"] == 1


def test_examples_that_share_any_key_are_linked():
    patients = ["p1", "p1", "p2", "p3", None, None]
    digests = ["x", "y", "y", "z", "z", "w"]
    groups = connected_groups(patients, digests)
    assert groups[0] == groups[1] == groups[2]  # p1 and p2 share the picture y
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1), st.randoms())
def test_linked_groups_are_the_connected_components_in_any_order(keys, random):
    pairs = list(keys)
    random.shuffle(pairs)
    found = dict(zip(pairs, connected_groups(*zip(*pairs, strict=True)), strict=True))
    assert [found[pair] for pair in keys] == connected_groups(*zip(*keys, strict=True))
    for (first, second), group in found.items():
        same = {pair for pair, other in found.items() if other == group}
        touching = {pair for pair in found if pair[0] == first or pair[1] == second}
        assert touching <= same


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_test_every_group_once_and_each_class_in_every_fold(folds):
    labels, groups = ["a"] * 12 + ["b"] * 7, [str(row // 2) for row in range(12)] + [f"b{row}" for row in range(7)]
    found = [
        stratified(labels, groups, fractions={"validation": 0.2, "test": 0.9}, seed=3, fold=(number, folds))
        for number in range(1, folds + 1)
    ]
    assert [sum(splits[row] == "test" for splits in found) for row in range(len(labels))] == [1] * len(labels)
    for splits in found:
        assert {(label, str(split)) for label, split in zip(labels, splits, strict=True)} == {
            (label, split) for label in "ab" for split in ("train", "validation", "test")
        }
        assert all(
            len({splits[row] for row in pair}) == 1 for pair in zip(range(0, 12, 2), range(1, 12, 2), strict=True)
        )


def test_a_class_of_fewer_groups_than_folds_is_refused():
    with pytest.raises(Fault, match="class 'b' must have at least 3"):
        stratified(["a"] * 9 + ["b"] * 2, list("123456789ab"), fractions={}, seed=0, fold=(1, 3))


def test_folds_of_drives_are_blocks_of_time_apart_from_what_trains():
    drives = ["a"] * 40 + ["b"] * 25
    found = [
        by_time(drives, fractions={"validation": 0.1, "test": 0.9}, gap=2, fold=(number, 4)) for number in (1, 2, 3, 4)
    ]
    assert [sum(splits[row] == "test" for splits in found) for row in range(len(drives))] == [1] * len(drives)
    for splits in found:
        assert {"train", "validation", "test"} <= set(splits[:40])
        for row in range(39):
            near = set(splits[max(row - 1, 0) : row + 2]) - {None}
            assert len(near) < 2 or splits[row] is None, splits


def test_a_drive_too_short_for_its_folds_is_refused():
    with pytest.raises(Fault, match="long enough for 5 folds"):
        by_time(["a"] * 6, fractions={"validation": 0.2}, gap=3, fold=(1, 5))


@pytest.mark.parametrize("size", [1, 3])
def test_iterative_stratification_gives_each_label_its_share_and_keeps_groups_whole(size):
    generator = np.random.default_rng(size)
    present = [tuple(np.array(list("abcd"))[row]) for row in generator.random((200, 4)) < [0.5, 0.3, 0.15, 0.1]]
    groups = [f"g{row // size}" for row in range(200)]
    splits = iteratively_stratified(present, groups, fractions=FRACTIONS, seed=0)
    of_group = dict(zip(groups, splits, strict=True))
    assert [of_group[group] for group in groups] == list(splits)
    for label in "abcd":
        rows = [row for row, labels in enumerate(present) if label in labels]
        for split, share in {"train": 0.7, **FRACTIONS}.items():
            count = sum(splits[row] == split for row in rows)
            assert abs(count - share * len(rows)) <= 3, (label, split, count, len(rows))


def test_iterative_stratification_keeps_shares_better_than_chance():
    generator = np.random.default_rng(0)
    present = [tuple(np.flatnonzero(row).astype(str)) for row in generator.random((500, 12)) < 0.06]
    groups = [str(row) for row in range(500)]

    def deviation(splits):
        counts = [
            (
                sum(str(label) in labels for labels in present),
                sum(str(label) in labels for labels, split in zip(present, splits, strict=True) if split == "test"),
            )
            for label in range(12)
        ]
        return sum(abs(tested - 0.2 * total) for total, tested in counts)

    chance = [deviation(np.where(generator.random(500) < 0.2, "test", "train")) for _ in range(20)]
    assert deviation(iteratively_stratified(present, groups, fractions=FRACTIONS, seed=0)) < min(chance)


def test_iterative_stratification_does_not_depend_on_the_order_and_folds_test_everything_once():
    generator = np.random.default_rng(1)
    present = [tuple(np.flatnonzero(row).astype(str)) for row in generator.random((90, 5)) < 0.3]
    groups = [f"{row:02d}" for row in range(90)]
    order = generator.permutation(90)
    plain = iteratively_stratified(present, groups, fractions=FRACTIONS, seed=3)
    mixed = iteratively_stratified([present[k] for k in order], [groups[k] for k in order], fractions=FRACTIONS, seed=3)
    assert list(plain[order]) == list(mixed)
    folds = [iteratively_stratified(present, groups, fractions=FRACTIONS, seed=3, fold=(n, 3)) for n in (1, 2, 3)]
    assert [sum(column == "test") for column in np.array(folds).T] == [1] * 90
    assert all(set(fold) == {"train", "validation", "test"} for fold in folds)


def test_iterative_stratification_needs_a_group_for_each_split():
    with pytest.raises(Fault):
        iteratively_stratified([("a",)] * 5, ["same"] * 5, fractions=FRACTIONS, seed=0)
