"""Heat maps: which parts of an example a model's answer rests on, for the reports and for `cnn predict --why`.

A task has an `Explainer`, which knows the score that is explained; the mathematics, and the papers, are in
`cnn_keras.learn.visualization`. The pictures of classifiers of images are in
`pipelines.engine.classification.visualization`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras import inference
from cnn_keras.learn import visualization
from pipelines.data import array_dataset
from pipelines.engine.classification import ensemble, label_kind
from pipelines.plots import image_grid, overlays
from pipelines.plots.image_grid import Array, Scale, Strip

SHOWN = 4  # examples in a report
FILE = "heat_maps.png"
COLUMNS = {
    2: ("example", "evidence"),
    3: ("example", "answer", "evidence"),
    4: ("one", "evidence", "other", "evidence"),
}

# Examples as they are in their files to the answers to each, every one a strip: its name, what is said of it, pictures.
Explainer = Callable[[Sequence[Array]], list[list[Strip]]]


def report(explain: Explainer, examples: Iterable[tuple[Array, str]], folder: Path, *, heading: str) -> None:
    """Draw the answers to the first few (example, id) of a split; nothing where there is no answer."""
    sample = list(islice(examples, SHOWN))
    explanations = (
        zip(explain([example for example, _ in sample]), [name for _, name in sample], strict=True) if sample else ()
    )
    strips = [strip._replace(detail=name) for strips, name in explanations for strip in strips]
    if strips:
        draw(strips, folder / FILE, heading=heading)


def draw(strips: Sequence[Strip], path: Path, *, heading: str) -> Path:
    """Draw answers one below the other, the example beside what the answer rests on."""
    scale = Scale(
        "evidence, up to the most of this answer", overlays.coloured(np.linspace(0, 1, 256)[None], overlays.HEAT)
    )
    columns = COLUMNS[len(strips[0].images)]
    return image_grid.strips(strips, path, heading=heading, columns=columns, scales=[scale], size=1.9)


def draw_heat_map(values: Array, heat: Array) -> list[Array]:
    """An example and, beside it, its heat map over it: uint8 pictures of an image, a signal or a volume.

    Args:
        values: uint8 (height, width, channels), or floats (length, channels) or (depth, height, width, channels).
        heat: (*sizes), at least 0.
    """
    match values.ndim:
        case 2:
            return _traced(array_dataset.draw_array(values), heat)
        case 3:
            return [values, overlays.paint_heat_map(values, heat)]
        case _:
            return list(overlays.heated_planes(values, heat))


def classifier(
    model: keras.Model,
    names: Sequence[str],
    frame: Callable[[Array], Array],
    *,
    kind: label_kind.SingleLabel = label_kind.SINGLE,
    thresholds: Array | None = None,
) -> Explainer:
    """What explains the likeliest class by Grad-CAM, or each label that reaches its threshold.

    Args:
        model: to logits; of an ensemble its first member is explained.
        frame: an example as it is in its file to one of the network's size.
        kind: of labels, which makes probabilities of logits.
        thresholds: of any number of labels, (classes,); the likeliest one is explained where none is reached, too.
    """
    network = next(iter(ensemble.members(model)), model)
    ask = inference.predictor(network, lambda batch: kind.activation(network(batch, training=False)))

    def answered(row: Array) -> list[int]:
        reached = [] if thresholds is None else np.flatnonzero(row >= thresholds).tolist()
        return sorted(reached, key=lambda number: float(-row[number])) or [int(row.argmax())]

    def explain(examples: Sequence[Array]) -> list[list[Strip]]:
        images = np.stack([frame(example) for example in examples])
        probabilities: Array = ask(images)
        pairs = [(place, number) for place, row in enumerate(probabilities) for number in answered(row)]
        places, classes = np.array(pairs).T
        heat = visualization.grad_cam(network, images[places], visualization.class_logit, classes)
        strips: list[list[Strip]] = [[] for _ in examples]
        for (place, number), heat_map in zip(pairs, heat, strict=True):
            label = f"{names[number]} ({probabilities[place, number]:.2f})"
            strips[place].append(Strip(label, "", draw_heat_map(images[place], heat_map)))
        return strips

    return explain


def middle_window(values: Array, size: Sequence[int]) -> Array:
    """The middle of an image or volume, (*size, channels), mirrored at its borders where it is smaller."""
    windowed_values: Any = values
    for axis, length in enumerate(size):
        whole = values.shape[axis]
        places = np.mod(np.arange(length) + (whole - length) // 2, 2 * whole)
        windowed_values = np.take(windowed_values, np.minimum(places, 2 * whole - 1 - places), axis=axis)
    return np.asarray(windowed_values)


def _traced(traces: Array, heat: Array) -> list[Array]:
    """The traces of a signal, and them on a ground that is the more coloured the hotter the moment."""
    across = np.linspace(0, len(heat) - 1, traces.shape[1])
    share = np.interp(across, np.arange(len(heat)), heat) / max(float(heat.max()), 1e-12)
    tint = 0.8 * share[:, None]
    ground = (1 - tint) * 255 + tint * overlays.coloured(share, overlays.HEAT)
    return [traces, np.round(traces * (ground / 255)).astype(np.uint8)]
