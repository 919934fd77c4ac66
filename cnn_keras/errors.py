"""What is the user's to fix, as against what is a bug."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


class Fault(ValueError):
    """Something the user can fix: the command line prints the message without a traceback and exits with `code`.

    The message reads `<argument> must <expectation>, got <value>` and names the remedy. Every other exception
    is a bug and keeps its traceback.
    """

    INPUT = 2  # a recipe, an option, a path
    DATA = 3  # the images or their labels
    GATE = 4  # a requirement stated in the recipe did not hold
    DIVERGED = 5  # the loss stopped being a number
    STORAGE = 6  # the system did not read or write a file
    HOST = 7  # another host of the training was lost

    def __init__(self, message: str, *, code: int = INPUT) -> None:
        super().__init__(message)
        self.code = code


def check_arguments(function: Callable[..., Any], arguments: Iterable[str], *, where: str) -> None:
    """Raise a Fault for the first name among `arguments` that `function` does not take, with the nearest it does."""
    known = list(inspect.signature(function).parameters)
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            suggestion = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            raise Fault(f"{where}.{name}: unknown argument; {suggestion}")


class Unreadable(ValueError):
    """Bytes that are no usable image, signal or volume; `kind` groups them: empty, undecodable, huge, costly …"""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
