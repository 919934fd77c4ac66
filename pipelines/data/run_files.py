"""A run, as preparing data sees it, and the files in its folder: JSON written whole, digests, damaged files."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault

MANIFEST = "manifest.json"
STATE = "state.npz"  # what an interrupted training goes on from
JOURNAL = "examined.jsonl"  # what an interrupted preparation goes on from
VERSIONS = ("cnn-keras", "tensorflow", "keras", "numpy", "mlflow")
REFERENCE = (
    Path("assets.extra") / "reference.json"
)  # beside an exported classifier: what its held-out pictures are like
DAMAGED = ".damaged"  # how a file ends that was set aside

log = logging.getLogger(__name__)


# As the built-in `map`: the results of a function of one argument, in the order of the items.
ParallelMap = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


class Run(Protocol):
    """One run, as `pipelines.engine.stages.Run` is: its recipe, its folder, and what its stages have written."""

    recipe: Any
    console: Console
    folder: Path
    share: tuple[int, int]  # this host's number and how many share each batch
    parallel_map: ParallelMap | None  # of a cluster; None where this process does its work itself
    training_facts: dict[str, Any] | None  # of the data that trained a network, where all the run's data tests it

    def finished(self, stage: str) -> Path:
        """The folder of a stage that has been run, or a Fault that says how to run it."""
        ...

    def facts(self, stage: str) -> dict[str, Any]:
        """What a finished stage returned."""
        ...


def digest(value: Any) -> str:
    """SHA-256 of any JSON value."""
    return "sha256:" + hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, "sha256:" and 64 hexadecimal digits."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that this project wrote.

    Raises:
        Fault: it is damaged.
    """
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise Fault(
            f"{path} is damaged ({error}); delete it and run its stage with --force",
            code=Fault.DATA,
        ) from None


def kept_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of ours; None where there is none, or a damaged one, which is told and set aside."""
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except Fault:
        set_aside(path)
        return None


def is_whole(path: Path) -> bool:
    """Whether an archive of arrays is there and its check sums hold; a damaged one is told and set aside."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() is not None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError):
        damaged = True
    if damaged:
        set_aside(path)
    return not damaged


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that what it was made by makes it again, and say so."""
    durable.rename(path, aside := path.with_name(f"{path.name}{DAMAGED}"))
    log.warning("%s is damaged: it was renamed to %s, and will be recreated", path, aside.name)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole: a reader sees the old one or the new one."""
    durable.write_text(path, json.dumps(value, indent=1, default=str) + "\n")


def versions() -> dict[str, str]:
    """Of Python, the platform and the packages a result depends on."""
    versions_ = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {"python": platform.python_version(), "platform": platform.platform(), **versions_}


def publish(partial: Path, final: Path, *, keep: bool, manifest: dict[str, Any] | None = None) -> None:
    """Put a finished folder in its place by renames; with `keep`, beside what is already there, manifest last.

    Args:
        manifest: is written into the folder when everything else is on the disk.
    """
    durable.sync(partial)
    if manifest is not None:
        write_json(partial / MANIFEST, manifest)
    durable.mkdir(final.parent)
    if keep and final.is_dir():
        for path in sorted(files(partial), key=lambda path: path.name == MANIFEST):
            if not path.exists():
                continue  # went with its folder
            name = path.relative_to(partial)
            whole = next((folder for folder in reversed(name.parents[:-1]) if not (final / folder).exists()), name)
            durable.mkdir((final / whole).parent)
            durable.rename(partial / whole, final / whole)
        shutil.rmtree(partial)
        return
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.is_dir():
        final.rename(old)
    durable.rename(partial, final)
    shutil.rmtree(old, ignore_errors=True)


def files(folder: Path) -> list[Path]:
    """All files below a folder but those that were set aside."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != DAMAGED)
