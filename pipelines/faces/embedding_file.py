"""Embeddings of photographs in a file, for whoever searches, groups or draws them elsewhere."""

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet

from cnn_keras.data.files import durable, input_file
from cnn_keras.errors import Fault
from pipelines.faces.encoder import BATCH, Recogniser
from pipelines.faces.gallery import Array
from pipelines.inference.prediction import batched

SUFFIXES = (".csv", ".parquet")


class Row(NamedTuple):
    """The embedding of a photograph, float32 (dimension,), or what is wrong with it."""

    path: Path
    embedding: Array | None
    problem: str


def check_suffix(path: Path) -> None:
    """Raise a Fault unless the name of a file says which of the SUFFIXES it is."""
    if path.suffix.lower() not in SUFFIXES:
        raise Fault(f"--to must end in {' or '.join(SUFFIXES)}, got {path}")


def embed(recogniser: Recogniser, files: Iterable[Path]) -> Iterator[Row]:
    """The embedding of each file, in order; without a face, where faces are looked for, there is none."""
    for batch in batched(files, BATCH):
        read = [_read(file) for file in batch]
        vectors = iter(recogniser.embed([data for data in read if isinstance(data, bytes)], faced=True))
        for file, data in zip(batch, read, strict=True):
            vector = next(vectors) if isinstance(data, bytes) else data
            yield Row(file, None, vector) if isinstance(vector, str) else Row(file, vector, "")


def write(rows: Iterable[Row], path: Path, dimension: int) -> list[Row]:
    """Write embeddings as CSV or Parquet, as the file's name says; return the rows with a problem.

    CSV has a column `path`, one for each number, and `problem`; Parquet has `path`, `embedding`, a list of float32, and
    `problem`.
    """
    check_suffix(path)
    problems = []
    with _writer(path, dimension) as write_rows:
        for batch in batched(rows, BATCH):
            write_rows(batch)
            problems += [row for row in batch if row.problem]
    return problems


def _read(file: Path) -> bytes | str:
    """The bytes of a file, or why it cannot be read."""
    try:
        data: bytes = input_file.read_bytes(file)
    except OSError as error:
        return str(error)
    return data


@contextmanager
def _writer(path: Path, dimension: int) -> Iterator[Any]:
    """A function that writes rows into a file, which is there when all are."""
    with durable.atomic_write(path) as temporary:
        if path.suffix.lower() == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(["path", *(f"embedding_{place}" for place in range(dimension)), "problem"])
                yield lambda rows: table.writerows(_cells(row, dimension) for row in rows)
        else:
            fields = {
                "path": pyarrow.string(),
                "embedding": pyarrow.list_(pyarrow.float32()),
                "problem": pyarrow.string(),
            }
            schema = pyarrow.schema(list(fields.items()))
            with parquet.ParquetWriter(temporary, schema) as writer:
                yield lambda rows: writer.write_table(_table(rows, schema))


def _cells(row: Row, dimension: int) -> list[str]:
    numbers = itertools.repeat("", dimension) if row.embedding is None else (f"{value:.9g}" for value in row.embedding)
    return [str(row.path), *numbers, row.problem]


def _table(rows: Sequence[Row], schema: pyarrow.Schema) -> pyarrow.Table:
    values = [{"path": str(row.path), "embedding": row.embedding, "problem": row.problem or None} for row in rows]
    return pyarrow.Table.from_pylist(values, schema)
