"""Mixture densities: a network that says not one number but how likely every number is.

Bishop, "Mixture density networks", 1994. The answer to a picture is a mixture of normal distributions, whose weights,
means and standard deviations the network gives; it is trained by the negative log-likelihood of what is true. One
network output is a mixture too: of a single normal distribution around it, of the standard deviation 1, whose
negative log-likelihood is half the squared error and a constant.

`y` is float (batch, 1) or (batch, 3 · components): logits of the weights, means, and what becomes the standard
deviations. `unit` is that of the numbers: means and deviations are multiplied by it. `spread` widens all deviations
by a factor, fitted on examples that were not trained on: networks are surer than they ought to be.

Differs from the paper: deviations are a softplus, not an exponential, which overflows; they never fall below FLOOR,
for else a mixture that sits on a number which occurs often – a wheel held straight – becomes infinitely likely.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

Erf = Callable[[tf.Tensor], tf.Tensor]  # the error function

FLOOR = 0.01  # of a unit: the least standard deviation
HALVINGS = 30  # of the interval in which a quantile is sought: float32 has no more digits
REACH = 8.0  # standard deviations around the means in which a quantile lies, of shares from 1e-9 on
SPREADS = np.geomspace(0.1, 10, 201)  # that are tried; the one in the middle is 1


class Mixture(NamedTuple):
    """Mixtures of normal distributions: weights that sum to 1, means, standard deviations; each (batch, components)."""

    weights: tf.Tensor
    means: tf.Tensor
    scales: tf.Tensor


def outputs(components: int | None) -> int:
    """How many numbers a network must answer for a mixture of so many components; None for one number, its mean."""
    return 1 if components is None else 3 * components


def decode(y: tf.Tensor, *, unit: float = 1.0, spread: float = 1.0) -> Mixture:
    """The `Mixture` that a network's answer says, float32."""
    logits, means, scales = _parts(y)
    return Mixture(tf.nn.softmax(logits), means * unit, scales * (unit * spread))


def negative_log_likelihood(y: tf.Tensor, target: tf.Tensor, *, unit: float = 1.0, spread: float = 1.0) -> tf.Tensor:
    """Of each number, float (batch,), under the mixture a network says of it: float32 (batch,), in nats.

    It is finite, and so is its gradient, for whatever finite y: everything is summed as logarithms.
    """
    logits, means, scales = _parts(y)
    scales = scales * (unit * spread)
    far = (tf.cast(target, tf.float32)[:, None] - means * unit) / scales
    density = -0.5 * far**2 - tf.math.log(scales) - 0.5 * math.log(2 * math.pi)
    return -tf.reduce_logsumexp(tf.nn.log_softmax(logits) + density, axis=-1)


def mean(mixture: Mixture) -> tf.Tensor:
    """Its mean: (batch,)."""
    return tf.reduce_sum(mixture.weights * mixture.means, axis=-1)


def cumulative(mixture: Mixture, values: tf.Tensor, *, erf: Erf = tf.math.erf) -> tf.Tensor:
    """The share of each mixture that lies below a value: (batch,) for values (batch,)."""
    far = (values[:, None] - mixture.means) / (mixture.scales * math.sqrt(2))
    return tf.reduce_sum(mixture.weights * 0.5 * (1 + erf(far)), axis=-1)


def quantile(mixture: Mixture, share: float, *, erf: Erf = tf.math.erf) -> tf.Tensor:
    """The value below which this share of each mixture lies, by halving an interval: (batch,) for a share in (0, 1).

    `erf` is another one for formats that have none, such as `simple_erf`.
    """
    low = tf.reduce_min(mixture.means - REACH * mixture.scales, axis=-1)
    high = tf.reduce_max(mixture.means + REACH * mixture.scales, axis=-1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = cumulative(mixture, middle, erf=erf) < share
        low, high = tf.where(below, middle, low), tf.where(below, high, middle)
    return (low + high) / 2


def simple_erf(x: tf.Tensor) -> tf.Tensor:
    """The error function, to 1.5e-7, of sums, products and an exponential.

    Abramowitz and Stegun, "Handbook of mathematical functions", 1964, 7.1.26.
    """
    t = 1 / (1 + 0.3275911 * tf.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return tf.sign(x) * (1 - series * tf.exp(-x * x))


def fit_spread(y: tf.Tensor, target: tf.Tensor, *, unit: float = 1.0) -> tuple[float, float]:
    """The spread, of SPREADS, under which targets (N,) are likeliest, and their mean negative log-likelihood then.

    The deviations that a mixture has learnt are only ever widened: numbers by which the best epoch of a training was
    chosen make it look surer than it is.
    """
    spreads = SPREADS if y.shape[-1] == 1 else SPREADS[len(SPREADS) // 2 :]
    losses = [float(tf.reduce_mean(negative_log_likelihood(y, target, unit=unit, spread=spread))) for spread in spreads]
    best = int(np.argmin(losses))
    return float(spreads[best]), losses[best]


def _parts(y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Logits, means and scales in units, each float32 (batch, components)."""
    y = tf.cast(y, tf.float32)
    if y.shape[-1] == 1:
        return tf.zeros_like(y), y, tf.ones_like(y)
    logits, means, raw = tf.split(y, 3, axis=-1)
    return logits, means, FLOOR + tf.nn.softplus(raw)
