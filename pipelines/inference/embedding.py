"""Embedders: where an image lies among all others, so that whoever has two can compare them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import tensorflow as tf
from rich.console import Console

from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES
from cnn_keras.data.files.input_file import is_regular
from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_images

FACTS = Path("assets.extra") / "verification.json"  # beside an exported model: threshold, rates, digest
SHOWN = 4  # numbers of an embedding in the terminal


@dataclass(frozen=True, kw_only=True)
class Embedding(Prediction):
    """An embedding of length 1; those of one person or thing are near each other."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("embedding", "numbers")

    embedding: tuple[float, ...]

    def _values(self) -> dict[str, Any]:
        return {"embedding": list(self.embedding)}

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        first = ", ".join(f"{value:+.3f}" for value in self.embedding[:SHOWN])
        return f"{first}, …", f"{len(self.embedding):,}"

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        """Refuse: there is nothing to see.

        Raises:
            Fault: always.
        """
        raise Fault("pictures require a model whose answers can be drawn, got an embedder; --json and --csv write them")

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """A row for each file, with a column for each number."""
        count = max((len(one.embedding) for one in predictions if isinstance(one, Embedding)), default=0)
        yield ["path", *(f"embedding_{place}" for place in range(count)), "problem"]
        for prediction in predictions:
            values = [f"{value:.9g}" for value in prediction.embedding] if isinstance(prediction, Embedding) else []
            yield [prediction.path, *(values or [""] * count), prediction.problem or ""]


class Embedder:
    """Asks an embedder.

    Raises:
        Fault: faces must be aligned before they are sent, which `cnn faces` does.
    """

    input, suffixes = "image", tuple(IMAGE_SUFFIXES)

    def __init__(self, loaded: Any, folder: Path) -> None:
        facts = run_files.read_json(folder / FACTS) if is_regular(folder / FACTS) else {}
        if facts.get("align"):
            raise Fault(
                f"MODEL must take images as they are, got an embedder of faces aligned by {facts['align']}; "
                "`cnn faces` aligns and compares them"
            )
        self.embed = loaded.signatures[DEFAULT]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Embedding]:
        rows = self.embed(image_bytes=tf.constant(encoded, tf.string))["embedding"].numpy()
        return [
            Embedding(source=source, embedding=tuple(row.tolist())) for source, row in zip(sources, rows, strict=True)
        ]
