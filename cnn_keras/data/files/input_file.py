"""Files that users bring: only regular files of a bounded size are opened, and text is decoded by its byte-order mark.

A pipe would block for ever, a device never ends, a sparse file holds more zeros than there is memory: `stat` tells
them apart before anything is opened.
"""

import codecs
import errno
import json
import stat
import zlib
from pathlib import Path
from typing import Any

from cnn_keras.errors import Fault

SIZE_LIMIT = 2**31  # bytes of a file of pixels or samples
TEXT_LIMIT = 2**30  # bytes of a file of annotations or settings
CHANGED = "changed since it was prepared"  # what is said of a file that was to stay as it is
VALUE_LIMIT = 1e15  # of a number: its square, and sums of those, are far inside float32
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
PACKED = {b"\x1f\x8b": "a gzip file", b"PK\3\4": "a ZIP archive", b"7z\xbc\xaf": "a 7z archive"}  # by their first bytes
MARKS = {  # UTF-32's begins with that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_regular(path: Path, *, limit: int = SIZE_LIMIT) -> None:
    """Raise an OSError unless `path`, links followed, is a regular file of at most `limit` bytes."""
    try:
        status = path.stat()
    except ValueError as error:  # a name that holds a NUL
        raise OSError(errno.EINVAL, str(error), repr(str(path))) from None
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise OSError(errno.EINVAL, f"must be a regular file, got {kind}", str(path))
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"must have at most {limit:,} bytes, got {status.st_size:,}", str(path))


def is_regular(path: Path) -> bool:
    """Whether `path`, links followed, is a regular file; False too where that cannot be asked."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # no permission, a name that is too long or holds a NUL
        return False


def is_folder(path: Path) -> bool:
    """Whether `path`, links followed, is a folder; False too where that cannot be asked."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path, *, limit: int = SIZE_LIMIT) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `limit` bytes.
    """
    check_regular(path, limit=limit)
    with path.open("rb") as file:
        return file.read(limit)


def decompress(data: bytes, *, limit: int = SIZE_LIMIT) -> bytes:
    """What a gzip file holds, its check sums compared, and at most `limit` bytes of it ever in memory.

    Raises:
        OSError: it is broken or ends too early, or holds more than `limit` bytes.
    """
    data_ = bytearray()
    try:
        while data:  # a file may have several members; zeros may follow them
            member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            data_ += member.decompress(data, limit - len(data_) + 1)
            if len(data_) > limit:
                raise OSError(errno.EFBIG, f"must hold at most {limit:,} bytes when it is decompressed")
            if not member.eof:
                raise OSError(errno.EINVAL, "its compressed data end too early")
            data = member.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise OSError(errno.EINVAL, f"its compressed data are broken: {error}") from None
    return bytes(data_)


def read_text(path: Path, *, limit: int = TEXT_LIMIT) -> str:
    """The text of a regular file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark; line ends become `\\n`.

    Raises:
        Fault: it cannot be read or decoded; the message names the file and the remedy.
    """
    try:
        data = read_bytes(path, limit=limit)
    except OSError as error:
        raise Fault(f"{path} must be readable: {error.strerror or error}", code=Fault.DATA) from None
    if kind := next((kind for mark, kind in PACKED.items() if data.startswith(mark)), None):
        raise Fault(f"{path} must be text, got {kind}; unpack it first", code=Fault.DATA)
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Fault(
            f"{path} must be text in UTF-8, got byte {data[error.start]:#04x} at {error.start:,}; save it as UTF-8 "
            f"(for example: iconv -f LATIN1 -t UTF-8 {path.name} > new-{path.name})",
            code=Fault.DATA,
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, *, limit: int = TEXT_LIMIT) -> Any:
    """The JSON value that a file holds.

    Raises:
        Fault: it cannot be read, is no JSON, is nested too deeply or holds an integer of thousands of digits.
    """
    text = read_text(path, limit=limit)
    try:
        return json.loads(text)
    except ValueError as error:  # JSONDecodeError is one; so is what `int` raises for very many digits
        raise Fault(f"{path} must be JSON: {error}", code=Fault.DATA) from None
    except RecursionError:
        raise Fault(
            f"{path} must be JSON of bearable depth, got one that is nested too deeply", code=Fault.DATA
        ) from None
