"""Tables for people, and for what they pipe them into."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from pipelines.inference.predict import by_source, kind_of
from pipelines.inference.prediction import Prediction


def print_unbroken(table: Table, console: Console) -> None:
    """Print a table one row to a line, wider than the terminal if need be: a file's name can be copied whole."""
    options = console.options.update(max_width=sys.maxsize)
    table.width = max(console.width, Measurement.get(console, options, table).maximum)
    console.print(table, soft_wrap=True)


def print_predictions(predictions: Sequence[Prediction], console: Console) -> None:
    """Print a row for each file, and how many could not be read."""
    table = Table("file", *kind_of(predictions).COLUMNS, box=None, header_style="bold")
    files = by_source(predictions)
    for first, *later in files:
        cells = (f"[red]{escape(first.problem)}[/]",) if first.problem else first.cells(later)
        table.add_row(escape(str(first.path)), *cells)
    print_unbroken(table, console)
    if unread := sum(prediction.problem is not None for prediction in predictions):
        console.print(f"{unread} of {len(files)} could not be read")
