"""Whether two samples differ: against published examples."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2

from cnn_keras.metrics.classification import wilson_interval
from cnn_keras.metrics.two_samples import counts_test, difference_interval, mmd_test


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe (1998), table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_of_shares_is_newcombes(first, second, low, high):
    shares = [right / of for right, of in (first, second)]
    found = difference_interval(shares[0], wilson_interval(*first), shares[1], wilson_interval(*second))
    assert found == pytest.approx((low, high), abs=5e-5)


def test_the_interval_of_symmetric_ones_is_that_of_their_variances():
    low, high = difference_interval(5.0, (2.0, 8.0), 1.0, (-3.0, 5.0))
    assert (low, high) == pytest.approx((-1.0, 9.0))  # 4 ± √(3² + 4²)


def test_a_figure_outside_its_interval_counts_as_its_end():
    assert difference_interval(1.0, (0.2, 0.9), 0.0, (0.0, 0.0)) == pytest.approx((0.2, 1.0))
    assert np.diff(difference_interval(0.5, (0.5, 0.5), 0.5, (0.5, 0.5))) == 0


def test_the_discrepancy_is_that_of_its_definition():
    first, second = np.array([[0.0], [1.0]]), np.array([[3.0], [5.0], [9.0]])
    squares = [(a - b) ** 2 for a, b in itertools.combinations([0, 1, 3, 5, 9], 2)]

    def kernel(a, b):
        return np.mean([[np.exp(-((x - y) ** 2) / np.median(squares)) for y in b] for x in a])

    expected = kernel([0, 1], [0, 1]) + kernel([3, 5, 9], [3, 5, 9]) - 2 * kernel([0, 1], [3, 5, 9])
    assert mmd_test(first, second, permutations=10)[0] == pytest.approx(expected)


def test_the_p_value_of_the_discrepancy_is_the_share_of_partitions_that_are_as_far_apart():
    """Of the ten partitions of five numbers into two and three none is further apart than the one of the sorted."""
    first, second = np.array([[0.0], [1.0]]), np.array([[30.0], [31.0], [32.0]])
    assert mmd_test(first, second, permutations=5000)[1] == pytest.approx(0.1, abs=0.015)
    assert mmd_test(first, first, permutations=50)[1] == 1


def test_samples_of_one_distribution_seldom_differ_and_shifted_ones_do():
    generator = np.random.default_rng(0)
    same = [mmd_test(*generator.normal(size=(2, 40, 3)), permutations=200, seed=n)[1] <= 0.05 for n in range(200)]
    assert sum(same) <= 19  # of which a binomial of 200 and 5 % has more in 0.3 % of cases
    shifted = [mmd_test(generator.normal(size=(40, 3)), generator.normal(1, size=(40, 3)))[1] for _ in range(5)]
    assert max(shifted) < 0.01


def test_shares_are_compared_by_pearsons_test():
    """Of the 2 × 2 table (30 of 100, 50 of 100) the statistic is 200 (30·50 − 70·50)² / (100·100·80·120) = 8⅓."""
    difference, p = counts_test([30, 70], [50, 50])
    assert difference == pytest.approx(0.2)
    assert p == pytest.approx(chi2.sf(25 / 3, 1))


def test_rare_classes_are_one():
    assert counts_test([50, 3, 0], [50, 0, 3])[1] == 1
    assert counts_test([9], [4]) == (0, 1)


@pytest.mark.parametrize("bad", [([], []), (np.zeros((2, 1)), np.zeros((2, 2))), (np.zeros((0, 2)), np.zeros((3, 2)))])
def test_samples_that_do_not_fit_are_refused(bad):
    with pytest.raises(ValueError, match="samples"):
        mmd_test(*bad)
    with pytest.raises(ValueError, match="samples"):
        counts_test([0, 0], [1, 2])
