"""Networks that steer: an angle, and the interval that it lies in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from PIL import Image
from rich.console import Console

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_images, pixels
from pipelines.plots import annotate

ANGLES = ("angle", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Steering(Prediction):
    """The angle of the wheel, −1 for full left to 1 for full right, and the ends of the interval that it lies in."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("angle", "between", "and")

    angle: float
    low: float
    high: float

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ANGLES}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        return tuple(f"{value:+.3f}" for value in self._values().values())

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        picture = annotate.draw_steering(pixels(self.source), angle=self.angle, interval=(self.low, self.high))
        Image.fromarray(picture).save(path)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each file."""
        yield ["path", *ANGLES, "problem"]
        for prediction in predictions:
            figures = [""] * len(ANGLES)
            if isinstance(prediction, Steering):
                figures = [f"{value:.6f}" for value in prediction._values().values()]
            yield [prediction.path, *figures, prediction.problem or ""]


class Steerer:
    """Asks a network that steers."""

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any) -> None:
        self.steer = loaded.signatures[DEFAULT]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Steering]:
        outputs = self.steer(image_bytes=tf.constant(encoded, tf.string))
        rows = zip(sources, *(outputs[name].numpy().tolist() for name in ANGLES), strict=True)
        return [Steering(source=source, angle=angle, low=low, high=high) for source, angle, low, high in rows]
