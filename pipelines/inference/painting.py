"""Networks that paint: a picture in the style of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tensorflow as tf
from rich.console import Console

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.errors import Fault
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_images

OUTPUT = "painting_bytes"


@dataclass(frozen=True, kw_only=True)
class Painting(Prediction):
    """The painted picture, a PNG file."""

    painting: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, which stand at the beginning of a PNG file."""
        return int.from_bytes(self.painting[16:20], "big"), int.from_bytes(self.painting[20:24], "big")

    def _values(self) -> dict[str, Any]:
        width, height = self.size
        return {"painting": {"width": width, "height": height}}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        return ("painted, {} × {}".format(*self.size),)

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        path.write_bytes(self.painting)


class Painter:
    """Has a network paint.

    Args:
        signature: that of one style, where the network knows several.

    Raises:
        Fault: there is no such signature that takes encoded images alone.
    """

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any, signature: str = DEFAULT) -> None:
        inputs = {key: set(signature.structured_input_signature[1]) for key, signature in loaded.signatures.items()}
        fitting = sorted(key for key in inputs if inputs[key] == {"image_bytes"})
        if signature not in fitting:
            raise Fault(f"--signature must be one of {', '.join(fitting)}, got {signature!r}")
        self.signature = loaded.signatures[signature]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def paint(self, encoded: list[bytes]) -> list[bytes]:
        """Encoded images to PNG files of the same sizes."""
        pngs: list[bytes] = self.signature(image_bytes=tf.constant(encoded, tf.string))[OUTPUT].numpy().tolist()
        return pngs

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Painting]:
        paintings = zip(sources, self.paint(encoded), strict=True)
        return [Painting(source=source, painting=data) for source, data in paintings]


def paints(loaded: Any) -> bool:
    """Whether a loaded model is one that paints."""
    return OUTPUT in loaded.signatures[DEFAULT].structured_outputs
