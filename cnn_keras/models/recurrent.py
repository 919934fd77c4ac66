"""Recurrent networks of signals, to compare convolutions with: (length, channels) read step by step.

`lstm`: Hochreiter and Schmidhuber, "Long short-term memory", 1997, with the forget gate of Gers, Schmidhuber and
Cummins, "Learning to forget", 2000. `gru`: Cho et al., "Learning phrase representations using RNN encoder-decoder",
2014. Both are Keras's, whose forget gates start open (Jozefowicz et al., "An empirical exploration of recurrent network
architectures", 2015) and whose reset gate comes behind the product with the state.
"""

from functools import partial
from typing import Any

import keras
from keras import layers


def recurrent(
    cells: Any,
    *,
    input_shape: tuple[int | None, ...] = (96, 1),
    classes: int = 2,
    units: int = 64,
    dropout: float = 0.0,
    name: str,
) -> keras.Model:
    """One recurrent layer, whose state after the last step is classified.

    Args:
        cells: `keras.layers.LSTM` or `keras.layers.GRU`.
        input_shape: (length, channels); the length may be None.
        classes: length of the logits.
        units: length of the state.
        dropout: share of the state dropped in training, in [0, 1).
        name: of the model.

    Returns:
        A model from `image` (batch, length, channels), floats, to `logits` (batch, classes), float32.
    """
    signal = keras.Input(input_shape, name="image")
    x = layers.Dropout(dropout, name="dropout")(cells(units, name="state")(signal))
    return keras.Model(signal, layers.Dense(classes, dtype="float32", name="logits")(x), name=name)


lstm = partial(recurrent, layers.LSTM, name="lstm")
gru = partial(recurrent, layers.GRU, name="gru")
