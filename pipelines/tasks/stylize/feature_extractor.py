"""The feature extractor: the layers that content and style are measured in, and the objective J made of them."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cnn_keras.errors import Fault
from cnn_keras.losses.style import Objective, Weights
from cnn_keras.models import stylize
from cnn_keras.models.stylize import TAPS, Taps
from pipelines.tasks.stylize import dataset, extractor_choice
from pipelines.tasks.stylize.config import Loss
from pipelines.tasks.stylize.extractor_choice import RANDOM, Extractor


def taps(extractor: Extractor, loss: Loss | None = None) -> Taps:
    """The layers that are looked at: those of the loss, or the extractor's own.

    Raises:
        Fault: neither says.
    """
    known = TAPS.get(extractor.builder)
    content = (loss.content_layers if loss else None) or (known.content if known else None)
    style = (loss.style_layers if loss else None) or (known.style if known else None)
    if not content or not style:
        raise Fault(
            f"train.loss.content_layers and style_layers must be given for {extractor.builder}, got none; those of "
            f"{', '.join(TAPS)} are known"
        )
    return Taps(content, style)


def objective(extractor: Extractor, loss: Loss | None, reference: Any) -> Objective:
    """J in the eyes of the extractor; without a loss, its own layers and terms that count the same.

    Args:
        reference: the styles, uint8 (height, width, 3) each.
    """
    tapped = taps(extractor, loss)
    names = list(dict.fromkeys([*tapped.content, *tapped.style]))
    pooling = loss.pooling if loss else "max"
    tower = stylize.tower(extractor.builder, names, weights=extractor.weights, pooling=pooling)
    weights = Weights(loss.content, loss.style, loss.variation, loss.histogram) if loss else Weights()
    images = [image[None].astype(np.float32) for image in reference]
    return Objective(tower, tapped.content, tapped.style, weights, reference=images)


def objective_of(loss: Any, prepared: Path, *, console: Console | None = None) -> tuple[Objective, Any]:
    """J of the run's loss, on which its extractor is told, and that extractor."""
    extractor = extractor_choice.choose_extractor(loss)
    if console:
        extractor_choice.say(extractor, console)
    reference = [style.pixels for style in dataset.styles(prepared)]
    return objective(extractor, loss, reference), extractor


def check(loss: Loss) -> None:
    """Raise a Fault unless there is such a network with such layers; nothing is loaded but its builder."""
    extractor = extractor_choice.choose_extractor(loss)
    tapped = taps(extractor, loss)
    if loss.content_layers or loss.style_layers:
        stylize.tower(extractor.builder, [*tapped.content, *tapped.style], weights=RANDOM)
