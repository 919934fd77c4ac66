"""Tables that users name: CSV files and Parquet files, row by row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.files.file_tree import describe_path
from cnn_keras.errors import Fault

PARQUET = (".parquet", ".pq")  # suffixes; anything else is read as CSV


def rows(path: Path, columns: Sequence[str], *, argument: str = "data.path") -> list[tuple[int, dict[str, Any]]]:
    """The rows of a table with the number of each – of its line in a CSV file, or from 1 –: cells by column.

    A cell is a text, stripped, "" where there is none; in a Parquet file it may be a list of texts.

    Raises:
        Fault: no such file, no table, or one of `columns` is missing.
    """
    if path.suffix.lower() not in PARQUET:
        return list(file_tree.rows(path, columns, argument=argument))
    if not input_file.is_regular(path):
        raise Fault(f"{argument} must be a CSV or Parquet file, got {describe_path(path)}")
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise Fault(f"{path} must be a Parquet file that can be read: {reason}", code=Fault.DATA) from None
    if missing := [name for name in columns if name not in table.column_names]:
        there = ", ".join(table.column_names)[:300] or "nothing"
        raise Fault(
            f"{path} must have the columns {', '.join(columns)}, got {there}; {missing[0]} is missing", code=Fault.DATA
        )
    return [
        (number, {name: _cell(value) for name, value in row.items()}) for number, row in enumerate(table.to_pylist(), 1)
    ]


def _cell(value: Any) -> Any:
    """A value as the cell of a CSV file would be, or a list of such."""
    if isinstance(value, list):
        return [_cell(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    return "" if value is None else str(value).strip()
