"""Whitening: scikit-learn's principal components, and values that are white."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from cnn_keras.data.transforms import whitening
from cnn_keras.layers import Whitening


def images(count=400):
    """Noise that is correlated from pixel to pixel, of very different variances: uint8 (count, 4, 4, 3)."""
    random = np.random.default_rng(0)
    mixture = random.normal(size=(48, 48)) * np.geomspace(1, 20, 48)
    return np.clip(random.normal(size=(count, 48)) @ mixture / 8 + 128, 0, 255).astype(np.uint8).reshape(-1, 4, 4, 3)


def whitened(batch, kind, **options):
    mean, matrix = whitening.fit(np.array_split(batch, 3), kind, **options)
    return np.asarray(Whitening(mean, matrix)(batch)).reshape(len(batch), -1)


def test_pca_is_that_of_scikit_learn():
    rows = images().reshape(400, -1).astype(float)
    theirs = PCA(whiten=True, svd_solver="full").fit(rows).transform(rows)
    ours = whitened(images(), "pca", epsilon=0) * np.sqrt(399 / 400)  # which divides by n - 1
    signs = np.sign((ours * theirs).sum(axis=0))  # of a component either is right
    np.testing.assert_allclose(ours * signs, theirs, atol=2e-3)


def test_zca_is_pca_rotated_back_and_nearest_to_the_image():
    rows = images().reshape(400, -1).astype(float)
    fitted = PCA(whiten=True, svd_solver="full").fit(rows)
    theirs = fitted.transform(rows) @ fitted.components_ / np.sqrt(399 / 400)
    np.testing.assert_allclose(whitened(images(), "zca", epsilon=0), theirs, atol=2e-3)
    assert np.allclose(*(matrix := whitening.fit([images()], "zca")[1], matrix.T))


@pytest.mark.parametrize("kind", ["zca", "pca"])
def test_whitened_values_have_no_correlations_and_variance_one(kind):
    covariance = np.cov(whitened(images(), kind, epsilon=0).T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(48), atol=5e-3)


def test_a_pixel_that_never_changes_stays_finite_and_epsilon_shrinks_components_by_their_variance():
    digits = load_digits().images[..., None]
    assert (digits[:, 0, 0, 0] == 0).all()
    white = whitened(digits, "pca")
    assert np.isfinite(white).all()
    assert np.isfinite(whitened(digits, "zca", epsilon=0)).all()
    variances = PCA().fit(digits.reshape(-1, 64)).explained_variance_ * (len(digits) - 1) / len(digits)
    expected = variances / (variances + 0.01 * variances.mean())
    np.testing.assert_allclose(white.var(axis=0), expected, atol=1e-4)
