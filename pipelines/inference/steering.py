"""Networks that steer: an angle, and the interval that it lies in; where it is learnt the throttle, too."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from PIL import Image
from rich.console import Console

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.errors import Fault
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_images, pixels
from pipelines.plots import annotate

ANGLES = ("angle", "low", "high")
THROTTLES = ("throttle", "throttle_low", "throttle_high")


@dataclass(frozen=True, kw_only=True)
class Steering(Prediction):
    """The angle of the wheel, −1 for full left to 1 for full right, and the ends of the interval that it lies in.

    Likewise the throttle, −1 to 1 for full speed; None where the network does not say it.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("", "value", "between", "and")

    angle: float
    low: float
    high: float
    throttle: float | None = None
    throttle_low: float | None = None
    throttle_high: float | None = None

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        return ANGLES if self.throttle is None else (*ANGLES, *THROTTLES)

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        names = self._names()
        rows = [names[place : place + 3] for place in range(0, len(names), 3)]
        cells = [(row[0], *(f"{getattr(self, name):+.3f}" for name in row)) for row in rows]
        return tuple("\n".join(column) for column in zip(*cells, strict=True))

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        picture = annotate.draw_steering(pixels(self.source), angle=self.angle, interval=(self.low, self.high))
        Image.fromarray(picture).save(path)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each file."""
        names = next((prediction._names() for prediction in predictions if isinstance(prediction, Steering)), ANGLES)
        yield ["path", *names, "problem"]
        for prediction in predictions:
            figures = [""] * len(names)
            if isinstance(prediction, Steering):
                figures = [f"{value:.6f}" for value in prediction._values().values()]
            yield [prediction.path, *figures, prediction.problem or ""]


class Steerer:
    """Asks a network that steers."""

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any) -> None:
        self.steer = loaded.signatures[DEFAULT]
        if "route" in self.steer.structured_input_signature[1]:
            raise Fault(
                "MODEL must take pictures alone, got one that requires a map of the route with each; `cnn serve` gives "
                "it `image_bytes` and `route`"
            )

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Steering]:
        outputs = self.steer(image_bytes=tf.constant(encoded, tf.string))
        names = (*ANGLES, *THROTTLES) if "throttle" in outputs else ANGLES
        rows = zip(*(outputs[name].numpy().tolist() for name in names), strict=True)
        return [
            Steering(source=source, **dict(zip(names, row, strict=True)))
            for source, row in zip(sources, rows, strict=True)
        ]
