"""What a model predicts of an image, a signal or a volume, and how a model is asked about them."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console

from cnn_keras.data.files import input_file
from cnn_keras.data.files.image_file import normalize, reason
from cnn_keras.errors import Unreadable
from pipelines.data import array_dataset
from pipelines.plots.image_grid import Array

BATCH = 32  # images that a model is asked about at once
DEFAULT = "serving_default"  # the signature that every exported model has

Source = Path | bytes | Array  # a file, an encoded image, or a signal or volume, its channels last


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model predicts of a source. This class itself stands for one that cannot be read: it has a `problem`."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("answer", "probability", "then")  # of the terminal's table

    source: Source
    problem: str | None = None

    @property
    def path(self) -> Path | None:
        """The file, if it was one."""
        return self.source if isinstance(self.source, Path) else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"path": str(self.path) if self.path else None, **self._values(), "problem": self.problem}

    def _values(self) -> dict[str, Any]:
        return {"classes": []}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        """What stands in COLUMNS, in Rich's markup; of a video `later` are the predictions of the further frames."""
        return ()

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        """Write the picture, or the video whose further frames `later` are, with what is predicted of it.

        Args:
            path: a PNG file; of a video its suffix becomes .mp4.
        """

    @classmethod
    def table(cls, predictions: "Sequence[Prediction]") -> Iterator[Sequence[Any]]:
        """The rows of a CSV file, its header first."""
        yield ["path", "label", "probability", "problem"]
        yield from ([prediction.path, "", "", prediction.problem or ""] for prediction in predictions)


class Predictor(Protocol):
    """Asks an exported model."""

    input: str  # what it takes: "image", "signal" or "volume"
    suffixes: tuple[str, ...]  # of the files that it takes, in lower case

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        """A prediction of each source in order; of a video one of each frame."""
        ...


Asking = Callable[[list[Source], list[bytes]], Sequence[Prediction]]  # encoded images of sources to their predictions


def ask_images(ask: Asking, sources: Iterable[Source]) -> list[Prediction]:
    """Ask about images, some at once."""
    return [prediction for batch in batched(sources, BATCH) for prediction in _ask_batch(ask, batch)]


def _ask_batch(ask: Asking, sources: Sequence[Source]) -> list[Prediction]:
    """One batch; when the graph refuses it, its images are asked about one by one."""
    predictions: dict[int, Prediction] = {}
    encoded: dict[int, bytes] = {}
    for row, source in enumerate(sources):
        try:
            file: Any = source  # or its bytes; arrays are asked about by `ask_array`
            encoded[row] = normalize(file if isinstance(file, bytes) else input_file.read_bytes(file))[0]
        except (Unreadable, OSError) as error:
            predictions[row] = Prediction(source=source, problem=reason(error))
    try:
        answers = ask([sources[row] for row in encoded], list(encoded.values())) if encoded else []
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        if len(sources) > 1:
            return [prediction for source in sources for prediction in _ask_batch(ask, [source])]
        return [Prediction(source=sources[0], problem=reason(error))]
    predictions |= dict(zip(encoded, answers, strict=True))
    return [predictions[row] for row in range(len(sources))]


def ask_array(
    source: Source,
    signature: Any,
    noun: str,
    read: Callable[[Source, dict[str, Any]], Prediction],
    *,
    load: Callable[[Path], Array] | None = None,
) -> Prediction:
    """Ask about one signal or volume, of any size: the graph gives it the network's, or sees it part by part.

    Args:
        noun: "signal" or "volume".
        read: the source and one row of the answer, NumPy arrays by name, to the prediction.
        load: a file to its values, if not as the library reads this kind.
    """
    channels = signature.structured_input_signature[1][noun].shape[-1]
    load = load or (lambda file: array_dataset.library(noun).read(file)[0])
    try:
        values = np.asarray(load(source) if isinstance(source, Path) else source)
        if values.shape[-1] != channels:
            return Prediction(source=source, problem=f"it must have {channels} channels, got {values.shape[-1]}")
        outputs = signature(**{noun: tf.constant(values[None])})
    except (Unreadable, OSError, tf.errors.InvalidArgumentError) as error:
        return Prediction(source=source, problem=reason(error))
    return read(source, {key: value.numpy()[0] for key, value in outputs.items()})


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` values; the last may be shorter."""
    source = iter(values)
    while batch := list(islice(source, size)):
        yield batch


def pixels(source: Source) -> Array:
    """A picture of a source: uint8 (height, width, 3), or (height, width) of a volume."""
    for noun in ("signal", "volume"):
        library = array_dataset.library(noun)
        is_series = noun == "volume" and isinstance(source, Path) and source.is_dir()
        if isinstance(source, Path) and (is_series or source.name.lower().endswith(library.SUFFIXES)):
            source = library.read(source)[0]
    if isinstance(source, np.ndarray):
        picture: Array = array_dataset.draw_array(source)
        return picture
    data = source if isinstance(source, bytes) else input_file.read_bytes(source)
    with Image.open(io.BytesIO(normalize(data)[0])) as image:
        return np.asarray(image.convert("RGB"))
