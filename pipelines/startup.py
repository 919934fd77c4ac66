"""Start-up: TensorFlow loaded once, with a word that it takes seconds and without the chatter of its libraries."""

import os
import sys

from rich.console import Console


def load_tensorflow(console: Console) -> None:
    """Import TensorFlow and Keras.

    Their C++ writes to stderr before any setting of theirs can silence it, so the file descriptor looks away for the
    length of the import; an error in it is raised as ever.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with console.status("loading TensorFlow"):  # shows on terminals only
            import keras  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
