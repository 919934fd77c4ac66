"""The command line: `cnn VERB RECIPE --set KEY=VALUE`. The verbs are in `pipelines/cli/commands/`.

Exit codes: 0 done, 2 an error that the user can fix, 3 the data, 4 a requirement did not hold, 5 training diverged,
6 the system refused to read or write a file, 7 another host of the training was lost, 130 interrupted.
"""

import importlib
import importlib.metadata
import pkgutil
import sys
import warnings
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.cli import commands, os_errors
from pipelines.engine.startup import quiet_environment

FIRST = ("tracking", "serving", "stages")  # in the help, the last before the others, which are in alphabetical order

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train, track, export and serve convolutional networks.\n\nStart with: cnn run classify/digits-lenet5",
)
modules = [
    module.name for module in pkgutil.walk_packages(commands.__path__, "pipelines.cli.commands.") if not module.ispkg
]
names = {module.rpartition(".")[2]: module for module in modules}
for name in sorted(names, key=lambda name: (-FIRST.index(name) if name in FIRST else 1, name)):
    app.add_typer(importlib.import_module(names[name]).app)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        print(f"cnn {importlib.metadata.version('cnn-keras')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `cnn` itself."""


def main() -> NoReturn:
    """Run a command; report errors that the user can fix as one message and an exit code."""
    quiet_environment()
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # our own limit says it better
    try:
        app()
    except Exception as error:
        fault = error if isinstance(error, Fault) else os_errors.fault(error)
        if fault is None:
            raise
        Console(stderr=True).print(
            f"[bold red]error[/] {commands.escape_markup(str(fault))}", soft_wrap=True, highlight=False
        )
        sys.exit(fault.code)
    sys.exit(0)
