"""A few points that all others are near to: the k-center problem, solved greedily.

Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985: each point taken is the one that is farthest
from those taken before, and the largest distance that is left is at most twice the least that is possible. Sener and
Savarese, "Active learning for convolutional neural networks: a core-set approach", 2018, choose by it what to label.
"""

import numpy as np


def farthest_points(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `count` points, each the farthest from those before it, and its distance to the nearest of them.

    The first is the one nearest to the mean of all, and its distance is that to the mean. Of equals the first in order
    is taken.

    Args:
        points: real (N, dimension).
        count: at most N are taken.

    Returns:
        int64 (min(count, N),) and float64, the same.
    """
    points = np.asarray(points, np.float64)
    rows, distances = np.zeros(min(count, len(points)), np.int64), np.zeros(min(count, len(points)))
    nearest = np.full(len(points), np.inf)
    for place in range(len(rows)):
        if place == 0:
            to_mean = np.linalg.norm(points - points.mean(axis=0), axis=1)
            rows[0], distances[0] = to_mean.argmin(), to_mean.min()
        else:
            rows[place], distances[place] = nearest.argmax(), nearest.max()
        nearest = np.minimum(nearest, np.linalg.norm(points - points[rows[place]], axis=1))
        nearest[rows[place]] = -1  # not taken again, even where others are in the same place
    return rows, distances
