"""Lists of splits: `train.txt`, `val.txt` and `test.txt`, which name pictures, one in each line.

Names are read as they are about: without a suffix or with one, with dots and spaces, as paths of this or another
machine, before a second word such as the path of the mask or a number. Where a split has no list of its own, Pascal
VOC's lists of a class say what is in it: `dog_train.txt`, each line a name and -1, 0 or 1.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cnn_keras.data.files import input_file
from cnn_keras.data.files.file_tree import SPLITS
from cnn_keras.errors import Fault

WHOLE = {"trainval": "train"}  # Pascal VOC's list of train and val together
OF_A_CLASS = r"\s+-?[01]$"  # behind a name in its lists of a class: whether the class is in the picture


class SplitLists(NamedTuple):
    """What lists say.

    splits: by id, the splits of a picture; more than one where lists contradict each other.
    strangers: the names that match no picture, each with the list that holds it.
    whole: whether the lists say what is trained, so that a picture in none of them is left out.
    """

    splits: dict[str, list[str]]
    strangers: list[tuple[Path, str]]
    whole: bool


def read(folders: Iterable[Path], pictures: Mapping[str, Sequence[str]]) -> SplitLists:
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
        lines = _lines(file)
        matches = [(line, _matching(line, known)) for line in lines]
        if lines and not any(ids for _, ids in matches):
            raise Fault(
                f"{file} must name pictures that are there, got {lines[0][:80]!r} and {len(lines) - 1} more lines of "
                f"which none matches; mend the list, or move it away to have splits drawn",
                code=Fault.DATA,
            )
        whole |= bool(lines) and split == "train"
        strangers += [(file, line) for line, ids in matches if not ids]
        for id_ in (id_ for _, ids in matches for id_ in ids):
            own = splits.setdefault(id_, [])
            own += [split] if split not in own else []
    return SplitLists(splits, strangers, whole)


def _lists(folders: Iterable[Path]) -> Iterable[tuple[Path, str]]:
    for folder in folders:
        if input_file.is_folder(folder):
            files = [file for file in sorted(folder.glob("*")) if file.suffix.lower() == ".txt"]
            files = [file for file in files if input_file.is_regular(file)]
            own = {file: split for file in files if (split := (SPLITS | WHOLE).get(file.stem.lower()))}
            of_classes = {file: split for file in files if file not in own and (split := _split_of_class(file))}
            split_of = own | {file: split for file, split in of_classes.items() if split not in own.values()}
            parted = any(split == "train" and not _is_whole(file) for file, split in split_of.items())
            yield from ((file, split) for file, split in split_of.items() if not (parted and _is_whole(file)))


def _split_of_class(file: Path) -> str | None:
    """The split of a list of one class, such as `dog_train.txt`; None for any other file."""
    head, mark, tail = file.stem.lower().rpartition("_")
    split = (SPLITS | WHOLE).get(tail) if head and mark else None
    lines = _lines(file) if split else []
    return split if lines and all(re.search(OF_A_CLASS, line) for line in lines) else None


def _is_whole(file: Path) -> bool:
    return file.stem.lower().endswith(tuple(WHOLE))


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in input_file.read_text(file).splitlines() if line.strip()]


def _tails(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _matching(line: str, known: dict[str, list[str]]) -> list[str]:
    """The ids that a line means: the longest path that is known, of the whole line or else of its first word."""
    marked = re.sub(OF_A_CLASS, "", line)
    for words in (line, marked, re.split(r"[\t,;]", line)[0], line.split()[0]):
        name = words.strip().strip("\"'").replace("\\", "/")
        for form in _tails(name):
            for option in (form, re.sub(r"(?:\.nii)?\.[A-Za-z][A-Za-z0-9]{1,4}$", "", form)):
                if option in known:
                    return known[option]
    return []
