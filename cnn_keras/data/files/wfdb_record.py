"""Records of PhysioNet's WFDB format, read by the package wfdb: a header, `NAME.hea`, and the files that it names.

Such are those of the MIT-BIH Arrhythmia Database (Moody and Mark, "The impact of the MIT-BIH Arrhythmia Database",
2001).
"""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.files import input_file
from cnn_keras.data.files.input_file import VALUE_LIMIT
from cnn_keras.errors import Fault, Unreadable

SUFFIX, ANNOTATIONS = ".hea", ".atr"


def read(path: Path, *, limit: int) -> tuple[np.ndarray, float]:
    """The signals of the record whose header is the file `path`, in physical units such as millivolts.

    Args:
        limit: how many samples of all channels it may have, and bytes each file.

    Returns:
        float32 (length, channels), NaN where a sample is missing; and the sample rate in Hz.

    Raises:
        Fault: the package wfdb is missing.
        OSError: a file that the header names cannot be read.
        Unreadable: no header, several segments, no signal, too many samples, or a broken file.
    """
    wfdb = require_wfdb()
    name = str(path.absolute().with_suffix(""))
    try:
        input_file.check_regular(path, limit=limit)
        header = wfdb.rdheader(name)
        _check(wfdb, header, path, limit)
        record = wfdb.rdrecord(name)
        values, rate = np.asarray(record.p_signal, np.float32), float(record.fs)
    except (Unreadable, OSError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, EOFError, RuntimeError,
            struct.error) as error:  # fmt: skip  # what wfdb and NumPy raise on broken files
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise Unreadable("undecodable", f"it is no WFDB record that can be read: {reason}") from None
    if values.ndim != 2 or not values.size:
        raise Unreadable("empty", "the record holds no samples")
    if (np.abs(values) > VALUE_LIMIT).any():
        raise Unreadable("unsupported", f"its samples must be at most {VALUE_LIMIT:g}")
    return values, rate


def beats(path: Path, *, limit: int) -> list[tuple[int, str]]:
    """The heartbeats that `NAME.atr`, beside the header `path`, marks: the sample of each and its symbol, N or V say.

    Marks that are no beats, such as those of a rhythm or of noise, are left out.

    Raises:
        Fault: the package wfdb is missing.
        OSError: there is no such file, or it cannot be read.
        Unreadable: it holds no annotations that can be read, or more than `limit` bytes.
    """
    wfdb = require_wfdb()
    input_file.check_regular(path.with_suffix(ANNOTATIONS), limit=limit)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about how wfdb uses it
            found = wfdb.rdann(str(path.absolute().with_suffix("")), ANNOTATIONS[1:])
        table = wfdb.io.annotation
        kinds = {label.symbol for label in table.ann_labels if table.is_qrs[label.label_store]}
        return [(int(s), symbol) for s, symbol in zip(found.sample, found.symbol, strict=True) if symbol in kinds]
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError,
            struct.error) as error:  # fmt: skip  # what wfdb and NumPy raise on broken files
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise Unreadable("undecodable", f"it holds no annotations that can be read: {reason}") from None


def _check(wfdb: Any, header: Any, path: Path, limit: int) -> None:
    """Raise unless a header is of one record, not too large, whose files can be read."""
    if isinstance(header, wfdb.MultiRecord):
        raise Unreadable("unsupported", "the record has several segments; give the header of each by itself")
    if not header.n_sig:
        raise Unreadable("empty", "the record holds no signal")
    samples = (header.sig_len or 0) * sum(header.samps_per_frame)
    if samples > limit:
        raise Unreadable("huge", f"a record may have {limit:,} samples, this one has {samples:,}")
    for name in dict.fromkeys(header.file_name):  # wfdb takes no name with a folder in it
        input_file.check_regular(path.with_name(name), limit=limit)


def require_wfdb() -> Any:
    """The package wfdb, which is optional.

    Raises:
        Fault: it is not installed.
    """
    try:
        import wfdb  # optional
    except ImportError:
        raise Fault(
            "WFDB records need the package wfdb; `make samples` or `pip install 'cnn-keras[medical]'` installs it"
        ) from None
    return wfdb
