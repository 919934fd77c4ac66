"""Lesions against a slow reading of their definition, and against counts that are known by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, poisson

from cnn_keras.metrics import lesions


def slow_parts(mask):
    """The connected parts of a mask, each a set of places, found by walking from voxel to neighbouring voxel."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    steps = list(itertools.product((-1, 0, 1), repeat=mask.ndim))
    parts = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            place = edge.pop()
            part.add(place)
            near = {tuple(a + b for a, b in zip(place, step, strict=True)) for step in steps} & left
            left -= near
            edge += near
        parts.append(part)
    return parts


def slow_counts(truth, answer, overlap):
    claimed = slow_parts(answer)
    found, dice, right = 0, 0.0, set()
    true = slow_parts(truth)
    for lesion in true:
        touching = [number for number, part in enumerate(claimed) if part & lesion]
        together = set().union(*(claimed[number] for number in touching))
        if touching and len(lesion & together) / len(lesion | together) >= overlap:
            found += 1
            dice += 2 * len(lesion & together) / (len(lesion) + len(together))
            right |= set(touching)
    return [len(true), found, len(claimed) - len(right), dice]


@pytest.mark.parametrize("shape", [(30, 40), (12, 14, 10)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_counts_are_their_definition(shape, overlap):
    drawn = np.random.default_rng(0)
    for share in (0.03, 0.1):
        truth = drawn.random(shape) < share
        answer = np.where(drawn.random(shape) < 0.7, truth, drawn.random(shape) < share)
        found = lesions.counts(truth, answer, overlap=overlap)
        np.testing.assert_allclose(found, slow_counts(truth, answer, overlap))
        assert 0 < found[1] < found[0]
        assert found[2] > 0


def test_a_missed_a_found_and_a_false_one():
    truth, answer = np.zeros((2, 20, 20, 20), bool)
    truth[1:3, 1:3, 1:3] = True  # found, half of it
    truth[10:12, 10:12, 10:12] = truth[12, 12, 12] = True  # one lesion of 9 voxels, over a corner; missed
    answer[1:3, 1:3, 1] = True
    answer[17, 17, 17] = answer[17, 2, 17] = True
    counts = lesions.counts(truth, answer)
    assert counts.tolist() == [2, 1, 2, 2 * 4 / (8 + 4)]
    assert lesions.scores(counts, 1) == pytest.approx((1 / 2, 2, 2 / 5, (2 / 3) / 4))
    assert lesions.counts(truth, answer, overlap=0.6).tolist() == [2, 0, 3, 0]


def test_two_lesions_that_one_part_covers_are_both_found():
    truth, answer = np.zeros((2, 9, 9), bool)
    truth[1, 1:3] = truth[1, 5:8] = answer[1] = True
    counts = lesions.counts(truth, answer)
    assert counts.tolist() == pytest.approx([2, 2, 0, 2 * 2 / (2 + 9) + 2 * 3 / (3 + 9)])


def test_scans_without_lesions_count_what_is_claimed_in_them():
    nothing, something = np.zeros((8, 8), bool), np.eye(8, dtype=bool)
    assert lesions.counts(nothing, nothing).tolist() == [0, 0, 0, 0]
    assert lesions.counts(nothing, something).tolist() == [0, 0, 1, 0]
    assert lesions.counts(something, nothing).tolist() == [1, 0, 0, 0]
    none = lesions.scores([0, 0, 0, 0], 3)
    assert none.false_positives == 0
    assert np.isnan([none.sensitivity, none.f1, none.dice]).all()


def test_intervals_are_wilsons_and_poissons():
    between = lesions.intervals([40, 31, 6, 20.0], 4)
    np.testing.assert_allclose(between["sensitivity"], binomtest(31, 40).proportion_ci(0.95, "wilson"), rtol=1e-4)
    low, high = (4 * end for end in between["false_positives"])
    assert poisson.sf(5, low) == pytest.approx(0.025)  # 6 or more
    assert poisson.cdf(6, high) == pytest.approx(0.025)
    low, high = binomtest(31, 46).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(between["f1"], [2 * low / (1 + low), 2 * high / (1 + high)], rtol=1e-4)
    assert between["f1"][0] < lesions.scores([40, 31, 6, 20.0], 4).f1 < between["f1"][1]
    assert lesions.intervals([0, 0, 0, 0], 2)["false_positives"] == pytest.approx((0, 3.689 / 2), abs=1e-3)
