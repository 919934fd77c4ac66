"""What the system says when it does not read or write a file, in the words of somebody who can mend it.

Every library that writes has its own exceptions: Python's OSError, TensorFlow's and SQLite's. Only what is the user's
to mend is told; any other exception is a bug and keeps its traceback.
"""

import errno
import os
from collections.abc import Iterator

from cnn_keras.errors import Fault

REMEDIES = {
    errno.ENOSPC: "free space there, or keep the runs elsewhere with --runs",
    errno.EDQUOT: "free space there, or keep the runs elsewhere with --runs",
    errno.EROFS: "keep the runs elsewhere with --runs",
    errno.EACCES: "give yourself the permission, or take another place",
    errno.EPERM: "give yourself the permission, or take another place",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ENOENT: "look at the path",
    errno.ENOTDIR: "a part of the path is a file: look at the path",
    errno.EEXIST: "something else has that name: take another",
    errno.EISDIR: "it is a folder: look at the path",
    errno.ELOOP: "links lead in a circle: look at the path",
    errno.EFBIG: "it is larger than the system allows",
    errno.EIO: "look at the disk and at the system's log",
    errno.EMFILE: "close other programs, or raise the limit with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.EINVAL: "take a regular file",
    errno.ENXIO: "take a regular file",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)  # happen to files that are open
SAID = {  # how libraries quote the system without its number
    **{os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)},
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}


def fault(error: BaseException) -> Fault | None:
    """The Fault to tell instead of an exception that comes from the system's storage; None for any other."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES and (cause.filename or cause.errno in FULL):
            place = f"{os.fsdecode(cause.filename)}: " if isinstance(cause.filename, str | bytes) else ""
            return _fault(f"{place}{cause.strerror}", cause.errno)
        said = next((words for words in SAID if words in str(cause)), None)
        if said:
            return _fault(" ".join(str(cause).split())[:300], SAID[said])
    return None


def _fault(what: str, code: int) -> Fault:
    return Fault(f"the system refused a file: {what}; {REMEDIES[code]}", code=Fault.STORAGE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
