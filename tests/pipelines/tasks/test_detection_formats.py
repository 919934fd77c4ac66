"""How far the candidates of a converted detector are from those of the trained one."""

import numpy as np
import pytest

from pipelines.tasks.detect.formats import candidate_difference

ROWS = np.array([[0.1, 0.1, 0.3, 0.3, 0.9, 0.0], [0.6, 0.5, 0.9, 0.9, 0.0, 0.8], [0.0, 0.0, 1.0, 1.0, 0.04, 0.02]])


def changed(row, column, value):
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (ROWS[::-1], 0),  # the order is no difference
        (changed(0, 2, 0.32)[::-1], 0.02),
        (changed(1, 5, 0.75), 0.05),
        (changed(2, 0, 0.5), 0),  # nobody sees what is below the threshold
        (ROWS[[0, 2, 2]], 0.78),  # the second is not there: its score is 0.02 in what is most like it
        (changed(2, 4, 0.6), 0.56),  # one is there that was not
    ],
)
def test_candidates_are_compared_with_those_most_like_them(other, expected):
    for pair in ((ROWS, other), (other, ROWS)):
        assert candidate_difference(*pair, threshold=0.1) == pytest.approx(expected)


def test_nothing_found_by_either_is_no_difference():
    assert candidate_difference(ROWS, ROWS * 0.5, threshold=0.95) == 0
