"""Labelled measurements – signals and volumes: what their recipes have in common."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from pipelines.data import source_files
from pipelines.data.schema import Fraction, RecipePath, RecipePaths, Section


class Data(Section):
    """Where the measurements come from; the tasks add the size."""

    layout: ClassVar[str] = "folder"  # the source of `also` where `source` reads no path

    source: str  # a set that comes along, or folder
    path: RecipePath | None = None  # of folder and of files of the archives
    # paths of further data that trains, too; validation and test stay what they are without it
    also: RecipePaths = ()
    classes: tuple[str, ...] | None = None  # the classes to use, in their order
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    # how an example of another length gets this size: resampled, or cut and padded
    fit: Literal["stretch", "crop"] = "stretch"
    validation: Fraction = 0.1  # share that chooses the best epoch, unless the source prescribes a split
    test: Fraction = 0.2  # share that measures, unless the source prescribes a split
    normalize: Literal["standardise", "each"] = "standardise"  # by the training split, or each example by itself
    max_bad: Fraction = 0.1  # a larger share of unusable files is refused
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # more than that is refused


class Augment(Section):
    """One step of how training moves an example; see `cnn_keras.data.array_dataset.augmentation`."""

    jitter: Annotated[float, Field(ge=0)] = 0.0  # σ of noise, as a share of the example's own
    scale: Fraction = 0.0  # the most that all values grow or shrink by, 0.1 for a tenth
    shift: Fraction = 0.0  # the most that an example is moved along each axis, of its length
    flip: tuple[Annotated[int, Field(ge=0)], ...] = ()  # axes, from 0, that are reversed half of the time
    # the longest stretch, or the sides of the largest block, whose values become their mean; of the length of each axis
    mask: Fraction = 0.0


def depends(stage: str, recipe: Any) -> dict[str, Any]:
    """What a stage's result depends on besides the recipe's sections and the code."""
    match stage:
        case "prepare":
            return {"files": source_files.digest_with_further_data(recipe.data, files_digest)}
        case "export" if recipe.export.dropout_samples:
            return {"dropout_samples": recipe.evaluate.dropout_samples}
        case _:
            return {}


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source in ("folder", "ts", "wfdb"):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None:
        return None
    if data.source == "ts" and not input_file.is_folder(data.path):  # whose other half is beside it
        return source_files.files_digest(data.path, *data.path.parent.glob(f"*{data.path.suffix}"))
    return source_files.files_digest(data.path)
