"""Start-up: TensorFlow loaded with a word that it takes seconds, and without the chatter of its libraries."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console


def quiet_environment() -> None:
    """Keep TensorFlow's logs and MLflow's telemetry off, unless the environment says otherwise; before either loads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def load_tensorflow(console: Console) -> None:
    """Import TensorFlow and Keras; say so on a terminal."""
    if "keras" not in sys.modules:
        with console.status("loading TensorFlow"), silent_libraries():
            import keras  # noqa: F401


@contextmanager
def numerics() -> Iterator[dict[str, Any]]:
    """Put back Keras's number format and TensorFlow's determinism, which are the process's: a training sets its own.

    Yields:
        What was computed with: filled in at the end, for a manifest.
    """
    import keras
    from tensorflow.python.framework import config

    policy, deterministic = keras.config.dtype_policy(), config.is_op_determinism_enabled()
    used: dict[str, Any] = {}
    try:
        yield used
    finally:
        precision = keras.config.dtype_policy().name.removeprefix("mixed_")
        used |= {"precision": precision, "deterministic": config.is_op_determinism_enabled(), "cores": os.cpu_count()}
        keras.config.set_dtype_policy(policy)
        (config.enable_op_determinism if deterministic else config.disable_op_determinism)()


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
