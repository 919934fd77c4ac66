"""Embeddings of photographs in a file, for whoever searches, groups or draws them elsewhere."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from cnn_keras.data.files import durable, input_file
from cnn_keras.errors import Fault
from pipelines.faces.encoder import BATCH, NO_FACE, Portrait, Recogniser
from pipelines.faces.gallery import Array
from pipelines.inference.prediction import batched

SUFFIXES = (".csv", ".parquet")
SIDES = ("left", "top", "right", "bottom")


class Row(NamedTuple):
    """The embedding of a photograph or of a face in it, float32 (dimension,), or what is wrong with it."""

    path: Path
    embedding: Array | None
    problem: str
    box: tuple[float, ...] | None = None  # of the face; None where each picture is one


def check_suffix(path: Path) -> None:
    """Raise a Fault unless the name of a file says which of the SUFFIXES it is."""
    if path.suffix.lower() not in SUFFIXES:
        raise Fault(f"--to must end in {' or '.join(SUFFIXES)}, got {path}")


def embed(recogniser: Recogniser, files: Iterable[Path]) -> Iterator[Row]:
    """The embedding of each face of each file, in order; without a face, where faces are looked for, there is none."""
    for batch in batched(files, BATCH):
        found: list[tuple[Path, Portrait | str]] = []
        for file in batch:
            data = _read(file)
            portraits = data if isinstance(data, str) else recogniser.portraits(data)
            if isinstance(portraits, str) or not portraits:
                found.append((file, NO_FACE if not portraits else str(portraits)))
            else:
                found += [(file, portrait) for portrait in portraits]
        vectors = iter(recogniser.embed([face.data for _, face in found if isinstance(face, Portrait)], faced=True))
        for file, face in found:
            vector = next(vectors) if isinstance(face, Portrait) else face
            box = face.face.box if isinstance(face, Portrait) and face.face else None
            yield Row(file, None, vector, box) if isinstance(vector, str) else Row(file, vector, "", box)


def write(rows: Iterable[Row], path: Path, dimension: int, *, boxes: bool = False) -> tuple[int, list[Row]]:
    """Write embeddings as CSV or Parquet, as the file's name says; return how many, and the rows with a problem.

    CSV has a column `path`, one for each number, and `problem`; Parquet has `path`, `embedding`, a list of float32, and
    `problem`. With `boxes`, CSV has `left`, `top`, `right` and `bottom` behind `path`, and Parquet a list `box`, in
    pixels.
    """
    check_suffix(path)
    count, problems = 0, []
    with _writer(path, dimension, boxes) as write_rows:
        for batch in batched(rows, BATCH):
            write_rows(batch)
            problems += [row for row in batch if row.problem]
            count += sum(row.embedding is not None for row in batch)
    return count, problems


def _read(file: Path) -> bytes | str:
    """The bytes of a file, or why it cannot be read."""
    try:
        data: bytes = input_file.read_bytes(file)
    except OSError as error:
        return str(error)
    return data


@contextmanager
def _writer(path: Path, dimension: int, boxes: bool) -> Iterator[Any]:
    """A function that writes rows into a file, which is there when all are."""
    with durable.atomic_write(path) as temporary:
        if path.suffix.lower() == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                sides = SIDES if boxes else ()
                table.writerow(["path", *sides, *(f"embedding_{place}" for place in range(dimension)), "problem"])
                yield lambda rows: table.writerows(_cells(row, dimension, boxes) for row in rows)
        else:
            floats = pyarrow.list_(pyarrow.float32())
            box = {"box": floats} if boxes else {}
            schema = pyarrow.schema({"path": pyarrow.string(), **box, "embedding": floats, "problem": pyarrow.string()})
            with parquet.ParquetWriter(temporary, schema) as writer:
                yield lambda rows: writer.write_table(_table(rows, schema))


def _cells(row: Row, dimension: int, boxes: bool) -> list[str]:
    box = _numbers(row.box, len(SIDES)) if boxes else []
    return [str(row.path), *box, *_numbers(row.embedding, dimension), row.problem]


def _numbers(values: Iterable[float] | None, count: int) -> list[str]:
    return [""] * count if values is None else [f"{value:.9g}" for value in values]


def _table(rows: Sequence[Row], schema: pyarrow.Schema) -> pyarrow.Table:
    values = [
        {"path": str(row.path), "box": row.box, "embedding": row.embedding, "problem": row.problem or None}
        for row in rows
    ]
    return pyarrow.Table.from_pylist(values, schema)
