"""Memory that was freed: kept for the next request, or given back to the system."""

import contextlib
import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep() -> None:
    """Have the C library keep what is freed: a picture's arrays, fetched anew from the system, cost as much as resizing
    it does. Only arrays of 32 MB are always given back."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
        library = ctypes.CDLL(None)
        library.mallopt(TRIM_THRESHOLD, 2**28)
        library.mallopt(MMAP_THRESHOLD, 2**25)


def give_back() -> None:
    """Have the C library return what it keeps for next time: after a large picture that is all of it."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)
