"""Tables for people, and for what they pipe them into."""

import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def print_unbroken(table: Table, console: Console) -> None:
    """Print a table one row to a line, wider than the terminal if need be: a file's name can be copied whole."""
    options = console.options.update(max_width=sys.maxsize)
    table.width = max(console.width, Measurement.get(console, options, table).maximum)
    console.print(table, soft_wrap=True)
