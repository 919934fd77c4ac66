"""A network learns one batch by heart: the shortest proof that its loss and its decoding belong together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

ROUND = 20  # steps between two questions


def learn_by_heart(
    network: keras.Model,
    training: Any,
    asked: Any,
    terms: Callable[[Any], Mapping[str, tf.Tensor]],
    shortcoming: Callable[[Any], Any],
    folder: Path,
    *,
    rate: float = 1e-3,
    rounds: int = 12,
) -> None:
    """Train on one batch until its answers are right; then save the network, load it, and ask again.

    The first step's gradients must reach every weight, and the loaded network must answer the same.

    Args:
        training: what the network gets in training; `asked` afterwards.
        terms: of the loss, from the outputs in training.
        shortcoming: what is still wrong with the outputs, false when nothing is.
        rate: of Adam.
        rounds: of 20 steps, after which nothing may be wrong.
    """
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=10.0)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            total = tf.add_n(list(terms(network(training, training=True)).values()))
        gradients = tape.gradient(total, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return gradients

    gradients = zip(network.trainable_variables, step(), strict=True)
    assert [weight.path for weight, gradient in gradients if not np.any(gradient)] == []
    for _ in range(rounds):
        for _ in range(ROUND):
            step()
        outputs = network(asked, training=False)
        if not (wrong := shortcoming(outputs)):
            break
    else:
        pytest.fail(f"not learnt: {wrong}")
    network.save(folder / "model.keras")
    again = keras.saving.load_model(folder / "model.keras")(asked, training=False)
    for name, values in outputs.items():
        np.testing.assert_array_equal(again[name], values)
