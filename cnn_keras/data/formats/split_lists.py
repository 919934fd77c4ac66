"""Lists of splits: `train.txt`, `val.txt` and `test.txt`, which name pictures, one in each line.

Names are read as they are about: without a suffix or with one, with dots and spaces, as paths of this or another
machine, before a second word such as the path of the mask or a number.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cnn_keras.data import input_file
from cnn_keras.data.file_tree import SPLITS
from cnn_keras.errors import Fault


class Listed(NamedTuple):
    """What lists say.

    splits: by id, the splits of a picture; more than one where lists contradict each other.
    strangers: the names that match no picture, each with the list that holds it.
    whole: whether the lists say what is trained, so that a picture in none of them is left out.
    """

    splits: dict[str, list[str]]
    strangers: list[tuple[Path, str]]
    whole: bool


def read(folders: Iterable[Path], pictures: dict[str, Sequence[str]]) -> Listed:
    """The splits that the lists in some folders prescribe.

    Args:
        pictures: the ids, paths parted by `/`, each with what it may be called besides its own path and name.

    Raises:
        Fault: a list that cannot be read, or of whose lines none matches (code DATA).
    """
    known: dict[str, list[str]] = {}
    for id_, names in pictures.items():
        for form in {form for name in (id_, *names) for form in _tails(name)}:
            known.setdefault(form, []).append(id_)
    splits: dict[str, list[str]] = {}
    strangers: list[tuple[Path, str]] = []
    whole = False
    for file, split in _lists(folders):
        lines = [line.strip() for line in input_file.read_text(file).splitlines() if line.strip()]
        matches = [(line, _matching(line, known)) for line in lines]
        if lines and not any(found for _, found in matches):
            raise Fault(
                f"{file} must name pictures that are there, got {lines[0][:80]!r} and {len(lines) - 1} more lines of "
                f"which none matches; mend the list, or move it away to have splits drawn",
                code=Fault.DATA,
            )
        whole |= bool(lines) and split == "train"
        strangers += [(file, line) for line, found in matches if not found]
        for id_ in (id_ for _, found in matches for id_ in found):
            own = splits.setdefault(id_, [])
            own += [split] if split not in own else []
    return Listed(splits, strangers, whole)


def _lists(folders: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    for folder in folders:
        if input_file.is_folder(folder):
            files = [file for file in sorted(folder.glob("*")) if file.suffix.lower() == ".txt"]
            names = {file.stem.lower() for file in files}
            whole = {} if names & {"train", "training"} else {"trainval": "train"}  # Pascal VOC's, of both
            for file in files:
                split = (SPLITS | whole).get(file.stem.lower())
                if split and input_file.is_regular(file):
                    yield file, split


def _tails(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _matching(line: str, known: dict[str, list[str]]) -> list[str]:
    """The ids that a line means: the longest path that is known, of the whole line or else of its first word."""
    marked = re.sub(r"\s+-?[01]$", "", line)  # Pascal VOC's lists of a class
    for words in (line, marked, re.split(r"[\t,;]", line)[0], line.split()[0]):
        name = words.strip().strip("\"'").replace("\\", "/")
        for form in _tails(name):
            for option in (form, re.sub(r"(?:\.nii)?\.[A-Za-z][A-Za-z0-9]{1,4}$", "", form)):
                if option in known:
                    return known[option]
    return []
