"""Slide: a trained classifier asked about every window of a larger picture, drawn as heat maps, and what it costs."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.learn import dense_classifier
from cnn_keras.learn.dense_classifier import FullyConvolutional, Windows
from cnn_keras.ops.boxes import Detections
from pipelines.data import run_files
from pipelines.engine import stages
from pipelines.export import savedmodel
from pipelines.plots import annotate, image_grid
from pipelines.plots.image_grid import Array

SHOWN = 10  # classes that have a heat map of their own
SIDE = 2.6  # inches of a picture
HEAT = "inferno"  # as bright in grey as in colour


class Cost(NamedTuple):
    """Naive against convolutional windows on one picture, at the network's stride.

    Multiply-adds are counted; seconds are the median of some repetitions, after one that compiled. The difference is
    the largest between two probabilities, and `padded` the number of layers that make it more than rounding.
    """

    windows: int
    stride: tuple[int, int]
    naive_multiply_adds: int
    convolutional_multiply_adds: int
    naive_seconds: float
    convolutional_seconds: float
    difference: float
    changed: int  # windows of which the two see another class
    padded: int

    @property
    def fewer(self) -> float:
        """How many times the multiply-adds of one pass the windows one by one need."""
        return self.naive_multiply_adds / self.convolutional_multiply_adds

    @property
    def faster(self) -> float:
        return self.naive_seconds / self.convolutional_seconds


class Sheet(NamedTuple):
    """What was drawn, and what was found: boxes in [0, 1] of the picture."""

    path: Path
    network: FullyConvolutional
    windows: int
    detections: Detections
    names: list[str]


def cost(model: keras.Model, image: Any, *, repeats: int = 3) -> Cost:
    """Run both detectors on a picture and compare them.

    Args:
        model: a classifier that `cnn_keras.learn.dense_classifier.to_fully_convolutional` takes.
        image: array (height, width, channels), of the dtype and range of the model's input.
        repeats: how often each is timed.
    """
    network = dense_classifier.to_fully_convolutional(model)
    one_by_one, first = _timed(lambda: dense_classifier.naive(model, image, stride=network.stride), repeats)
    at_once, second = _timed(lambda: dense_classifier.convolutional(network, image), repeats)
    probabilities = [tf.nn.softmax(windows.logits).numpy() for windows in (one_by_one, at_once)]
    counted = dense_classifier.multiply_adds(model, network, image.shape[:2])
    return Cost(
        windows=int(np.prod(one_by_one.logits.shape[:2])),
        stride=network.stride,
        naive_multiply_adds=counted[0],
        convolutional_multiply_adds=counted[1],
        naive_seconds=first,
        convolutional_seconds=second,
        difference=float(np.abs(probabilities[0] - probabilities[1]).max()),
        changed=int((probabilities[0].argmax(-1) != probabilities[1].argmax(-1)).sum()),
        padded=len(network.padded),
    )


def figures(model: keras.Model, way: str, size: tuple[int, int]) -> dict[str, float]:
    """What one way, `naive` or `convolutional`, costs on a picture of noise of this (height, width), for a claim."""
    image = np.random.default_rng(0).normal(size=(*size, model.input_shape[-1])).astype(np.float32)
    costs = cost(model, image)
    return {
        "windows": costs.windows,
        "multiply_adds": getattr(costs, f"{way}_multiply_adds"),
        "seconds": round(getattr(costs, f"{way}_seconds"), 6),
        "difference": costs.difference,
    }


def _timed(look: Callable[[], Windows], repeats: int) -> tuple[Windows, float]:
    result, seconds = look(), []
    for _ in range(repeats):
        start = time.perf_counter()
        look()
        seconds.append(time.perf_counter() - start)
    return result, sorted(seconds)[len(seconds) // 2]


def load(reference: str, runs: Path) -> tuple[keras.Model, list[str]]:
    """The classifier of a run whose training is finished, and the names of its classes."""
    folder = stages.run_folder(reference, runs)
    data, saved = folder / "prepare" / "data.json", folder / "train" / "model.keras"
    for path in (data, saved):
        if not path.is_file():
            raise Fault(f"RUN must be a run whose training is finished, found no {path}; `cnn train RECIPE`")
    if "classes" not in (facts := run_files.read_json(data)):
        raise Fault(f"RUN must be a classifier, got one of the task {folder.parent.name}")
    return savedmodel.load_keras(saved), list(facts["classes"])


def slide(
    model: keras.Model,
    names: list[str],
    image: Array,
    output: Path,
    *,
    scales: Sequence[float] = (1.0,),
    background: str | None = None,
    threshold: float = 0.9,
    overlap: float = 0.3,
) -> Sheet:
    """Ask about every window of a picture, and draw where each class is, and what is left of it behind suppression.

    Args:
        model: the classifier, from uint8 pictures to logits, and `names`, its classes.
        image: uint8 (height, width, channels), at least as large as what the model takes, at some scale.
        output: the PNG file to write.
        scales: factors by which the picture is resized; a smaller one finds larger things.
        background: the class that stands for nothing; None when every class is something.
        threshold: the least probability of a window that is kept; of two of one class whose IoU is above `overlap`,
            the likelier is.

    Raises:
        Fault: a model that cannot be convolved, an unknown background, a picture that is too small.
    """
    if background is not None and background not in names:
        raise Fault(f"--background must be one of {', '.join(names)}, got {background}")
    if output.suffix.lower() != ".png":
        raise Fault(f"--output must end in .png, got {output}")
    network, passes = dense_classifier.to_fully_convolutional(model), []

    def look(resized: Array) -> Windows:
        passes.append(dense_classifier.convolutional(network, resized))
        return passes[-1]

    background_class = None if background is None else names.index(background)
    detections = dense_classifier.detect(
        look, image, scales=tuple(scales), background=background_class, threshold=threshold, overlap=overlap
    )
    _draw(image, passes, network, detections, names, background_class, output)
    return Sheet(output, network, sum(len(windows.boxes.reshape(-1, 4)) for windows in passes), detections, names)


def _draw(
    image: Array,
    passes: Sequence[Windows],
    network: FullyConvolutional,
    detections: Detections,
    names: Sequence[str],
    background_class: int | None,
    output: Path,
) -> None:
    count = int(detections.count[0])
    places = detections.boxes[0, :count].numpy() * np.tile(image.shape[1::-1], 2)
    classes, scores = detections.classes[0, :count].numpy(), detections.scores[0, :count].numpy()
    labels = [names[number] for number in classes]
    heat = np.max([_heat(windows, network, image.shape[:2]) for windows in passes], axis=0)
    if background_class is not None:
        heat[..., background_class] = 0
    order = sorted(np.argsort(-heat.max(axis=(0, 1)), kind="stable")[:SHOWN].tolist())
    tiles = [
        annotate.draw_boxes(image, places, labels, scores.tolist(), classes=classes.tolist()),
        _heated(image, heat.max(axis=-1)),
        *(_heated(image, heat[..., number]) for number in order if number != background_class),
    ]
    titles = [f"{count} found", "any class", *(names[number] for number in order if number != background_class)]
    many = sum(windows.boxes[..., 0].size for windows in passes)
    apart = "×".join(map(str, network.stride))
    heading = (
        f"{many:,} windows of {'×'.join(map(str, network.window))}, {apart} pixels apart: probability of each class"
    )
    image_grid.contact_sheet(tiles, titles, output, columns=4, heading=heading, size=SIDE)


def _heat(windows: Windows, network: FullyConvolutional, size: tuple[int, int]) -> Array:
    """Probabilities, float32 (height, width, classes), where each window's middle is; 0 at the border."""
    probabilities = tf.nn.softmax(windows.logits).numpy()
    first, last = windows.boxes[0, 0], windows.boxes[-1, -1]
    half = [
        step / side * (box / 2) for step, side, box in zip(network.stride, network.window, _side(first), strict=True)
    ]
    middle = [(box[:2] + box[2:])[::-1] / 2 for box in (first, last)]
    top, left = (round(float(edge)) for edge in (middle[0] - half) * size)
    bottom, right = (round(float(edge)) for edge in (middle[1] + half) * size)
    heat = np.zeros((*size, probabilities.shape[-1]), np.float32)
    heat[top:bottom, left:right] = tf.image.resize(probabilities, (bottom - top, right - left), method="nearest")
    return heat


def _side(box: Array) -> tuple[float, float]:
    """Height and width of a box."""
    return float(box[3] - box[1]), float(box[2] - box[0])


def _heated(image: Array, heat: Array) -> Array:
    """The picture in grey under the colours of probabilities, float (height, width)."""
    grey = image.mean(axis=-1, keepdims=True)
    colours = mpl.colormaps[HEAT](heat)[..., :3] * 255
    mixed: Array = np.round(0.35 * grey + 0.65 * colours).astype(np.uint8)
    return mixed
