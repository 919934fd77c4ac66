"""Which trained network content and style are measured with, and why.

Style transfer is as good as what its network has seen. VGG-19 with ImageNet's weights is the literature's; where its
file is not at hand, VGG-16's convolutions from an edge detector, or EfficientNet-Lite0. Random weights are used when
asked for, as a control, and never otherwise.
"""

from typing import NamedTuple

from rich.console import Console

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.weights import catalog
from pipelines.tasks.stylize.config import Loss

RANDOM = "random"
CHOICES = (  # the best first: builder, kind of weights, and what they are
    ("vgg.vgg19", "imagenet", "the network of the paper"),
    ("vgg.vgg16", "edges", "VGG-16 fine-tuned to detect edges"),
    ("efficientnet.efficientnet_lite0", "imagenet", "small, with softer strokes"),
)


class Extractor(NamedTuple):
    """A network, its weights, and what is to be said of the choice."""

    builder: str
    weights: str
    reason: str


def choose_extractor(loss: Loss) -> Extractor:
    """The extractor that the recipe names, or the first of `CHOICES` that is at hand.

    Raises:
        Fault: none is; or the one that is named has no weights.
    """
    if loss.weights and loss.extractor == "auto":
        raise Fault(f"train.loss.extractor must name a builder with weights {loss.weights}, got auto")
    if loss.extractor != "auto":
        usual = next((kind for name, kind, _ in CHOICES if name == loss.extractor), "imagenet")
        weights = RANDOM if loss.untrained else loss.weights or usual
        models.check(loss.extractor, weights=None if loss.untrained else weights)
        return Extractor(loss.extractor, weights, "set in the recipe")
    missing = []
    for builder, weights, what in CHOICES:
        if not catalog.is_cached(builder, weights):
            missing.append(f"{builder} ({weights})")
            continue
        why = f"{what}; {', '.join(missing)} not available" if missing else what
        return Extractor(builder, RANDOM if loss.untrained else weights, why)
    raise Fault(
        f"train.loss.extractor needs a trained network, and none is available: neither {', nor '.join(missing)}. `make "
        f"samples` installs two; VGG-19's file goes into {catalog.cache_folder()}"
    )


def independent(extractor: Extractor) -> Extractor | None:
    """The first choice of another family, which had no say in the painting; None where none is at hand."""
    family = extractor.builder.partition(".")[0]
    others = [row for row in CHOICES if row[0].partition(".")[0] != family and catalog.is_cached(row[0], row[1])]
    return Extractor(others[0][0], others[0][1], "independent") if others else None


def say(extractor: Extractor, console: Console) -> None:
    """Which network, and why; a control is called one."""
    name = f"{extractor.builder} ({extractor.weights})"
    console.print(f"          extractor [bold]{name}[/]: {extractor.reason}")
    if extractor.weights == RANDOM:
        console.print("          [red]random weights[/], as requested: a control that cannot transfer style")
