"""Several devices share a batch and come to what one device comes to. Logical CPU devices stand for GPUs."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.engine import devices, startup
from pipelines.engine.recipe import Train
from pipelines.engine.training import trainer
from tests import replicas

ROOT = Path(__file__).parents[3]


def trained(count, folder, *names, killed=0):
    """Train in a process of its own, whose exit code is returned."""
    command = [sys.executable, "-m", "tests.replicas", str(count), str(folder), ",".join(names), str(killed)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=900).returncode


def weights(folder):
    with np.load(folder / "weights.npz") as found:
        return [found[name] for name in found.files]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same trainings on one device and on two."""
    folder = tmp_path_factory.mktemp("devices")
    for count in (1, 2):
        assert trained(count, folder / str(count), *replicas.SETTINGS) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", replicas.SETTINGS)
def test_the_order_of_the_examples_does_not_depend_on_the_number_of_devices(both, name):
    one, two = ((both / count / name / "order.txt").read_text() for count in "12")
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(replicas.SETTINGS) - {"apart", "float16"}))
def test_two_devices_come_to_the_weights_of_one(both, name):
    """With dropout, augmentation and synchronised batch normalisation, and batches that cannot be halved."""
    for one, two in zip(weights(both / "1" / name), weights(both / "2" / name), strict=True):
        assert np.abs(one - two).max() <= 1e-5 * np.abs(one).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "own-loss"])
def test_losses_and_metrics_are_those_of_one_device(both, name):
    columns = ("loss", "val_loss", *(() if name == "own-loss" else ("accuracy", "val_accuracy")))
    histories = (csv.DictReader((both / count / name / "history.csv").read_text().splitlines()) for count in "12")
    for one, two in zip(*histories, strict=True):
        for column in columns:
            assert float(one[column]) == pytest.approx(float(two[column]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "apart"])
def test_a_training_on_two_devices_that_was_killed_ends_as_one_that_was_not(both, tmp_path, name):
    assert trained(2, tmp_path, name, killed=2) < 0
    assert trained(2, tmp_path, name) == 0
    for whole, resumed in zip(weights(both / "2" / name), weights(tmp_path / name), strict=True):
        np.testing.assert_array_equal(whole, resumed)


def test_one_device_has_no_strategy():
    with startup.numerics() as used:
        trainer.set_up(0, Train())
        assert devices.count() == 1
        assert type(tf.Variable(0.0)).__name__ == "ResourceVariable"
    assert used["devices"] == 1


def test_more_devices_than_there_are_are_refused():
    with startup.numerics(), pytest.raises(Fault, match=r"train\.devices must be at most 1, .*got 99"):
        trainer.set_up(0, Train(devices=99))
