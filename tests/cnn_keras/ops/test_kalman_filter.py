"""The Kalman filter of boxes, beside the scalar filter of a textbook."""

import numpy as np

from cnn_keras.ops import kalman_filter


def textbook(heights, measured):
    """x and its velocity by the scalar formulas of a filter with two states; the noise is that of SORT's successors.

    Returns:
        The corrected positions and velocities.
    """
    height = heights[0]
    x, v = measured[0], 0.0
    p, c, q = (2 * height / 20) ** 2, 0.0, (10 * height / 160) ** 2  # variance of x, covariance, variance of v
    rows = [(x, v)]
    for seen in measured[1:]:
        x, p, c, q = x + v, p + 2 * c + q + (height / 20) ** 2, c + q, q + (height / 160) ** 2
        error = p + (height / 20) ** 2
        gain, push = p / error, c / error
        x, v, p, c, q = x + gain * (seen - x), v + push * (seen - x), p - gain * p, c - gain * c, q - push * c
        rows.append((x, v))
    return np.array(rows)


def test_a_coordinate_is_filtered_as_a_textbook_does():
    generator = np.random.default_rng(0)
    centres = 3.0 * np.arange(20) + generator.normal(size=20)
    measured = np.stack([centres, np.full(20, 50.0), np.full(20, 0.5), np.full(20, 40.0)], axis=1)[:, None]
    state = kalman_filter.initiate(measured[0])
    rows = [state.mean[0, [0, 4]]]
    for measurement in measured[1:]:
        state = kalman_filter.update(kalman_filter.predict(state), measurement)
        rows.append(state.mean[0, [0, 4]])
    np.testing.assert_allclose(rows, textbook(measured[:, 0, 3], centres), rtol=1e-9)


def test_the_velocity_of_a_box_is_learnt_and_boxes_do_not_mix():
    state = kalman_filter.initiate(np.array([[0.0, 0.0, 0.5, 40.0], [90.0, 10.0, 1.0, 20.0]]))
    for frame in range(1, 60):
        measurement = np.array([[2.0 * frame, 0.0, 0.5, 40.0], [90.0 - frame, 10.0, 1.0, 20.0]])
        state = kalman_filter.update(kalman_filter.predict(state), measurement)
    np.testing.assert_allclose(state.mean[:, 4:6], [[2, 0], [-1, 0]], atol=1e-3)
    np.testing.assert_allclose(kalman_filter.predict(state).mean[:, 0], [120, 30], atol=1e-2)


def test_a_state_without_boxes_stays_empty():
    state = kalman_filter.initiate(np.zeros((0, 4)))
    assert kalman_filter.update(kalman_filter.predict(state), np.zeros((0, 4))).mean.shape == (0, 8)
