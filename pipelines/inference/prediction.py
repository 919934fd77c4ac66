"""What a model predicts of a file, and how a model is asked about files of images, signals and volumes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from rich.console import Console

from cnn_keras.data import input_file
from cnn_keras.data.image_file import normalize, reason
from cnn_keras.errors import Unreadable
from pipelines.data import array_dataset
from pipelines.plots.image_grid import Array

BATCH = 32  # images that a model is asked about at once
DEFAULT = "serving_default"  # the signature that every exported model has


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model predicts of a file. This class itself stands for a file that cannot be read: it has a `problem`."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("answer", "probability", "then")  # of the terminal's table

    path: Path
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"path": str(self.path), **self._values(), "problem": self.problem}

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
        yield from ([one.path, "", "", one.problem or ""] for one in predictions)


class Predictor(Protocol):
    """Asks an exported model about files."""

    suffixes: tuple[str, ...]  # of the files that it takes, in lower case
    noun: str  # what they are called, in the plural

    def predict(self, files: Sequence[Path], console: Console) -> list[Prediction]:
        """A prediction of each file in order; of a video one of each frame."""
        ...


Asking = Callable[[list[Path], list[bytes]], Sequence[Prediction]]  # encoded images of files to their predictions


def ask_images(ask: Asking, files: Iterable[Path]) -> list[Prediction]:
    """Ask about files of images, some at once."""
    return [prediction for batch in batched(files, BATCH) for prediction in _ask_batch(ask, batch)]


def _ask_batch(ask: Asking, files: Sequence[Path]) -> list[Prediction]:
    """One batch; when the graph refuses it, its files are asked about one by one."""
    predictions: dict[Path, Prediction] = {}
    encoded: dict[Path, bytes] = {}
    for file in files:
        try:
            encoded[file] = normalize(input_file.read_bytes(file))[0]
        except (Unreadable, OSError) as error:
            predictions[file] = Prediction(path=file, problem=reason(error))
    try:
        answered = ask(list(encoded), list(encoded.values())) if encoded else []
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        if len(files) > 1:
            return [prediction for file in files for prediction in _ask_batch(ask, [file])]
        return [Prediction(path=files[0], problem=reason(error))]
    predictions |= {prediction.path: prediction for prediction in answered}
    return [predictions[file] for file in files]


def ask_array(file: Path, signature: Any, noun: str, read: Callable[[Path, dict[str, Any]], Prediction]) -> Prediction:
    """Ask about one signal or volume, of any size: the graph gives it the network's, or sees it part by part.

    Args:
        noun: "signal" or "volume".
        read: the file and one row of the answer, NumPy arrays by name, to the prediction.
    """
    channels = signature.structured_input_signature[1][noun].shape[-1]
    try:
        values = array_dataset.library(noun).read(file)[0]
        if values.shape[-1] != channels:
            return Prediction(path=file, problem=f"it must have {channels} channels, got {values.shape[-1]}")
        answered = signature(**{noun: tf.constant(values[None])})
    except (Unreadable, OSError, tf.errors.InvalidArgumentError) as error:
        return Prediction(path=file, problem=reason(error))
    return read(file, {key: value.numpy()[0] for key, value in answered.items()})


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` values; the last may be shorter."""
    source = iter(values)
    while batch := list(islice(source, size)):
        yield batch


def pixels(path: Path) -> Array:
    """A picture of what is in a file: uint8 (height, width, 3), or (height, width) of a volume."""
    for noun in ("signal", "volume"):
        library = array_dataset.library(noun)
        if path.name.lower().endswith(library.SUFFIXES):
            pictured: Array = array_dataset.pictured(library.read(path)[0])
            return pictured
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
