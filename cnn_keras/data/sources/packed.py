"""Labelled images that are packed, many to a file: WebDataset's tar archives and TFRecord files.

Only what is needed to find an image is kept: its file, where it begins and its length. It is read from there when its
turn comes, so a set of any size can stay where it is (`data.in_place`).
"""

import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from cnn_keras.data.files import input_file
from cnn_keras.data.files.file_tree import (
    HIDDEN,
    IMAGE_SUFFIXES,
    describe_path,
    group_in,
    natural,
    printable_path,
    refuse,
    split_in,
)
from cnn_keras.data.sources.item import Item
from cnn_keras.errors import Fault

LABEL_BYTES = 1000  # the most that a label may take
IMAGES = ("image/encoded", "image")  # what TFRecords of images call them, the first that is there counts
LABELS = ("image/class/text", "image/class/label", "label")


@dataclass(frozen=True, slots=True)
class Part:
    """What reads an item from a part of a file."""

    path: str
    start: int
    size: int

    def __call__(self) -> bytes:
        with Path(self.path).open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def webdataset(path: Path, classes: Sequence[str] | None = None, group: str | None = None) -> list[Item]:
    """Tar archives as WebDataset writes them: `KEY.jpg` and, beside it, `KEY.cls`, which holds a number or a name.

    Args:
        path: an archive, or a folder with archives `*.tar`, not compressed; folders and names with train, val or test
            prescribe the split.
        classes: names of the numbers.
        group: a regular expression searched in each id, `ARCHIVE/KEY.jpg`.

    Raises:
        Fault: there is no archive, or one is damaged or compressed.
    """
    return _items(path, ("*.tar",), _of_archive, "tar archives", classes, group)


def tfrecord(path: Path, classes: Sequence[str] | None = None, group: str | None = None) -> list[Item]:
    """TFRecord files of `tf.train.Example`: images `image/encoded` or `image`, with a class as text or as a number.

    The class is `image/class/text`, or else the number `image/class/label` or `label`. All of a file is read to find
    its images.

    Args:
        path: a file, or a folder with files `*.tfrecord*` or `*-of-*`, not compressed; folders and names with train,
            val or test prescribe the split.
        classes: names of the numbers.
        group: a regular expression searched in each id, `FILE/NUMBER`.

    Raises:
        Fault: there is no such file, or one is damaged or compressed.
    """
    return _items(path, ("*.tfrecord*", "*-of-*"), _of_records, "TFRecord files", classes, group)


def _items(
    path: Path,
    patterns: Sequence[str],
    found: Callable[[Path], Iterator[tuple[str, Any, str | int | None]]],
    noun: str,
    classes: Sequence[str] | None,
    group: str | None,
) -> list[Item]:
    """The items of all files, as `found` has them: (name in the file, what reads it, class)."""
    files = (
        [path]
        if input_file.is_regular(path)
        else sorted(
            {file for pattern in patterns for file in path.rglob(pattern) if input_file.is_regular(file)},
            key=lambda file: natural(file.as_posix()),
        )
    )
    items = []
    for file in files:
        name = printable_path(file.relative_to(path)) if file != path else printable_path(file.name)
        for inner, read, label in found(file):
            place = f"{name}/{printable_path(inner)}"
            name_of_class, reading = _named(label, read, classes)
            items.append(Item(place, name_of_class, reading, split_in(name), group_in(group, place)))
    if not items:
        raise Fault(
            f"data.path must be or hold {noun} of images, {' or '.join(patterns)}, got {describe_path(path)}",
            code=Fault.DATA,
        )
    return items


def _named(label: str | int | None, read: Any, classes: Sequence[str] | None) -> tuple[str, Any]:
    """The name of a class, and what reads the image, or says why it has none."""
    if label is None:
        return "", partial(refuse, "without a class", "it has none in its file") if isinstance(read, Part) else read
    if isinstance(label, int) and classes is not None:
        if not 0 <= label < len(classes):
            return "", partial(refuse, "without a class", f"data.classes has no name for {label}")
        label = classes[label]
    return sys.intern(str(label)), read


def _of_archive(path: Path) -> Iterator[tuple[str, Any, str | int | None]]:
    try:
        with tarfile.open(path, "r:") as archive:
            for key, members in groupby(filter(_is_visible, archive), _key):
                yield from _sample(path, key, {member.name[len(key) + 1 :].lower(): member for member in members})
    except (tarfile.TarError, EOFError) as error:
        raise Fault(f"{path} must be a whole tar archive, not compressed: {error}", code=Fault.DATA) from None


def _sample(path: Path, key: str, columns: dict[str, tarfile.TarInfo]) -> Iterator[tuple[str, Any, str | int | None]]:
    """The image of a sample of WebDataset; its other columns are for other tasks."""
    image = next((member for suffix, member in columns.items() if f".{suffix}" in IMAGE_SUFFIXES), None)
    label = columns.get("cls")
    if image is None:
        if label is not None:
            yield key, partial(refuse, "not an image", "its sample has a class and no image"), None
        return
    text = None
    if label is not None:
        text = Part(str(path), label.offset_data, min(label.size, LABEL_BYTES))().decode(errors="replace").strip()
    number = int(text) if text and text.isascii() and text.isdecimal() else text or None
    yield image.name, Part(str(path), image.offset_data, image.size), number


def _is_visible(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and not Path(member.name).name.startswith(HIDDEN)


def _key(member: tarfile.TarInfo) -> str:
    """The name up to the first dot behind its folders, as WebDataset has it."""
    folders, slash, name = member.name.rpartition("/")
    return f"{folders}{slash}{name.partition('.')[0]}"


def _of_records(path: Path) -> Iterator[tuple[str, Any, str | int | None]]:
    end = 0
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            start, end = end + 12, end + 16 + len(record)  # a length and check sums stand around each record
            try:
                values = tf.train.Example.FromString(record).features.feature
            except DecodeError:
                values = {}
            image = next((list(values[name].bytes_list.value) for name in IMAGES if name in values), [])
            if len(image) != 1:
                yield f"{number:06d}", partial(refuse, "not an image", f"it has no {' or '.join(IMAGES)}"), None
                continue
            label = next((one for name in LABELS if name in values and (one := _value(values[name])) is not None), None)
            yield f"{number:06d}", Part(str(path), start + record.find(image[0]), len(image[0])), label
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise Fault(f"{path} must be a whole TFRecord file, not compressed: {error.message}", code=Fault.DATA) from None


def _value(feature: Any) -> str | int | None:
    if len(feature.bytes_list.value) == 1:
        return str(feature.bytes_list.value[0].decode(errors="replace")).strip() or None
    return int(feature.int64_list.value[0]) if len(feature.int64_list.value) == 1 else None
