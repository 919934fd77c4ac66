"""`cnn lr`: what is read off the loss, and that a run's own training is left alone."""

import csv
import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from cnn_keras.errors import Fault
from pipelines.engine.experiments import lr_finder

RATES = np.geomspace(1e-6, 1, 301)


def test_smoothing_is_a_gaussian():
    values = np.random.default_rng(0).normal(size=100)
    expected = gaussian_filter1d(values, 3.0, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(lr_finder.smooth_curve(values, 3.0), expected, atol=1e-12)


def test_the_steepest_descent_and_a_tenth_of_the_minimum_are_found():
    """A loss that falls around 1e-4 and is lowest at 1e-2."""
    place = np.log10(RATES)
    losses = 2 - np.tanh(2 * (place + 4)) - 0.1 * np.minimum(place, -2) + 2 * np.maximum(place + 2, 0) ** 2
    climb = lr_finder.read_off(RATES, losses)
    assert np.log10(climb.steepest) == pytest.approx(-4, abs=0.15)
    assert np.log10(climb.tenth) == pytest.approx(-3, abs=0.2)


def test_noise_before_the_descent_is_not_the_steepest():
    place = np.log10(RATES)
    noise = np.random.default_rng(0).normal(scale=0.1, size=len(RATES))
    climb = lr_finder.read_off(RATES, 2 - np.tanh(2 * (place + 3)) + np.maximum(place + 1.5, 0) * 4 + noise)
    assert np.log10(climb.steepest) == pytest.approx(-3, abs=0.3)


def test_a_loss_that_is_no_number_at_once_has_no_rate():
    with pytest.raises(Fault, match="--low") as fault:
        lr_finder.read_off(RATES[:5], np.ones(5))
    assert fault.value.code == Fault.DIVERGED


def test_the_command_suggests_and_leaves_the_run_alone(exported, capsys):
    before = {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()}
    assert exported.cnn("lr", exported.recipe, "--steps", "30", "--low", "1e-5", "--high", "1e-1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert 1e-5 <= found["steepest"] <= 1e-1
    with (exported.run / "lr" / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["steps"] <= 30
    assert float(rows[0]["learning_rate"]) == 1e-5
    assert (exported.run / "lr" / "lr.png").read_bytes()[:4] == b"\x89PNG"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_climb_must_climb(exported, capsys):
    assert exported.cnn("lr", exported.recipe, "--low", "1", "--high", "0.1") == Fault.INPUT
    assert "--low must be above 0 and below --high" in capsys.readouterr().err
