"""Extractors: the trained network in whose eyes content and style are measured – which one, and why.

Style transfer is as good as what its network has seen. VGG-19 with ImageNet's weights is the literature's; where its
file is not at hand, VGG-16's convolutions from an edge detector, or EfficientNet-Lite0. Random weights are used when
asked for, as a control, and never otherwise.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.weights import catalog
from pipelines.engine.recipe import GivenWeights, Section

if TYPE_CHECKING:
    from rich.console import Console

    from cnn_keras.losses.style import Objective
    from cnn_keras.models.stylize import Taps

RANDOM = "random"
CHOICES = (  # the best first: builder, kind of weights, and what they are
    ("vgg.vgg19", "imagenet", "the network of the paper"),
    ("vgg.vgg16", "edges", "VGG-16 taught to find edges after ImageNet"),
    ("efficientnet.efficientnet_lite0", "imagenet", "small, and gentler with the strokes"),
)
Amount = Annotated[float, Field(ge=0)]


class Loss(Section):
    """What a painting is judged by: J of `cnn_keras.losses.style`."""

    extractor: str = "auto"  # a builder of the catalogue, or the best that is at hand
    weights: GivenWeights | None = None  # the extractor's: imagenet, edges, or a file
    untrained: bool = False  # random weights: a control, from which no style is to be expected
    pooling: Literal["max", "average"] = "max"  # of the extractor: as trained, or averages, which paint smoother
    content_layers: dict[str, Amount] | None = None  # by layer what it counts; the extractor's own unless given
    style_layers: dict[str, Amount] | None = None  # the same of the style
    content: Amount = 1.0  # what the content counts
    style: Amount = 100.0  # what the style counts
    variation: Amount = 0.001  # what differences between neighbouring pixels count
    histogram: Amount = 0.0  # what histograms of features count


class Extractor(NamedTuple):
    """A network, its weights, and what is to be said of the choice."""

    builder: str
    weights: str
    said: str


def chosen(loss: Loss) -> Extractor:
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
        return Extractor(loss.extractor, weights, "as the recipe says")
    missing = []
    for builder, weights, what in CHOICES:
        if not catalog.at_hand(builder, weights):
            missing.append(f"{builder} ({weights})")
            continue
        why = f"{what}; {', '.join(missing)} not at hand" if missing else what
        return Extractor(builder, RANDOM if loss.untrained else weights, why)
    raise Fault(
        f"train.loss.extractor needs a trained network, and none is at hand: neither {', nor '.join(missing)}. `make "
        f"samples` installs two; VGG-19's file goes into {catalog.cache()}"
    )


def independent(extractor: Extractor) -> Extractor | None:
    """The first choice of another family, which had no say in the painting; None where none is at hand."""
    family = extractor.builder.partition(".")[0]
    others = [row for row in CHOICES if row[0].partition(".")[0] != family and catalog.at_hand(row[0], row[1])]
    return Extractor(others[0][0], others[0][1], "independent") if others else None


def say(extractor: Extractor, console: "Console") -> None:
    """Which network, and why; a control is called one."""
    name = f"{extractor.builder} ({extractor.weights})"
    console.print(f"          extractor [bold]{name}[/]: {extractor.said}")
    if extractor.weights == RANDOM:
        console.print(
            "          [red]random weights[/], as asked for: a control, from which no style is to be expected"
        )


def taps(extractor: Extractor, loss: Loss | None = None) -> "Taps":
    """The layers that are looked at: those of the loss, or the extractor's own.

    Raises:
        Fault: neither says.
    """
    from cnn_keras.models.stylize import TAPS, Taps

    known = TAPS.get(extractor.builder)
    content = (loss.content_layers if loss else None) or (known.content if known else None)
    style = (loss.style_layers if loss else None) or (known.style if known else None)
    if not content or not style:
        raise Fault(
            f"train.loss.content_layers and style_layers must be given for {extractor.builder}, got none; those of "
            f"{', '.join(TAPS)} are known"
        )
    return Taps(content, style)


def objective(extractor: Extractor, loss: Loss | None, reference: Any) -> "Objective":
    """J in the eyes of the extractor; without a loss, its own layers and terms that count the same.

    Args:
        reference: the styles, uint8 (height, width, 3) each.
    """
    import numpy as np

    from cnn_keras.losses.style import Objective, Weights
    from cnn_keras.models import stylize

    tapped = taps(extractor, loss)
    names = list(dict.fromkeys([*tapped.content, *tapped.style]))
    pooling = loss.pooling if loss else "max"
    tower = stylize.tower(extractor.builder, names, weights=extractor.weights, pooling=pooling)
    weights = Weights(loss.content, loss.style, loss.variation, loss.histogram) if loss else Weights()
    images = [image[None].astype(np.float32) for image in reference]
    return Objective(tower, tapped.content, tapped.style, weights, reference=images)


def fingerprint(extractor: Extractor) -> dict[str, Any]:
    """What a result depends on of the choice."""
    return {"extractor": f"{extractor.builder} {extractor.weights}"}


def check(loss: Loss) -> None:
    """Raise a Fault unless there is such a network with such layers; nothing is loaded but its builder."""
    extractor = chosen(loss)
    tapped = taps(extractor, loss)
    if loss.content_layers or loss.style_layers:
        from cnn_keras.models import stylize

        stylize.tower(extractor.builder, [*tapped.content, *tapped.style], weights=RANDOM)
