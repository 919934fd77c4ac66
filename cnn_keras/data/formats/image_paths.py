"""Where the pictures and folders are that annotations name, on another machine than the one they were written on.

A name is taken as it is written where that is there. Else `\\` is read as `/`, folders in front of it that the data set
already stands in – of the project, of another machine – are left out one by one, and capitals and composed letters are
looked over; of an address on a server its path is taken, and what Label Studio puts before an uploaded name is left
out. What was found so is told once by kind; two names that lead to one file so lead nowhere.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cnn_keras.data.annotation import Note, normalized_path, relative_id
from cnn_keras.data.files.file_tree import printable_path
from cnn_keras.data.files.input_file import is_folder, is_regular

BACKSLASH = "path with backslashes"
PREFIX = "path from another folder"
CAPITALS = "path in other capitals"
LETTERS = "path with letters composed otherwise (Unicode's NFC and NFD)"
UPLOAD = "name as Label Studio's upload prefixes it"
ADDRESS = "address on a server"

UPLOADED = re.compile("^[0-9a-f]{8}-")


class Places:
    """Finds files and folders below `roots`, the first of which is asked first, and remembers how."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(dict.fromkeys(roots))
        self._listings: dict[Path, dict[str, list[Path]]] = {}
        self._ways: dict[str, list[tuple[str, Path]]] = defaultdict(list)

    def file(self, name: str, roots: Sequence[Path] | None = None) -> Path | None:
        """The regular file that is meant, None where there is none; `roots` are asked in place of the usual ones."""
        return self._found(name, is_regular, self.roots if roots is None else roots)

    def folder(self, name: str) -> Path | None:
        """The folder that a name stands for, below the first of the roots that has it; None where none has."""
        return self._found(name, is_folder, self.roots)

    def files(self, names: Iterable[str]) -> dict[str, Path | None]:
        """The file of each name. Two names that are one file only when something of them is left out are of none."""
        files = {name: self.file(name) for name in names}
        counts = Counter(file for file in files.values() if file)
        ambiguous = {file for ways in self._ways.values() for _, file in ways if counts[file] > 1}
        unlike = {name for name, file in files.items() if file in ambiguous and not self._as_written(name)}
        return {name: None if name in unlike else file for name, file in files.items()}

    def within(self, root: Path, name: str) -> Path | None:
        """What is called so below a folder in any capitals: a file, a folder, or None."""
        place = root
        for part in Path(name).parts:
            if part in ("..", "/") or "\0" in part:
                return None
            alike = self._listing(place).get(_folded(part), [])
            exact = [path for path in alike if path.name == part]
            if len(alike) != 1 and not exact:
                return None
            place = (exact or alike)[0]
        return place

    def remember(self, other: "Places") -> None:
        """Tell, too, what `other` did not find as it was written."""
        for kind, ways in other._ways.items():
            self._ways[kind] += ways

    def notes(self, where: Path) -> tuple[Note, ...]:
        """What was not found as it was written, once by kind."""
        return tuple(
            Note(
                kind, where.name, f"{len(ways):,} × such as {printable_path(ways[0][0])}", f"found as {ways[0][1].name}"
            )
            for kind, ways in self._ways.items()
        )

    def _as_written(self, name: str) -> bool:
        return any(is_regular(root / name) for root in self.roots)

    def _found(self, name: str, fits: Callable[[Path], bool], roots: Sequence[Path]) -> Path | None:
        if not name:
            return None
        for root in roots:
            if fits(root / name):
                return root / name
        address = _path_of_address(name)
        parts = [part for part in (address or name).replace("\\", "/").split("/") if part not in ("", ".")]
        for skipped in range(len(parts)):
            inner = "/".join(parts[skipped:])
            for root in roots:
                file = root / inner if fits(root / inner) else self.within(root, inner)
                if file is not None and fits(file):
                    left_out = skipped > 0 or name.startswith("/")
                    ways = {
                        ADDRESS: address is not None,
                        BACKSLASH: "\\" in name,
                        PREFIX: left_out,
                        LETTERS: file != root / inner and _composed(file) == _composed(root / inner),
                        CAPITALS: file != root / inner,
                    }
                    kind = next((kind for kind, holds in ways.items() if holds), None)
                    if kind:
                        self._ways[kind].append((name, file))
                    return file
        return self._uploaded(parts, fits, roots)

    def _uploaded(self, parts: Sequence[str], fits: Callable[[Path], bool], roots: Sequence[Path]) -> Path | None:
        """The picture that was uploaded to Label Studio, which puts eight digits before its name."""
        name = UPLOADED.sub("", parts[-1], count=1) if parts else ""
        places = (self.within(root, name) for root in roots if parts and name not in ("", parts[-1]))
        file = next((place for place in places if place and fits(place)), None)
        if file:
            self._ways[UPLOAD].append(("/".join(parts), file))
        return file

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listings:
            listing: dict[str, list[Path]] = defaultdict(list)
            try:
                for inner in folder.iterdir():
                    listing[_folded(inner.name)].append(inner)
            except (OSError, ValueError):
                listing.clear()  # no folder, or none that may be read
            self._listings[folder] = listing
        return self._listings[folder]


def ids(root: Path, files: Mapping[str, Path | None]) -> dict[str, str]:
    """An id for each name of a picture: its path below `root`, without the folders of a machine.

    Args:
        root: the folder that the names are relative to.
        files: the file of each name, None where there is none.
    """
    inner, outer = {}, {}
    for name, file in files.items():
        if file is not None and normalized_path(file).is_relative_to(normalized_path(root)):
            inner[name] = relative_id(root, file)
        else:
            parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            outer[name] = parts[:-1] if _is_absolute(name) else [], parts
    machine = [folders for name, (folders, _) in outer.items() if _is_absolute(name)]
    levels = zip(*machine, strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    relative = {name: parts[shared:] if _is_absolute(name) else parts for name, (_, parts) in outer.items()}
    return {**inner, **{name: printable_path("/".join(parts) or name) for name, parts in relative.items()}}


def _path_of_address(name: str) -> str | None:
    """The path on the server that a web address or one of a cloud's storage names; None for a name that is none."""
    try:
        return unquote(urlsplit(name).path) if "://" in name else None
    except ValueError:
        return None


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or name[1:2] == ":"


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
