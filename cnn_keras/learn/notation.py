"""The layers of a network in the notation of the course, and exam questions about them with worked answers.

Layer l has filters of size f, padding p, stride s and n_c filters; its output has n_h × n_w places and n_c channels,
each side floor((n + 2p − f)/s + 1) long. Convolutions, locally connected layers and pooling over two axes, with square
windows or not, and dense layers are written so; other layers change no size.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras

from cnn_keras.errors import Fault
from cnn_keras.layers import LocallyConnected2D
from cnn_keras.learn import model_profile

WINDOWED = (keras.layers.Conv2D, LocallyConnected2D, keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)


@dataclass(frozen=True)
class Layer:
    """One layer in symbols.

    f, s: of the window, vertical and horizontal, empty of dense layers. p: padding (top, bottom, left, right). before,
    after: shapes (n_h, n_w, n_c) or (n,). groups: of a convolution. biased: whether it has biases. The counts are
    those of `model_profile`.
    """

    name: str
    kind: str  # conv, local, pool or dense
    f: tuple[int, ...]
    p: tuple[int, ...]
    s: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    groups: int
    biased: bool
    parameters: int
    multiply_adds: int
    receptive_field: tuple[float, ...]


@dataclass(frozen=True)
class Question:
    """A question, its answer, and how one gets there."""

    text: str
    answer: str
    worked: str


def layers(model: keras.Model) -> list[Layer]:
    """The convolutions, poolings and dense layers of a model whose sizes are known, in its order."""
    rows = {row.name: row for row in model_profile.rows(model)}
    return [
        _layer(layer, rows[layer.name])
        for layer in model.layers
        if isinstance(layer, (*WINDOWED, keras.layers.Dense)) and layer.name in rows
    ]


def questions(model: keras.Model, count: int, *, seed: int = 0) -> list[Question]:
    """Draw different questions about the layers of a model: sizes, parameters, multiply-adds, receptive fields.

    Args:
        model: with known sizes.
        count: at most as many are drawn; a small network has fewer.
        seed: the same questions for the same seed.

    Raises:
        Fault: the network has no layer to ask about.
    """
    known = [question for layer in layers(model) for question in _about(layer)]
    if not known:
        raise Fault(f"NAME must be a network of convolutions over two axes, {model.name} has none")
    return random.Random(seed).sample(known, min(count, len(known)))


def once(values: Sequence[int]) -> str:
    """3 of (3, 3), 3×5 of (3, 5)."""
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def shape(sizes: Sequence[int]) -> str:
    """28×28×6 of (28, 28, 6)."""
    return "×".join(map(str, sizes))


def padding(layer: Layer) -> str:
    """1 where it is the same everywhere, else each end: top, bottom, left, right."""
    return once(layer.p) if len(set(layer.p)) == 1 else ",".join(map(str, layer.p))


def _layer(layer: keras.Layer, row: model_profile.Row) -> Layer:
    before, after = tuple(layer.input.shape[1:]), tuple(row.output_shape)
    window = tuple(getattr(layer, "kernel_size", getattr(layer, "pool_size", ())))
    strides = tuple(layer.strides) if window else ()
    pads: list[int] = []
    for n, f, s, places in zip(before, window, strides, after, strict=False):
        missing = max((places - 1) * s + f - n, 0) if layer.padding == "same" else 0
        pads += [missing // 2, missing - missing // 2]
    kinds = {keras.layers.Conv2D: "conv", LocallyConnected2D: "local", keras.layers.Dense: "dense"}
    kind = next((kind for known, kind in kinds.items() if isinstance(layer, known)), "pool")
    return Layer(
        row.name,
        kind,
        window,
        tuple(pads),
        strides,
        before,
        after,
        getattr(layer, "groups", 1),
        bool(getattr(layer, "use_bias", False)),
        row.parameters,
        row.multiply_adds,
        row.receptive_field,
    )


def _about(layer: Layer) -> Iterator[Question]:
    """What can be asked about a layer."""
    what = f"{layer.name} ({_said(layer)}) reads {shape(layer.before)}."
    if layer.kind != "dense":
        yield Question(f"{what} Which shape does its output have?", shape(layer.after), _sizes(layer))
    if layer.parameters:
        yield Question(f"{what} How many parameters has it?", f"{layer.parameters:,}", _parameters(layer))
    if layer.multiply_adds:
        yield Question(f"{what} How many multiply-adds does an image take?", f"{layer.multiply_adds:,}", _work(layer))
    if layer.kind != "dense" and layer.receptive_field:
        yield Question(
            f"How many pixels of the image, along each side, does a unit of {layer.name} see?",
            once([int(size) for size in layer.receptive_field]),
            "the field before it grows by (f − 1) times the product of all strides before it",
        )


def _said(layer: Layer) -> str:
    if layer.kind == "dense":
        return f"dense, {layer.after[-1]} units"
    filters = f"{layer.after[-1]} filters, " if layer.kind in ("conv", "local") else ""
    groups = f", {layer.groups} groups" if layer.groups > 1 else ""
    return f"{layer.kind}, {filters}f = {once(layer.f)}, s = {once(layer.s)}, p = {padding(layer)}{groups}"


def _sizes(layer: Layer) -> str:
    sides = []
    for axis in range(2):
        n, f, s = layer.before[axis], layer.f[axis], layer.s[axis]
        p = sum(layer.p[2 * axis : 2 * axis + 2])
        sides.append(f"⌊({n} + {p} − {f})/{s}⌋ + 1 = {layer.after[axis]}")
    channels = "as many channels as filters" if layer.kind in ("conv", "local") else "as many channels as before"
    return f"{'; '.join(dict.fromkeys(sides))}; {channels}: {layer.after[-1]}"


def _parameters(layer: Layer) -> str:
    filters, channels = layer.after[-1], layer.before[-1] // layer.groups
    weights = " · ".join(map(str, (*layer.f, channels)))
    places = " · ".join(map(str, layer.after[:-1])) + " · " if layer.kind == "local" else ""
    return f"{places}({weights}{' + 1' if layer.biased else ''}) · {filters} = {layer.parameters:,}"


def _work(layer: Layer) -> str:
    factors = (*layer.after[:-1], layer.after[-1], *layer.f, layer.before[-1] // layer.groups)
    return f"{' · '.join(map(str, factors))} = {layer.multiply_adds:,}, a weight of each filter at each place"
