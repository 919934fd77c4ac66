"""Files that survive a power cut: written aside, pushed to the disk, put in their place by one rename.

A rename alone is safe against a kill. The disk may carry it out long before it has what is in the file, though: after a
power cut the new name is there, and the file is empty.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Where to write a file; when the block ends it is `path`, whole and for good. After an exception nothing changed.

    Args:
        suffix: the temporary name ends so, for writers that go by it.
    """
    temporary = path.with_name(f".{path.name}.tmp{suffix}")
    try:
        with _named(path):
            yield temporary
            _push(temporary)
            temporary.replace(path)
            _push(path.parent)
    finally:
        with suppress(OSError):  # what went wrong before is what is to be told
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Where to write a new folder; when the block ends it is `path`, whole and for good. After an exception there is
    none.

    Args:
        path: nothing, or an empty folder.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    try:
        mkdir(temporary)
        yield temporary
        sync(temporary)
        rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_space(folder: Path, size: int) -> None:
    """Refuse a file that has no room before it is begun: HDF5 ends the process if the disk is full midway.

    The bytes are reserved for a moment, which asks for quotas, too, where the system can do that.

    Args:
        size: of the file, in bytes.

    Raises:
        OSError: ENOSPC, if fewer bytes than that are free there; EDQUOT or EFBIG, if no file may have them.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that reserves nothing
                raise OSError(error.errno, error.strerror, str(folder)) from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8: a reader sees the old file or the new one."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, which is made where there is none."""
    exists = path.exists()
    with _named(path):
        with path.open("ab") as file:
            file.write(data)
        _push(path)
    if not exists:
        _push(path.parent)


def rename(path: Path, target: Path) -> None:
    """Rename a file or a folder, over a file if there is one; what is in it must have been pushed to the disk."""
    path.replace(target)
    for folder in {path.parent, target.parent}:
        _push(folder)


def mkdir(folder: Path) -> None:
    """Make a folder and those above it, unless they are there."""
    if not folder.is_dir():
        mkdir(folder.parent)
        folder.mkdir(exist_ok=True)
        _push(folder.parent)


def sync(path: Path) -> None:
    """Push a file to the disk, or a folder with all that is in it."""
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync(inner)
    _push(path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing into a folder, or below it."""
    for path in folder.rglob(".*.tmp*"):
        path.unlink()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors of the system that do not: those of files that are open."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


def _push(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with _named(path):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():  # some systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
