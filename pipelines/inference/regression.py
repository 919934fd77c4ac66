"""Networks that answer with numbers, each with the interval that it lies in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_images, pixels
from pipelines.plots import image_grid

ENDS = ("value", "low", "high")
OUTPUTS = ("names", "units", "values", "low", "high")


class Number(NamedTuple):
    """A number and the ends of its interval, in its unit."""

    name: str
    unit: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit}".strip()


@dataclass(frozen=True, kw_only=True)
class Regression(Prediction):
    """The numbers of a picture."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("number", "value", "between", "and")

    numbers: tuple[Number, ...]

    def _values(self) -> dict[str, Any]:
        return {"values": [number._asdict() for number in self.numbers]}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        columns = (
            (escape(number.name), str(number), f"{number.low:.4g}", f"{number.high:.4g}") for number in self.numbers
        )
        return tuple("\n".join(column) for column in zip(*columns, strict=True))

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        captions = [f"{number.name} {number}, {number.low:.4g} to {number.high:.4g}" for number in self.numbers]
        image_grid.detections([pixels(self.source)], [captions], path, heading="", size=4)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each file, three columns for each number."""
        rows = [prediction.numbers if isinstance(prediction, Regression) else () for prediction in predictions]
        names = next(([number.name for number in row] for row in rows if row), [])
        yield ["path", *(f"{name}{end}" for name in names for end in ("", " low", " high")), "problem"]
        for prediction, row in zip(predictions, rows, strict=True):
            figures = [f"{getattr(number, end):.6g}" for number in row for end in ENDS]
            yield [prediction.path, *(figures or [""] * (3 * len(names))), prediction.problem or ""]


class Regressor:
    """Asks a network that answers with numbers."""

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any) -> None:
        self._answer = loaded.signatures[DEFAULT]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Regression]:
        outputs = self._answer(image_bytes=tf.constant(encoded, tf.string))
        columns = [outputs[name].numpy().tolist() for name in OUTPUTS]
        return [
            Regression(
                source=source, numbers=tuple(Number(_text(name), _text(unit), *rest) for name, unit, *rest in row)
            )
            for source, row in zip(sources, _rows(columns), strict=True)
        ]


def _rows(columns: Sequence[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """Of columns of lists, (outputs, N, values), the numbers of each picture."""
    for parts in zip(*columns, strict=True):
        yield list(zip(*parts, strict=True))


def _text(name: bytes) -> str:
    return name.decode()
