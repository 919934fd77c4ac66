"""Mixture densities against SciPy's normal distribution, at extremes, and by their laws."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import logsumexp, softmax

from cnn_keras.losses import mixture_density

Y = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
TARGET = np.random.default_rng(1).normal(size=7).astype(np.float32)


def parts(y):
    """Weights, means, scales of a mixture of three in NumPy."""
    logits, means, raw = np.split(y.astype(float), 3, axis=1)
    return softmax(logits, axis=1), means, mixture_density.FLOOR + np.log1p(np.exp(raw))


def test_the_likelihood_is_that_of_scipys_normal_distributions():
    weights, means, scales = parts(Y)
    expected = -logsumexp(np.log(weights) + stats.norm.logpdf(TARGET[:, None], means, scales), axis=1)
    np.testing.assert_allclose(mixture_density.negative_log_likelihood(Y, TARGET), expected, rtol=1e-5)


def test_unit_and_spread_are_those_of_the_decoded_mixture():
    said = mixture_density.decode(tf.constant(Y), unit=0.4, spread=2.5)
    density = stats.norm.pdf(TARGET[:, None], said.means, said.scales)
    expected = -np.log((said.weights.numpy() * density).sum(axis=1))
    found = mixture_density.negative_log_likelihood(Y, TARGET, unit=0.4, spread=2.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_output_is_a_normal_distribution_whose_loss_is_half_the_squared_error():
    y, target = np.array([[0.5], [2.0]], np.float32), np.array([1.0, -1.0], np.float32)
    expected = 0.5 * np.array([0.25, 9.0]) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(mixture_density.negative_log_likelihood(y, target), expected, rtol=1e-6)
    assert mixture_density.outputs(None) == 1
    assert mixture_density.outputs(3) == Y.shape[1]


@pytest.mark.parametrize("size", [1e3, 1e8, 1e15])
@pytest.mark.parametrize("row", np.sign(np.random.default_rng(2).normal(size=(6, 6))).tolist())
def test_loss_and_gradient_stay_numbers_at_extremes(size, row):
    y = tf.Variable([np.array(row, np.float32) * size])
    with tf.GradientTape() as tape:
        loss = mixture_density.negative_log_likelihood(y, tf.constant([0.3]))
    assert np.isfinite(loss.numpy()).all()
    assert np.isfinite(tape.gradient(loss, y).numpy()).all()


def test_half_precision_is_widened_before_anything_is_summed():
    found = mixture_density.negative_log_likelihood(tf.constant(Y, tf.float16), TARGET)
    np.testing.assert_allclose(found, mixture_density.negative_log_likelihood(Y, TARGET), rtol=5e-3)


def test_no_component_is_ever_narrower_than_the_floor():
    assert float(tf.reduce_min(mixture_density.decode(tf.constant([[0.0, 0.3, -1e9]])).scales)) == pytest.approx(
        mixture_density.FLOOR
    )


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_below_a_quantile_lies_its_share(share):
    said = mixture_density.decode(tf.constant(Y))
    value = mixture_density.quantile(said, share)
    np.testing.assert_allclose(mixture_density.cumulative(said, value), share, atol=1e-5)


def test_quantiles_and_mean_of_a_normal_distribution_are_scipys():
    said = mixture_density.decode(tf.constant([[2.0]]), unit=0.5, spread=3.0)
    assert float(mixture_density.quantile(said, 0.9)[0]) == pytest.approx(stats.norm.ppf(0.9, 1.0, 1.5), abs=1e-5)
    assert float(mixture_density.mean(said)[0]) == pytest.approx(1.0)


def test_the_median_of_a_fork_lies_with_the_likelier_way():
    fork = mixture_density.Mixture(tf.constant([[0.6, 0.4]]), tf.constant([[-0.5, 0.5]]), tf.constant([[0.05, 0.05]]))
    assert abs(float(mixture_density.quantile(fork, 0.5)[0]) + 0.5) < 0.1
    assert float(mixture_density.mean(fork)[0]) == pytest.approx(-0.1)


def test_the_spread_of_a_regression_is_the_root_mean_square_of_its_errors():
    said = np.random.default_rng(3).normal(size=(4000, 1)).astype(np.float32)
    target = said[:, 0] + np.random.default_rng(4).normal(0, 0.37, 4000).astype(np.float32)
    spread, loss = mixture_density.fit_spread(said, target)
    errors = target - said[:, 0]
    assert spread == pytest.approx(np.sqrt((errors**2).mean()), rel=0.03)
    assert loss == pytest.approx(-stats.norm.logpdf(errors, scale=errors.std()).mean(), rel=0.01)


def test_a_network_that_is_too_sure_is_spread():
    y = np.tile(np.array([[0.0, 0.0, -1.0]], np.float32), (4000, 1))
    scale = float(mixture_density.decode(tf.constant(y[:1])).scales[0, 0])
    target = np.random.default_rng(5).normal(0, 3 * scale, 4000).astype(np.float32)
    assert mixture_density.fit_spread(y, target)[0] == pytest.approx(3, rel=0.05)


def test_a_network_that_is_too_unsure_is_left_as_it_is():
    y = np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (500, 1))
    assert mixture_density.fit_spread(y, np.zeros(500, np.float32))[0] == pytest.approx(1)


def test_the_simple_error_function_is_right_to_seven_digits():
    x = np.linspace(-5, 5, 1001, dtype=np.float32)
    np.testing.assert_allclose(mixture_density.simple_erf(tf.constant(x)), [math.erf(value) for value in x], atol=5e-7)
