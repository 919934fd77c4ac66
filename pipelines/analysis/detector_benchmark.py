"""Why detectors became what they are, in seconds: R-CNN, Fast R-CNN, Faster R-CNN and YOLO on the same pictures.

All four stand on the same backbone, and the first three have the same head, so that what is compared is the way: a pass
for every region, a pass for the picture and a head for every region, regions from the network itself, none at all. Time
runs from a picture in memory to its boxes, suppression included. Weights are untrained, which changes what is found
and hardly how long it takes. Selective search, which the first two wait for, is measured apart. And a classifier in
windows: one by one, and all in one pass.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_image

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import rcnn
from cnn_keras.ops import boxes
from cnn_keras.ops.resize import resize_image
from cnn_keras.ops.roi import Proposals
from pipelines.analysis import sliding_window
from pipelines.analysis.sliding_window import Cost
from pipelines.data import image_io
from pipelines.data.boxes import proposals as selective_search
from pipelines.plots.image_grid import Array
from pipelines.tasks.detect.model import family, inputs_for

CLASSES = 20
AT_ONCE = 50  # crops that R-CNN's backbone takes at a time
SLOW = 10  # seconds, of a round that is not repeated
CLASSIFIER, WINDOW = "lenet.lenet5_modern", (32, 32, 3)


class Step(NamedTuple):
    """One detector: what it takes for one picture.

    `regions` are looked at one by one, none by YOLO; `seconds` are the network's, of wall time; `search` those of the
    selective search before it.
    """

    name: str
    regions: int
    seconds: float
    search: float = 0.0

    @property
    def total(self) -> float:
        return self.seconds + self.search


class Ladder(NamedTuple):
    """The detectors from the slowest to the fastest, and the two ways of sliding windows."""

    steps: list[Step]
    windows: Cost


def photographs(paths: Sequence[Path], *, side: int) -> list[Array]:
    """The pictures of these files, or a photograph that scikit-learn brings: uint8 (side, side, 3), 0–255.

    Raises:
        Fault: a file cannot be read as a picture.
    """
    images = [image_io.read(path) for path in paths] if paths else [load_sample_image("china.jpg")]
    return [resize_image(tf.constant(picture), (side, side), fit="crop").numpy() for picture in images]


def measure(
    pictures: Sequence[Array],
    *,
    backbone: str = "resnet.resnet18",
    proposals: int = 2000,
    rounds: int = 3,
    done: Callable[[str], None] = lambda name: None,
) -> Ladder:
    """Measure the four detectors and both kinds of sliding windows.

    Args:
        pictures: uint8 (side, side, 3), all of one size, a multiple of 32.
        backbone: name of a builder of the catalogue with maps of strides 8, 16 and 32.
        proposals: the most that R-CNN and Fast R-CNN are given of each picture.
        rounds: how often each picture is shown to the three fast ones; the median counts. R-CNN sees it once.
        done: told the name of what has been measured.

    Raises:
        Fault: the side does not fit, the backbone has no such map, or OpenCV is missing.
    """
    shape = pictures[0].shape
    if shape[0] % 32:
        raise Fault(f"side must be a multiple of 32, got {shape[0]}")
    region_inputs, search = _searched(pictures, proposals)
    done("selective search")
    common = {"input_shape": shape, "classes": CLASSES, "backbone": backbone}
    regions = round(statistics.mean(len(boxes) for boxes in region_inputs))
    steps = []
    for name, builder, at_once in (("R-CNN", "rcnn.rcnn", AT_ONCE), ("Fast R-CNN", "rcnn.fast_rcnn", None)):
        detect = _by_proposals(models.build(builder, **common), at_once)
        steps.append(Step(name, regions, _seconds(detect, pictures, region_inputs, rounds), search))
        done(name)
    for name, builder in (("Faster R-CNN", "rcnn.faster_rcnn"), ("YOLO", "yolo.yolo")):
        network = models.build(builder, **common)
        own = sum(layer.limit for layer in network.layers if isinstance(layer, Proposals))
        steps.append(Step(name, own, _seconds(_alone(network, builder), pictures, region_inputs, rounds)))
        done(name)
    classifier = models.build(CLASSIFIER, input_shape=WINDOW, classes=10)
    windows = sliding_window.cost(classifier, pictures[0].astype("float32") / 255, repeats=1)
    done("sliding windows")
    return Ladder(steps, windows)


def show(ladder: Ladder, console: Console) -> None:
    """The ladder as a table, and a line about windows."""
    table = Table("detector", "regions", "s/image", "with search", "× faster", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for step in ladder.steps:
        regions = f"{step.regions:,}" if step.regions else "–"
        ratio = f"{ladder.steps[0].total / step.total:,.1f}"
        table.add_row(step.name, regions, f"{step.seconds:.3g}", f"{step.total:.3g}", ratio)
    console.print(table)
    console.print("[dim]untrained weights, one backbone; × faster than the first, search included[/]")
    cost = ladder.windows
    console.print(
        f"{CLASSIFIER} in {cost.windows:,} windows of {WINDOW[0]}: one by one {cost.naive_seconds:.3g} s, at once "
        f"{cost.convolutional_seconds:.3g} s, {cost.faster:.1f} times faster"
    )


def plain(ladder: Ladder) -> dict[str, Any]:
    """The ladder as JSON knows it."""
    first = ladder.steps[0].total
    steps = [{**step._asdict(), "total": step.total, "faster": first / step.total} for step in ladder.steps]
    return {"steps": steps, "windows": {**ladder.windows._asdict(), "faster": ladder.windows.faster}}


def _searched(pictures: Sequence[Array], most: int) -> tuple[list[Any], float]:
    """The proposals of each picture, and the seconds that the search took for one."""
    boxes, started = [], time.perf_counter()
    for picture in pictures:
        boxes.append(selective_search.proposals(picture, most=most))
    return boxes, (time.perf_counter() - started) / len(pictures)


def _by_proposals(network: Any, at_once: int | None) -> Callable[[Any, Any], Any]:
    """A picture and its proposals to its detections; the network takes so many proposals at a time, or all."""

    def outputs(image: Any, regions: Any) -> Any:
        return network({"image": image, "proposals": regions}, training=False)

    def detections(regions: Any) -> Any:
        return boxes.non_max_suppression(*rcnn.decode(network, regions))

    ask, read = (tf.function(part, autograph=False, reduce_retracing=True) for part in (outputs, detections))

    def detect(image: Any, regions: Any) -> Any:
        count = len(regions)
        step = at_once or count
        padded = tf.pad(regions, [[0, -count % step], [0, 0]])[None]
        parts = [ask(image, padded[:, at : at + step]) for at in range(0, count, step)]
        return read({key: tf.concat([part[key] for part in parts], axis=1) for key in parts[0]})

    return detect


def _alone(network: Any, builder: str) -> Callable[[Any, Any], Any]:
    """A picture to its detections; proposals are not looked at."""
    kind = family(builder)

    def detect(image: Any) -> Any:
        outputs = network(inputs_for(network, image), training=False)
        return boxes.non_max_suppression(*kind.decode(network, outputs))

    ask = tf.function(detect, autograph=False)
    return lambda image, regions: ask(image)


def _seconds(detect: Callable[[Any, Any], Any], pictures: Any, inputs: Any, rounds: int) -> float:
    """Seconds for one picture: the median of the rounds, of which slow detectors have only one."""
    pairs = [
        (tf.constant(picture[None] / 255, tf.float32), tf.constant(regions))
        for picture, regions in zip(pictures, inputs, strict=True)
    ]
    for count in (AT_ONCE, AT_ONCE + 1):  # compiled, for any number
        detect(pairs[0][0], pairs[0][1][:count])
    durations: list[float] = []
    while len(durations) < rounds and not (durations and durations[0] > SLOW):
        started = time.perf_counter()
        for image, regions in pairs:
            detect(image, regions)
        durations.append((time.perf_counter() - started) / len(pairs))
    return statistics.median(durations)
