"""What answers to pictures are like, in numbers that can be compared: for `cnn drift` and `/metrics`.

Of a picture there is one number of each kind, also where it shows several objects: these are alike, and tests count on
independent numbers. Needs no TensorFlow: servers without it count their answers here, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NOTHING = "nothing"  # the class of a picture in which nothing is found
OF = " of "  # between a quantity and what it is of: "share of road"


class Answers(NamedTuple):
    """The answers to some pictures.

    Attributes:
        quantities: numbers by name, one of a picture:
            of a classifier `confidence`, the largest probability;
            of a detector or localizer `objects`, how many; `score`, of the likeliest object, 0 without any; `box_side`,
            the median of the square roots of the boxes' areas, in pixels of the picture as it came, of pictures with
            objects alone;
            of a segmenter `confidence`, the mean over the pixels of the largest probability, and `share of CLASS`;
            of a regressor `value of NAME`; of steering `angle`.
        classes: of each picture that of its likeliest answer; [] where there is none.
    """

    quantities: dict[str, list[float]]
    classes: list[str]


def measure(outputs: Mapping[str, Array], names: Sequence[str] = ()) -> Answers:
    """Measure what an exported model gives for N pictures, by the names of its outputs.

    Args:
        outputs: arrays with N rows; all that is not known is left out.
        names: of the classes of `probabilities`.
    """
    if {"boxes", "scores", "count"} <= outputs.keys():
        return _objects(outputs)
    if {"shares", "confidence", "classes"} <= outputs.keys():
        shares, legend = outputs["shares"], _texts(outputs["classes"][0])
        confidence = (shares * outputs["confidence"]).sum(axis=1).tolist()
        parts = {f"share{OF}{name}": column.tolist() for name, column in zip(legend, shares.T, strict=True)}
        return Answers({"confidence": confidence, **parts}, [])
    if {"values", "names"} <= outputs.keys():
        columns = zip(_texts(outputs["names"][0]), outputs["values"].T, strict=True)
        return Answers({f"value{OF}{name}": column.tolist() for name, column in columns}, [])
    if "angle" in outputs:
        return Answers({"angle": outputs["angle"].tolist()}, [])
    if "probabilities" in outputs:
        probabilities = outputs["probabilities"]
        classes = [names[place] for place in probabilities.argmax(axis=1)]
        return Answers({"confidence": probabilities.max(axis=1).tolist()}, classes)
    if {"scores", "classes"} <= outputs.keys():
        scores = outputs["scores"]
        best = outputs["classes"][np.arange(len(scores)), scores.argmax(axis=1)]
        return Answers({"confidence": scores.max(axis=1).tolist()}, _texts(best))
    return Answers({}, [])


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers to several parts, in one."""
    names = dict.fromkeys(name for part in parts for name in part.quantities)
    quantities = {name: [value for part in parts for value in part.quantities.get(name, ())] for name in names}
    return Answers(quantities, [name for part in parts for name in part.classes])


def _objects(outputs: Mapping[str, Array]) -> Answers:
    counts, scores = outputs["count"].reshape(-1), outputs["scores"]
    left, top, right, bottom = np.moveaxis(np.asarray(outputs["boxes"], np.float64), -1, 0)
    sides = np.sqrt(np.maximum(right - left, 0) * np.maximum(bottom - top, 0))
    best = [float(row[:count].max(initial=0)) for row, count in zip(scores, counts, strict=True)]
    quantities = {"objects": counts.astype(float).tolist(), "score": best}
    quantities["box_side"] = [float(np.median(row[:count])) for row, count in zip(sides, counts, strict=True) if count]
    labels = outputs.get("label")
    rows = () if labels is None else zip(labels, scores, counts, strict=True)
    return Answers(
        quantities, [_texts(row[[own[:count].argmax()]])[0] if count else NOTHING for row, own, count in rows]
    )


def _texts(values: Array) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist()]
