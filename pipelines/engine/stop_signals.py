"""Ctrl-C and SIGTERM as a wish to stop, for what ends in good order."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def set_at(stopped: threading.Event) -> Iterator[None]:
    """Set `stopped` at SIGTERM and Ctrl-C; in other threads than the main one nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
