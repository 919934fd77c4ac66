"""The wait for input: what the clock counts, and what is said of it."""

import io
import itertools
import json
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Train
from pipelines.engine.training import input_profile, trainer
from pipelines.engine.training.input_profile import Clock, Probe


@pytest.fixture
def at(monkeypatch):
    """Sets the time that the clock reads."""
    now = SimpleNamespace(value=0.0)
    monkeypatch.setattr(input_profile.time, "perf_counter", lambda: now.value)

    def set_to(seconds):
        now.value = seconds

    return set_to


def test_a_wait_is_what_lies_between_the_beginning_of_a_step_and_its_batch(at):
    clock = Clock()
    clock.ready = {0: (90.0, 8), 1: (102.0, 8), 2: (104.0, 8), 3: (112.0, 4)}
    for begun, over in ((0, 100), (100, 105), (105, 108), (110, 114)):  # the first compiles
        at(begun)
        clock.begin()
        at(over)
        clock.end()
    assert clock.waited == 2 + 0 + 2
    assert clock.worked == 5 + 3 + 4
    assert clock.share == pytest.approx(1 / 3)
    assert clock.examples == 20
    clock.new_epoch()
    assert clock.share == 0


def test_stamped_batches_are_the_same_batches():
    batches = tf.data.Dataset.from_tensor_slices(
        (np.arange(10, dtype=np.uint8), {"logits": np.arange(10)}, np.linspace(0, 1, 10, dtype=np.float32))
    ).batch(4)
    clock = Clock()
    stamped = clock.stamped(batches)
    assert stamped.element_spec == batches.element_spec
    for ours, theirs in zip(stamped, batches, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
    assert {number: examples for number, (_, examples) in clock.ready.items()} == {0: 4, 1: 4, 2: 2}


def share_of(folder, seconds):
    """The share of waiting that `fit` writes into its history when every batch takes so long to come."""

    def slowly(row):
        time.sleep(seconds)
        return row

    def batches(epochs):
        rows = tf.data.Dataset.range(6 * len(epochs), output_type=tf.float32)
        slow = rows.map(lambda row: tf.ensure_shape(tf.numpy_function(slowly, [row], tf.float32), ()))
        return slow.map(lambda row: (tf.fill((4, 2), row / 10), tf.zeros(4)))

    entry = keras.Input((2,))
    model = keras.Model(entry, keras.layers.Dense(1)(entry))
    settings = Train(epochs=2, batch_size=4)
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=6)
    folder.mkdir()
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=batches,
        validation=batches(range(1)),
        images=24,
        console=Console(quiet=True),
        on_epoch=lambda number, row: None,
    )
    assert (folder / "history.csv").read_text().splitlines()[0].endswith("input_share")
    return history[-1]["input_share"]


def test_a_training_whose_batches_come_slowly_waits_more(tmp_path):
    slow, quick = share_of(tmp_path / "slow", 0.1), share_of(tmp_path / "quick", 0.0)
    assert 0 <= quick < slow <= 1


def test_with_several_steps_per_execution_nothing_is_claimed(tmp_path):
    """The waits inside an execution are not seen."""
    entry = keras.Input((2,))
    model = keras.Model(entry, keras.layers.Dense(1)(entry))
    settings = Train(epochs=1, batch_size=4, steps_per_execution=2)
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=6)
    batches = tf.data.Dataset.from_tensor_slices((tf.zeros((24, 2)), tf.zeros(24))).batch(4)
    history = trainer.fit(
        model,
        settings,
        tmp_path,
        batches=lambda epochs: batches.repeat(len(epochs)),
        validation=batches,
        images=24,
        console=Console(quiet=True),
        on_epoch=lambda number, row: None,
    )
    assert "input_share" not in history[0]


def probe_of(*settings, plain=None):
    """A probe whose words are caught."""
    said = io.StringIO()
    recipe = recipes.load("classify/digits-lenet5", settings)
    facts = {"splits": {"train": 5000}}
    run = SimpleNamespace(recipe=recipe, console=Console(file=said, width=500), facts=lambda stage: facts)
    return Probe(run, plain, "image"), said


def clock_of(*, waited):
    clock = Clock()
    clock.waited, clock.worked, clock.examples = waited, 10.0, 540
    return clock


def test_the_line_tells_the_input_the_network_and_the_wait_once():
    probe, said = probe_of()
    probe.whole, probe.bare = 3200.0, 5100.0
    probe.tell(clock_of(waited=1.0))
    probe.tell(clock_of(waited=1.0))
    assert " ".join(said.getvalue().split()) == (
        "input 3,200 images/s, 5,100 without augmentation; the network takes 60: waiting for input 10% of the time"
    )


def test_a_slow_augmentation_is_named_with_the_command_that_measures():
    images = np.zeros((8, 32, 32, 1), np.uint8)
    probe, said = probe_of("augment=[mirror, elastic]", plain=lambda: [(images, np.zeros(8))])
    probe.whole, probe.bare = 100.0, 5100.0
    probe.tell(clock_of(waited=9.0))
    assert "the augmentation elastic; `cnn bench input RECIPE`" in said.getvalue()


def test_where_augmentation_costs_little_reading_is_the_slow_step():
    probe, said = probe_of()
    probe.whole, probe.bare = 100.0, 110.0
    probe.tell(clock_of(waited=9.0))
    assert "reading and decoding" in said.getvalue()


def test_of_a_tiny_split_nothing_is_measured_nor_said():
    probe, said = probe_of()
    probe.run.facts = lambda stage: {"splits": {"train": input_profile.TINY - 1}}
    probe.measure(None)
    probe.tell(clock_of(waited=9.0), now=True)
    assert said.getvalue() == ""


def test_the_speed_of_an_input_is_examples_over_time(monkeypatch):
    ticks = itertools.count(step=0.25)
    monkeypatch.setattr(input_profile.time, "perf_counter", lambda: next(ticks))
    batches = tf.data.Dataset.zip((tf.data.Dataset.range(80),)).batch(8).map(lambda row: (row, row))
    assert input_profile.speed(batches, 3, seconds=100.0) == 24 / (4 * 0.25)


def test_a_training_logs_its_share_every_epoch(exported):
    header, *rows = (exported.run / "train" / "history.csv").read_text().splitlines()
    place = header.split(",").index("input_share")
    assert all(0 <= float(row.split(",")[place]) <= 1 for row in rows)
    assert "input_share" not in json.dumps(json.loads((exported.run / "train" / "manifest.json").read_text())["facts"])
