"""Batch normalisation that has seen too few steps: training goes by each batch, validation by averages over them."""

from collections.abc import Iterator, Sequence

import keras

LAGGING = 0.05  # an average of which more than this share is still what it began with says little of the data


def hint(model: keras.Model, history: Sequence[dict[str, float]], *, steps: int) -> str | None:
    """Why validation is far behind training, if the averages of batch normalisation can be the reason.

    Validation is far behind where its loss is more than twice the training's, and no better than the training's in the
    first epoch. After n steps an average of momentum m has m^n of what it began with.

    Args:
        steps: the batches of one epoch.
    """
    momentum = max((layer.momentum for layer in _norms(model)), default=0.0)
    steps_taken, row = steps * len(history), history[-1]
    share = momentum**steps_taken
    if share < LAGGING or not {"loss", "val_loss"} <= row.keys():
        return None
    if not (row["val_loss"] - row["loss"] > abs(row["loss"]) and row["val_loss"] >= history[0]["loss"]):
        return None  # so is NaN
    return (
        "validation may lag behind: it goes by the averages of batch normalisation, and with a momentum of "
        f"{momentum:g} {share:.0%} of them is what they began with after {steps_taken} steps, {steps} an epoch; "
        "smaller batches (train.batch_size) make more steps, and more epochs let them catch up"
    )


def _norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    """The batch normalisations whose averages move."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            yield layer
        elif hasattr(layer, "layers"):
            yield from _norms(layer)
