"""The Kalman filter of boxes that move at a constant velocity, for many boxes at once, in NumPy.

Bewley et al., "Simple online and realtime tracking", 2016, with the state and the noise of Wojke et al., "Simple online
and realtime tracking with a deep association metric", 2017: x and y of the centre, the aspect ratio (width / height),
the height, and the velocity of each, per frame. The noise of all but the aspect ratio is proportional to the height.

A measurement is float64 (N, 4): x, y, aspect ratio, height, in pixels.
"""

from typing import NamedTuple

import numpy as np

POSITION, VELOCITY = 1 / 20, 1 / 160  # standard deviation of the motion's noise, as shares of the height
MOTION = np.eye(8) + np.eye(8, k=4)  # from one frame to the next: each quantity grows by its velocity
MEASURED = np.eye(4, 8)  # of the state


class State(NamedTuple):
    """What is known of N boxes."""

    mean: np.ndarray  # float64 (N, 8): the measured quantities, then their velocities
    covariance: np.ndarray  # float64 (N, 8, 8)


def initiate(measurement: np.ndarray) -> State:
    """The state of boxes that are seen for the first time; they are taken to stand still."""
    mean = np.concatenate([measurement, np.zeros_like(measurement)], axis=1)
    return State(mean, _noise(measurement[:, 3], position=2 * POSITION, velocity=10 * VELOCITY))


def predict(state: State) -> State:
    """The state one frame later, before anything is seen of it."""
    mean, covariance = state
    noise = _noise(mean[:, 3], position=POSITION, velocity=VELOCITY)
    return State(mean @ MOTION.T, MOTION @ covariance @ MOTION.T + noise)


def update(state: State, measurement: np.ndarray) -> State:
    """The state, corrected by a measurement of each box in the same frame."""
    mean, covariance = state
    noise = _noise(mean[:, 3], position=POSITION, velocity=0.0, aspect=1e-1)[:, :4, :4]
    expected = MEASURED @ covariance @ MEASURED.T + noise
    gain = np.linalg.solve(expected, MEASURED @ covariance).transpose(0, 2, 1)
    missed = measurement - mean[:, :4]
    return State(mean + (gain @ missed[..., None])[..., 0], covariance - gain @ expected @ gain.transpose(0, 2, 1))


def _noise(height: np.ndarray, *, position: float, velocity: float, aspect: float = 1e-2) -> np.ndarray:
    """Diagonal covariances, (N, 8, 8), of standard deviations that are shares of the height (N,)."""
    one = np.ones_like(height)
    moving = [position * height, position * height, aspect * one, position * height]
    deviations = np.stack([*moving, velocity * height, velocity * height, 1e-5 * one, velocity * height], axis=1)
    return deviations[..., None] ** 2 * np.eye(8)
