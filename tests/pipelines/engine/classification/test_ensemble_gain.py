"""The gain of looking more than once: differences pair by pair, and what other test examples might have given."""

import keras
import numpy as np
import pytest
from scipy.stats import binom

from pipelines.engine.classification import ensemble_gain


def test_a_gain_is_the_mean_of_the_differences_of_the_pairs():
    found = ensemble_gain.gain(np.array([1, 0, 0.5, 1]), np.array([1, 1, 1, 0]))
    assert found["single_accuracy"] == 0.625
    assert found["accuracy"] == 0.75
    assert found["gain"] == 0.125  # (0 + 1 + 0.5 - 1) / 4


def test_where_only_one_gains_the_interval_is_that_of_the_binomial_distribution():
    combined = np.arange(200) < 190
    found = ensemble_gain.gain(combined & (np.arange(200) >= 40), combined)
    assert found["gain"] == pytest.approx(0.2)
    assert found["gain_interval"] == pytest.approx(binom.ppf([0.025, 0.975], 200, 0.2) / 200, abs=0.006)


def test_as_many_won_as_lost_is_no_gain_and_the_interval_has_a_width():
    single = np.arange(100) < 50
    found = ensemble_gain.gain(
        single, np.roll(single, 10)
    )  # 10 lost, 10 won: the variance of a mean of 100 is 0.2 / 100
    low, high = found["gain_interval"]
    assert found["gain"] == 0
    assert low == pytest.approx(-1.96 * np.sqrt(0.2 / 100), abs=0.015)
    assert high == pytest.approx(-low, abs=0.011)


def test_what_both_have_right_or_wrong_says_nothing():
    right = np.arange(50) < 30
    assert ensemble_gain.gain(right, right)["gain_interval"] == [0, 0]


def test_numbers_become_metrics_and_a_line():
    cost = {"parameters": [10, 50], "multiply_adds": [4, 20], "seconds": [0.001, 0.004]}
    found = {**ensemble_gain.gain(np.array([0.6, 0.8]), np.array([1, 1])), "gain_interval": [0.1, 0.4], "cost": cost}
    assert ensemble_gain.metrics("ensemble", {**found, "members": [0.7]}) == pytest.approx(
        {
            "test_ensemble_single_accuracy": 0.7,
            "test_ensemble_accuracy": 1.0,
            "test_ensemble_gain": 0.3,
            "test_ensemble_gain_low": 0.1,
            "test_ensemble_gain_high": 0.4,
        }
    )
    (line,) = ensemble_gain.gain_lines({"ensemble": found, "accuracy": 1.0})
    assert "+30.00 points (95 % interval +10.00 to +40.00) for 5 × the parameters" in line
    assert "4 × the time, 4 ms" in line


def test_the_cost_counts_the_looks():
    image = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Conv2D(2, 3, name="c")(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    looked = ensemble_gain.Combined(model, lambda images: model(images[:, :4, :4]), (None, 5, 5, 1), looks=10)
    cost = ensemble_gain.cost(model, looked)
    assert cost["parameters"] == [20, 20]
    assert cost["multiply_adds"] == [72, 720]  # 2·2 positions of 3·3·2 weights
    assert min(cost["seconds"]) > 0
