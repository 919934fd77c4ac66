"""Memory that was freed, given back to the system."""

import contextlib
import ctypes


def give_back() -> None:
    """Have the C library return what it keeps for next time: after a large picture that is all of it."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)
