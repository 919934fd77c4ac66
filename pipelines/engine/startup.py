"""Start-up: TensorFlow loaded with a word that it takes seconds, and without the chatter of its libraries."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console


def quiet_environment() -> None:
    """Keep logs and telemetry off and leave others some of a GPU's memory, unless the environment says otherwise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # memory as it is needed, not all there is
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime's, which begins with its import


def console_for(*, stderr: bool = False) -> Console:
    """Where people are spoken to, line by line in a notebook; what the pipeline logs is shown there too."""
    notebook = _is_below_a_cell(sys.stderr if stderr else sys.stdout)  # nothing can be drawn over there
    console = Console(
        stderr=stderr,
        highlight=False,
        soft_wrap=True,
        force_jupyter=False,
        force_terminal=False if notebook else None,
        color_system="standard" if notebook else "auto",
    )
    handler = logging.StreamHandler(console.file)
    handler.setFormatter(logging.Formatter("          %(message)s"))
    for name in ("pipelines", "cnn_keras"):
        log = logging.getLogger(name)
        log.handlers, log.level, log.propagate = [handler], logging.INFO, False
    return console


def _is_below_a_cell(stream: TextIO) -> bool:
    """Whether a notebook shows what is printed: of its own process, or of a command that a cell starts with `!`."""
    return Console().is_jupyter or ("JPY_PARENT_PID" in os.environ and stream.isatty())


def load_tensorflow(console: Console) -> None:
    """Import TensorFlow and Keras; say so on a terminal."""
    if "keras" not in sys.modules:
        with console.status("loading TensorFlow"), silent_libraries():
            import keras  # noqa: F401  # start-up: this is where it is loaded
        logging.getLogger("tensorflow").setLevel(logging.WARNING)  # in a notebook it would log each file it writes


def load_silently() -> None:
    """Import TensorFlow and Keras in a process that nobody looks at."""
    quiet_environment()
    load_tensorflow(Console(quiet=True))


@contextmanager
def numerics() -> Iterator[dict[str, Any]]:
    """Put back number format, determinism and devices, which are the process's: a training sets its own.

    Yields:
        What was computed with: filled in at the end, for a manifest.
    """
    from pipelines.engine import devices  # start-up

    with devices.numerics() as record:
        yield record


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Let the file descriptor of stderr look away.

    TensorFlow's C++ writes to it while it is imported, before any setting of its own can silence it. Python's errors
    are raised as ever.
    """
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
