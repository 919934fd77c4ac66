"""A thread that delivers what is due, as often as there is news, and never gets in anybody's way."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

PAUSES = (5, 15, 60, 300)  # seconds before the next attempt, by how many in a row have failed


class Uploader(threading.Thread):
    """Calls `deliver` after every `wake`; when it fails, again after a pause.

    It is a daemon: a delivery that hangs does not keep the process alive.
    """

    def __init__(self, deliver: Callable[[], None]) -> None:
        super().__init__(name="uploader", daemon=True)
        self._deliver = deliver
        self._news, self._closing = threading.Event(), threading.Event()

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._news.set()

    def close(self, timeout: float) -> None:
        """Ask for one last delivery and wait for it up to `timeout` seconds."""
        self._closing.set()
        self._news.set()
        self.join(timeout)

    def run(self) -> None:
        failures = 0
        while True:
            last = self._closing.is_set()
            self._news.clear()
            try:
                self._deliver()
                failures = 0
            except Exception as error:  # whatever it is, training goes on; `push` shows it in full
                if failures == 0:
                    log.warning("tracking events are kept, because the store is unavailable: %s", brief(error))
                failures += 1
            if last:
                return
            if failures:
                self._closing.wait(PAUSES[min(failures, len(PAUSES)) - 1])
            else:
                self._news.wait()


def brief(error: Exception) -> str:
    """An error on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
