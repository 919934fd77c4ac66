"""Errors of the operating system about files, as messages with a remedy.

Every library that writes has its own exceptions: Python's OSError, TensorFlow's and SQLite's. Only errors that
the user can fix are reported; any other exception is a bug and keeps its traceback.
"""

import errno
import os
import re
from collections.abc import Iterator

from cnn_keras.data.files.input_file import CHANGED
from cnn_keras.errors import Fault

REMEDIES = {
    errno.ENOSPC: "free space there, or keep the runs elsewhere with --runs",
    errno.EDQUOT: "free space there, or keep the runs elsewhere with --runs",
    errno.EROFS: "keep the runs elsewhere with --runs",
    errno.EACCES: "change the permissions, or use another folder",
    errno.EPERM: "change the permissions, or use another folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.EEXIST: "the name is taken: use another",
    errno.EISDIR: "it is a folder: check the path",
    errno.ELOOP: "links lead in a circle: check the path",
    errno.EFBIG: "it is larger than the system allows",
    errno.EIO: "check the disk and the system log",
    errno.EMFILE: "close other programs, or raise the limit with `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.EINVAL: "use a regular file",
    errno.ENXIO: "use a regular file",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)  # happen to files that are open
SAID = {  # how libraries quote the system without its number
    **{os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)},
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}


def fault(error: BaseException) -> Fault | None:
    """The Fault to report for an exception from the operating system or a storage library; None for any other."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in REMEDIES and (cause.filename or cause.errno in FULL):
            place = f"{os.fsdecode(cause.filename)}: " if isinstance(cause.filename, str | bytes) else ""
            return _fault(f"{place}{cause.strerror}", cause.errno)
        if changed := re.search(rf"\[{CHANGED}\] \[(.*?)\]", str(cause)):
            return Fault(f"{changed[1]} {CHANGED}; `cnn prepare RECIPE --force` reads the files anew", code=Fault.DATA)
        if missing := re.search(rf"(/[^;}}]*); {os.strerror(errno.ENOENT)}", str(cause)):  # as TensorFlow says it
            return _fault(f"{missing[1]}: {os.strerror(errno.ENOENT)}", errno.ENOENT)
        explanation = next((words for words in SAID if words in str(cause)), None)
        if explanation:
            return _fault(" ".join(str(cause).split())[:300], SAID[explanation])
    return None


def _fault(what: str, code: int) -> Fault:
    return Fault(f"the system refused a file: {what}; {REMEDIES[code]}", code=Fault.STORAGE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__
