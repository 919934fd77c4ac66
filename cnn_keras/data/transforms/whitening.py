"""Whitening: images whose values have variance 1 and no correlations, by the covariance of a training split.

Krizhevsky, "Learning multiple layers of features from tiny images", 2009, appendix A, calls `zca` what whitens and then
rotates back, so that the result still looks like an image; `pca` is left in the axes of the principal components. What
differs: a share of the mean variance is added to every eigenvalue, which keeps directions of hardly any variance, such
as corners that are always black, from becoming noise.
"""

from collections.abc import Iterable

import numpy as np

EPSILON = 0.01  # of the mean variance


def fit(images: Iterable[np.ndarray], kind: str, *, epsilon: float = EPSILON) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the matrix that whiten, in one pass over batches of images (N, …), of d values each.

    Args:
        images: of any numbers; there must be one at least.
        kind: `zca` or `pca`, whose first value is the component of the largest variance.
        epsilon: what is added to the eigenvalues, as a share of their mean.

    Returns:
        float32 (d,) and (d, d): (x - mean) @ matrix is white.
    """
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for batch in images:
        rows = np.reshape(batch, (len(batch), -1)).astype(np.float64)
        count, total, products = count + len(rows), total + rows.sum(axis=0), products + rows.T @ rows
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    scaled = vectors / np.sqrt(values + max(epsilon * values.mean(), np.finfo(np.float32).tiny))
    return mean.astype(np.float32), (scaled @ vectors.T if kind == "zca" else scaled).astype(np.float32)
