"""The hint that batch normalisation's averages lag behind: when it is given, and what it names."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from pipelines.engine.recipe import Train
from pipelines.engine.training import batch_norm_statistics, trainer


def network(momentum=0.99, trainable=True):
    """A network in a network, as the tasks build them; None has no batch normalisation."""
    image = keras.Input((4,))
    x = keras.layers.Dense(8)(image)
    if momentum is not None:
        x = keras.layers.BatchNormalization(momentum=momentum, trainable=trainable)(x)
    inner = keras.Model(image, keras.layers.Dense(2)(x))
    entry = keras.Input((4,))
    return keras.Model(entry, inner(entry))


def rows(*pairs):
    return [{"loss": loss, "val_loss": val_loss} for loss, val_loss in pairs]


BEHIND = rows((2.2, 40.0), (0.3, 60.0))


def test_the_hint_names_momentum_and_steps():
    said = batch_norm_statistics.hint(network(0.9), BEHIND, steps=2)
    assert "momentum of 0.9" in said
    assert "66% of them is what they began with after 4 steps, 2 an epoch" in said


@pytest.mark.parametrize(
    ("model", "history", "steps"),
    [
        pytest.param(network(None), BEHIND, 2, id="no batch normalisation"),
        pytest.param(network(trainable=False), BEHIND, 2, id="frozen, its averages stand"),
        pytest.param(network(0.9), BEHIND, 200, id="steps enough"),
        pytest.param(network(), rows((2.2, 2.3), (1.5, 1.6)), 2, id="validation follows"),
        pytest.param(network(), rows((2.2, 2.3), (0.2, 0.6)), 2, id="validation is better than training was at first"),
        pytest.param(network(), rows((-1.0, -0.9), (-3.0, -2.5)), 2, id="losses below 0"),
        pytest.param(network(), rows((2.2, float("nan"))), 2, id="no number"),
        pytest.param(network(), [{"loss": 1.0}], 2, id="no validation loss"),
    ],
)
def test_without_that_cause_nothing_is_said(model, history, steps):
    assert batch_norm_statistics.hint(model, history, steps=steps) is None


def test_a_training_of_few_steps_says_it_once(tmp_path):
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    labels = np.arange(64) % 2
    values = (100 + 40 * labels[:, None] + generator.normal(0, 5, (64, 4))).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((values, labels)).batch(32)
    settings = Train(epochs=6, batch_size=32, learning_rate=0.1)
    model, said = network(), io.StringIO()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile_model(model, settings, loss=loss, metrics=[], steps=2)
    trainer.fit(
        model,
        settings,
        tmp_path,
        batches=lambda epochs: data.repeat(len(epochs)),
        validation=data,
        images=64,
        console=Console(file=said, width=400),
        on_epoch=lambda number, row: None,
    )
    assert said.getvalue().count("with a momentum of 0.99") == 1
