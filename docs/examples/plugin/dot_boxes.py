"""The same for a detector: where are the dots? A network of YOLO's family, a loss, a metric and a source."""

from functools import partial

import dots

from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.models import yolo
from cnn_keras.models.yolo import decode, loss  # noqa: F401  # what makes the module a family of detectors


def finder(*, input_shape=(32, 32, 3), classes=1, anchors=None, filters=4):
    """The smallest YOLO, with few filters.

    The module of a detector's builder has `loss` and `decode`, which know what its outputs mean; here they are YOLO's.
    """
    return yolo.yolo_small(input_shape=input_shape, classes=classes, anchors=anchors, filters=filters)


def box_heavy(network, outputs, **truth):
    """YOLO's loss with twice the weight on where a box is.

    The loss of a detector takes the network, its outputs and the truth, `boxes` and `classes`, to scalars by name.
    """
    terms = loss(network, outputs, **truth)
    return {**terms, "box": 2 * terms["box"]}


def sure_share(truth, results) -> float:
    """How many boxes have a score above one half, for each that is there.

    A metric of detectors takes the truth of a split and what was found, both in COCO's formats.
    """
    sure = sum(result["score"] > 0.5 for result in results)
    return sure / len(truth["annotations"])


def boxed_dots() -> Annotations:
    """The 120 pictures of `dots` with the boxes of their dots."""
    items = [
        Item(
            f"{row:03d}.png",
            partial(dots.drawn, row),
            tuple(Object(tuple(map(float, box)), "dot") for box in dots.boxes(row)),
        )
        for row in range(120)
    ]
    return Annotations(items, ("dot",))
