"""The files that a source is made of, and a digest that changes with them; nothing is read."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cnn_keras.data.files import input_file

OUTPUTS = (".lock", "mlflow.db")  # of a run and of the tracking store; a folder that holds one is no part of the data


def regular_files(*roots: Path) -> Iterator[Path]:
    """The regular files at or below `roots`, in order; special files and what cannot be asked are left out."""
    folders = [root for root in roots if input_file.is_folder(root)]
    names = {f"{place}{os.sep}{name}" for root in folders for place, _, files in os.walk(root) for name in files}
    return (file for name in sorted({*map(str, roots), *names}) if input_file.is_regular(file := Path(name)))


def files_digest(*roots: Path) -> str:
    """Changes when a file at or below one of `roots` is added, removed or written to; nothing is read.

    Runs and the tracking store may lie beside the data, where each command writes into them: they are left out.
    """
    files, digest = list(regular_files(*roots)), hashlib.sha256()
    outputs = {file.parent for file in files if file.name in OUTPUTS} - set(roots)
    for file in files:
        if outputs and not outputs.isdisjoint(file.parents):
            continue
        stat = file.stat()
        digest.update(os.fsencode(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0"))
    return f"sha256:{digest.hexdigest()}"


def sections_of_further_data(data: Any) -> list[Any]:
    """The data section for each path of `data.also`: as that of the recipe, whose source may read no path itself."""
    source = data.source if data.path is not None else data.layout
    others = {key: None for key in ("images", "composites", "cards") if hasattr(data, key)}
    return [data.model_copy(update={**others, "source": source, "path": path, "also": ()}) for path in data.also]


def digest_with_further_data(data: Any, digest_of: Callable[[Any], str | None]) -> str | None:
    """The digest of the files of a data section and of `data.also`; `digest_of` gives that of one section."""
    own = digest_of(data)
    if not data.also:
        return own
    digests = [own, *map(digest_of, sections_of_further_data(data))]
    return f"sha256:{hashlib.sha256(repr(digests).encode()).hexdigest()}"
