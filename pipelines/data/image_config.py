"""Labelled images: the data section of a recipe, and the digest of the files that it names."""

import contextlib
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.data.files import file_tree
from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.data.schema import Fraction, Positive, RecipePath, RecipePaths, Section

WHITENED = ("zca", "pca")  # by a matrix over all values of an image
WHITENED_VALUES = 4096  # of an image, at most
IN_FILES = ("folder", "csv", "webdataset", "tfrecord")  # sources whose images may stay where they are


class Data(Section):
    """Where the images come from and what shape they are given."""

    layout: ClassVar[str] = "folder"  # the source of `also` where `source` reads no path

    source: str  # digits, mnist5k, orl, letters, omniglot, idx, folder, csv, webdataset, tfrecord, keras:… or tfds:…
    path: RecipePath | None = None  # of idx, folder, csv, webdataset and tfrecord
    # paths of further data that trains, too; validation and test stay what they are without it
    also: RecipePaths = ()
    classes: tuple[str, ...] | None = None  # names of integer labels, in their order
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    size: tuple[Positive, Positive] = (224, 224)  # height, width
    channels: Literal[1, 3] = 3  # 1 grey, 3 RGB
    # how a picture of another shape gets this size: distorted, cut, or with borders
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    validation: Fraction = 0.1  # share that chooses the best epoch, unless the source prescribes a split
    test: Fraction = 0.2  # share that measures, unless the source prescribes a split
    # mean 0 and variance 1 by channel, minus the mean of each channel, minus the mean image, divided by 255, or
    # whitened: values of variance 1 without correlations, as pixels (zca) or as principal components (pca)
    normalize: Literal["standardise", "mean", "mean_image", "rescale", "zca", "pca"] = "standardise"
    max_bad: Fraction = 0.1  # a larger share of unusable images is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed
    # images stay in their files, of source folder, csv, webdataset or tfrecord, and are read from there
    in_place: bool = False

    @model_validator(mode="after")
    def _has_files(self) -> Self:
        if self.in_place and self.source not in IN_FILES:
            raise ValueError(f"in_place requires source: {', '.join(IN_FILES)}, got {self.source}")
        return self

    @model_validator(mode="after")
    def _is_small_enough_to_whiten(self) -> Self:
        values = math.prod((*self.size, self.channels))
        if self.normalize in WHITENED and values > WHITENED_VALUES:
            raise ValueError(
                f"normalize: {self.normalize} requires images of at most {WHITENED_VALUES:,} values, for its matrix "
                f"has their square, got {values:,}; choose a smaller size, or standardise"
            )
        return self


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read but a CSV list.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source in (*IN_FILES, "idx"):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None:
        return None
    lists: list[Path] = []
    if data.source == "csv":
        with contextlib.suppress(Fault):  # reading the source will say what is wrong
            lists = [
                file_tree.file_named(data.path.parent, row["path"]) for _, row in file_tree.rows(data.path, ("path",))
            ]
    return source_files.files_digest(data.path, *lists)
