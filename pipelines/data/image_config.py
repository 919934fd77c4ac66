"""Labelled images: the data section of a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from pipelines.engine.recipe import Fraction, Positive, RecipePath, Section


class Data(Section):
    """Where the images come from and what shape they are given."""

    source: str  # digits, mnist5k, orl, letters, idx, folder, csv, keras:NAME or tfds:NAME
    path: RecipePath | None = None  # of idx, folder and csv
    classes: tuple[str, ...] | None = None  # names of integer labels, in their order
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    size: tuple[Positive, Positive] = (224, 224)  # height, width
    channels: Literal[1, 3] = 3  # 1 grey, 3 RGB
    # how a picture of another shape gets this size: distorted, cut, or with borders
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    validation: Fraction = 0.1  # share that chooses the best epoch, unless the source prescribes a split
    test: Fraction = 0.2  # share that measures, unless the source prescribes a split
    # mean 0 and variance 1 by channel, minus the mean image, or divided by 255
    normalize: Literal["standardise", "mean_image", "rescale"] = "standardise"
    max_bad: Fraction = 0.1  # a larger share of unusable images is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed
