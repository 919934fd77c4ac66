"""The files that a source is made of, and a digest that changes with them; nothing is read."""

import os
from pathlib import Path

from cnn_keras.data.files import input_file
from pipelines.data.run_files import digest


def regular_files(*roots: Path) -> list[Path]:
    """The regular files at or below `roots`, in order; special files and what cannot be asked are left out."""
    folders = [root for root in roots if input_file.is_folder(root)]
    files_ = {Path(place, name) for root in folders for place, _, files in os.walk(root) for name in files}
    return sorted(file for file in {*roots, *files_} if input_file.is_regular(file))


def files_digest(*roots: Path) -> str:
    """Changes when a file at or below one of `roots` is added, removed or written to; nothing is read."""
    regular = regular_files(*roots)
    return digest([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in regular])
