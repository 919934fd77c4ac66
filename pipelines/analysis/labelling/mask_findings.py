"""Where a segmenter and the masks of its pictures differ: what `cnn review` lists and draws.

A finding is all pixels of a picture that are annotated as one class and answered as another. It is the more
suspicious, the surer the answer is and the larger its part of what is annotated or answered so, whichever is smaller:
an object that is missed, or found where none is annotated, comes before a border that is a little off, whatever their
sizes.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from pipelines.analysis.labelling.finding import MISSED, NOT_ANNOTATED, WRONG_CLASS, Finding, Findings, Picture
from pipelines.data import validation
from pipelines.engine.stages import Run
from pipelines.plots import overlays
from pipelines.plots.image_grid import Array
from pipelines.tasks.segment import records
from pipelines.tasks.segment.model import Segmenter, load_trained

LEAST = 1e-3  # of the pixels, that a difference must have
SIDE = 800  # pixels of the longer side of either picture
GAP = 8  # pixels between the two
EDGE = (255, 255, 255)  # around the pixels that differ


class Difference(NamedTuple):
    """Pixels that are annotated as one class and answered as another.

    Attributes:
        truth: the number of the class that is annotated.
        answer: of that which is answered.
        score: the mean confidence of the answer there.
        quality: of the label, 0 to 1.
    """

    truth: int
    answer: int
    score: float
    quality: float


def differences(truth: Array, labels: Array, confidence: Array) -> list[Difference]:
    """What differs in a picture.

    Args:
        truth: integers (height, width), below 0 where nobody knows.
        labels: integers (height, width), the answer.
        confidence: float (height, width), the probability of the answer.
    """
    known = truth >= 0
    wrong = known & (truth != labels)
    found = []
    for one, another in np.unique(np.stack([truth[wrong], labels[wrong]], axis=1).astype(int), axis=0).tolist():
        own, other = known & (truth == one), known & (labels == another)
        region = own & other
        if region.sum() >= LEAST * known.sum():
            share = confidence[region].sum() / min(own.sum(), other.sum())
            found.append(Difference(one, another, float(confidence[region].mean()), 1 - float(share)))
    return found


def find(name: str, sources: list[tuple[Run, str]]) -> Findings:
    """The differences in pictures that the segmenters of these runs were not trained on, by the split of each."""
    names = sources[0][0].facts("prepare")["classes"]
    rows: list[Finding] = []
    pictures: list[Picture] = []
    for source, (run, split) in enumerate(sources):
        total, ask = run.facts("prepare")["splits"][split], _asked(run)
        with validation.progress(run.console) as bar:
            examples = bar.track(records.of_run(run, split), total=total, description="asking the network")
            for place, example in enumerate(examples):
                for one in differences(example.truth, *ask(example.image)):
                    rows.append(_finding(len(pictures), one, names))
                    pictures.append(Picture(example.id, source, place, classes=(one.truth, one.answer)))
    rows.sort(key=lambda row: row.quality)
    return Findings(name, rows, pictures, sources, names)


def encoded(findings: Findings, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """The true classes over these pictures and the answer beside them, as PNG; what a finding is about has an edge."""
    for source, (run, split) in enumerate(findings.sources):
        wanted: dict[int, list[int]] = {}
        for number in numbers:
            if findings.pictures[number].source == source:
                wanted.setdefault(findings.pictures[number].place, []).append(number)
        ask = _asked(run)
        for place, example in enumerate(records.of_run(run, split)):
            if place in wanted:
                labels, _ = ask(example.image)
                for number in wanted[place]:
                    classes = findings.pictures[number].classes
                    yield number, _png(draw(example.image, example.truth, labels, classes, findings.classes))


def draw(image: Array, truth: Array, labels: Array, classes: tuple[int, ...], names: Sequence[str]) -> Array:
    """A picture twice, uint8 (height, 2 · width + GAP, 3): under what is annotated, and under the answer.

    Args:
        image: uint8 (height, width, channels), made smaller to SIDE.
        truth: integers (height, width), below 0 where nobody knows; `labels`, the answer, too.
        classes: the annotated and the answered class of the pixels that get an edge.
    """
    step = -(-max(image.shape[:2]) // SIDE)
    image, truth, labels = (values[::step, ::step] for values in (image, truth, labels))
    region = (truth == classes[0]) & (labels == classes[1])
    edge = ndimage.binary_dilation(region) & ~region
    halves = []
    for numbers in (truth, labels):
        half = overlays.paint_classes(image, numbers.astype(np.int64), names)
        half[edge] = EDGE
        halves.append(half)
    return np.concatenate([halves[0], np.full((len(image), GAP, 3), 255, np.uint8), halves[1]], axis=1)


def _asked(run: Run) -> Callable[[Array], tuple[Array, Array]]:
    """What gives classes and confidence, (height, width), of a picture."""
    ask = Segmenter(load_trained(run), run.recipe.data).asked()

    def answer(image: Array) -> tuple[Array, Array]:
        prediction = ask(image)
        return prediction.labels.numpy(), prediction.confidence.numpy()

    return answer


def _finding(picture: int, one: Difference, names: Sequence[str]) -> Finding:
    """Ground is nothing: what is annotated as ground is not annotated, what is answered as ground is missed."""
    label, prediction = ("" if _is_ground(number, names) else names[number] for number in (one.truth, one.answer))
    kind = WRONG_CLASS if label and prediction else MISSED if label else NOT_ANNOTATED
    return Finding(picture, kind, label, prediction, one.score, one.quality)


def _is_ground(number: int, names: Sequence[str]) -> bool:
    return number == 0 and names[0].lower() in overlays.GROUND


def _png(pixels: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
