"""Greedy k-center: the order by hand, and Gonzalez' bound beside every choice of the best."""

import itertools

import numpy as np

from cnn_keras.ops.k_center import farthest_points


def test_each_point_is_the_farthest_from_those_before_it():
    line = np.array([[0.0], [1.0], [4.0], [10.0]])  # the mean is 3.75
    rows, distances = farthest_points(line, 4)
    assert rows.tolist() == [2, 3, 0, 1]
    assert distances.tolist() == [0.25, 6.0, 4.0, 1.0]


def test_no_point_is_taken_twice_even_where_all_are_in_one_place():
    rows, distances = farthest_points(np.ones((5, 3)), 9)
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert not distances.any()


def test_what_is_left_is_at_most_twice_as_far_as_with_the_best_centers():
    for seed in range(20):
        points = np.random.default_rng(seed).normal(size=(10, 2))
        between = np.linalg.norm(points[:, None] - points[None], axis=2)

        def radius(rows, between=between):
            return between[:, list(rows)].min(axis=1).max()

        best = min(radius(rows) for rows in itertools.combinations(range(10), 3))
        assert radius(farthest_points(points, 3)[0]) <= 2 * best + 1e-9
