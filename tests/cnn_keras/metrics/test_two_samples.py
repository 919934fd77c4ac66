"""Whether two samples differ: against published examples."""

import numpy as np
import pytest

from cnn_keras.metrics.classification import wilson_interval
from cnn_keras.metrics.two_samples import difference_interval


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
