"""What went where: a row for each example of a prepared folder, its split among the columns.

It is `split.csv`, or `split.parquet` where there are more than PARQUET rows; `rows` reads either.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from cnn_keras.data.files import durable
from pipelines.data import run_files

PARQUET = 100_000  # rows
BATCH = 10_000  # rows in memory


def write(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, count: int) -> str:
    """Write `count` rows of texts, memory bounded by a batch of them.

    Shards that are there already belong to the list that an interrupted preparation wrote. They are removed where that
    was another one, as when an image can be read that could not be before.

    Returns:
        The SHA-256 of the rows as CSV, which is the same for both formats.
    """
    earlier = {path.name: run_files.file_digest(path) for path in folder.glob("split.*")}
    digest = hashlib.sha256()
    if count <= PARQUET:
        with durable.atomic_write(folder / "split.csv") as temporary, temporary.open("wb") as file:
            for text, _ in _batches(columns, rows):
                digest.update(text)
                file.write(text)
    else:
        schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        with (
            durable.atomic_write(folder / "split.parquet") as temporary,
            parquet.ParquetWriter(temporary, schema) as writer,
        ):
            for text, batch in _batches(columns, rows):
                digest.update(text)
                arrays = [[str(row[place]) for row in batch] for place in range(len(columns))]
                writer.write_table(pyarrow.table(dict(zip(columns, arrays, strict=True)), schema))
    if earlier != {path.name: run_files.file_digest(path) for path in folder.glob("split.*")}:
        for shard in folder.glob("*.tfrecord"):
            shard.unlink()
    return f"sha256:{digest.hexdigest()}"


def rows(folder: Path) -> Iterator[dict[str, str]]:
    """The rows of a prepared folder, in their order: texts by the names of the columns."""
    stored = folder / "split.parquet"
    if stored.is_file():
        with parquet.ParquetFile(stored) as file:
            for batch in file.iter_batches(BATCH):
                yield from batch.to_pylist()
        return
    with (folder / "split.csv").open(encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _batches(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[tuple[bytes, list[Sequence[Any]]]]:
    """Some rows at a time, as lines of CSV – the names of the columns before the first – and as they are."""
    left, heading = iter(rows), [columns]
    while (batch := list(islice(left, BATCH))) or heading:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([*heading, *batch])
        heading = []
        yield out.getvalue().encode(), batch
