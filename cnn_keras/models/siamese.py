"""Siamese networks: two pictures through one network, and what says how far apart they are.

The network is any of the catalogue: its logits, brought to length 1, are the embedding of a picture. Embeddings are
compared by their squared distance – Schroff et al., "FaceNet", 2015 – or by a small trained head that answers whether
two are the same: Koch, Zemel and Salakhutdinov, "Siamese neural networks for one-shot image recognition", 2015, with
|f − f′|, and Taigman et al., "DeepFace", 2014, section 4.2, with the χ² form (f − f′)² / (f + f′).

Differs from the papers: embeddings have length 1 and may be negative, so χ² divides by |f| + |f′|; the head starts from
equal weights and a threshold where unrelated embeddings lie, not from chance.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization

HEADS = ("absolute", "chi-squared")
register = keras.saving.register_keras_serializable(package="cnn_keras")


def embedding(network: keras.Model, *, mirrored: bool = False, name: str = "embedding") -> keras.Model:
    """The network with its logits brought to length 1.

    Args:
        network: a model from images (batch, height, width, channels) to logits (batch, dimension).
        mirrored: embed a picture as the mean direction of itself and its mirror image; costs twice the time.

    Returns:
        A model of the network's input to its embeddings, float32 (batch, dimension), rows of length 1.
    """
    image = keras.Input(network.input.shape[1:], dtype=network.input.dtype, name=network.input.name)
    outputs = keras.layers.UnitNormalization(dtype="float32", name="unit")(network(image))
    if mirrored:
        other = keras.layers.UnitNormalization(dtype="float32", name="mirrored_unit")(network(Mirror()(image)))
        both = keras.layers.Add(name="both")([outputs, other])
        outputs = keras.layers.UnitNormalization(dtype="float32", name="mean_unit")(both)
    return keras.Model(image, outputs, name=name)


def arcface_head(network: keras.Model, layer: str, *, dimension: int = 128, dropout: float = 0.4) -> keras.Model:
    """ArcFace's head (Deng et al., 2019, option E) on an inner layer of a network, in place of all behind it.

    A face's parts stay where they are: unlike behind an average, every place has weights of its own.

    Args:
        network: a functional model from images.
        layer: the name of a layer of maps, (batch, height, width, channels), such as "stage4".
        dimension: length of the logits.
        dropout: share of the maps' values dropped in training, in [0, 1).

    Returns:
        A model of the network's input to `logits`, float32 (batch, dimension).

    Raises:
        Fault: there is no such layer, or its height and width are unknown.
    """
    names = [inner.name for inner in network.layers]
    if layer not in names or None in network.get_layer(layer).output.shape[1:]:
        stages = ", ".join(name for name in names if name.startswith("stage") and "_" not in name)
        raise Fault(f"layer must be one of {network.name} with maps of a fixed size, got {layer!r}; it has {stages}")
    x = network.get_layer(layer).output
    x = BatchNormalization(momentum=0.9, epsilon=1e-5, name="tap_norm")(x)
    x = keras.layers.Flatten(name="tap_flatten")(keras.layers.Dropout(dropout, name="tap_dropout")(x))
    logits = keras.layers.Dense(dimension, dtype="float32", name="logits")(x)
    return keras.Model(network.input, logits, name=network.name)


def matcher(dimension: int, head: keras.Layer | None = None) -> keras.Model:
    """What compares two embeddings.

    Args:
        dimension: of the embeddings.
        head: a `VerificationHead` that was trained; None compares by squared distance.

    Returns:
        A model from `left` and `right`, float32 (batch, dimension), to `distance`, float32 (batch,): at least 0 and, of
        embeddings of length 1, at most 4; with a head the probability that they are not the same, in [0, 1].
    """
    pair = {side: keras.Input((dimension,), dtype="float32", name=side) for side in ("left", "right")}
    compare = SquaredDistance(dtype="float32", name="distance") if head is None else head
    distance = compare([pair["left"], pair["right"]])
    if head is not None:
        distance = keras.layers.Activation(improbability, dtype="float32", name="distance")(distance)
    return keras.Model(pair, distance, name="matcher")


@register
def improbability(logit: keras.KerasTensor) -> keras.KerasTensor:
    """1 − σ(logit): the probability of the opposite."""
    return ops.sigmoid(-logit)


@register
class Mirror(keras.layers.Layer):
    """Pictures seen in a mirror: (batch, height, width, channels) to the same, left and right exchanged."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.flip(x, axis=2)


@register
class SquaredDistance(keras.layers.Layer):
    """‖f − f′‖² of two embeddings: a list of two (…, dimension), floats, to (…,)."""

    def call(self, pair: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        left, right = pair
        return ops.sum(ops.square(left - right), axis=-1)


@register
class VerificationHead(keras.layers.Layer):
    """The logit of "the same": b + Σ wᵢ·δᵢ of two embeddings: a list of two (…, dimension), floats, to (…,).

    Args:
        kind: "absolute" for δ = |f − f′|, "chi-squared" for δ = (f − f′)² / (|f| + |f′|).
    """

    def __init__(self, kind: str = "absolute", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def build(self, input_shape: list[tuple[Any, ...]]) -> None:
        dimension = input_shape[0][-1]
        minus, start = keras.initializers.Constant(-1.0), keras.initializers.Constant(0.8 * dimension**0.5)
        self.kernel = self.add_weight(name="kernel", shape=(dimension,), initializer=minus)
        # Unrelated embeddings of length 1 differ by about 1.1·√dimension in all.
        self.bias = self.add_weight(name="bias", shape=(), initializer=start)

    def call(self, pair: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        left, right = pair
        difference = ops.abs(left - right)
        if self.kind == "chi-squared":
            difference = ops.square(difference) / (ops.abs(left) + ops.abs(right) + 1e-6)
        return ops.sum(difference * self.kernel, axis=-1) + self.bias

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kind": self.kind}
