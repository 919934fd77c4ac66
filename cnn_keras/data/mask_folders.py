"""Masks as files: a folder of pictures, and beside it a folder of masks whose pixels are numbers of classes.

Read as they are found in the wild: `images/` beside `masks/`, `labels/` or `annotations/`, each with folders for the
splits inside or around; `train/` beside `trainannot/`, as CamVid is passed on; Pascal VOC's `JPEGImages/` beside
`SegmentationClass/`. Masks are PNG files, indexed or grey: the number is the index, not the colour. `classes.txt` or
`codes.txt` names the numbers from 0 on, a line each; `train.txt`, `val.txt` and `test.txt` prescribe splits. NIfTI
files lie in the same way, see `mask_volumes`.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from PIL import Image

from cnn_keras.data import annotations
from cnn_keras.data import read as sources
from cnn_keras.data.encoded import BROKEN, PIXEL_LIMIT, Unreadable
from cnn_keras.data.label_maps import Item, LabelMaps, Mask, check_size
from cnn_keras.data.read import SPLITS, refuse, whereabouts
from cnn_keras.fault import Fault

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "pictures", "photos", "volumes")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annot", "gt", "gtfine",
         "segmentationclass", "segmentationclasspng")  # fmt: skip
TOGETHER = {"labelstr": "imagestr", "labelsts": "imagests"}  # folders of masks that go with one of pictures alone
INSTANCES = ("instances", "segmentationobject", "segmentationobjectpng")
BESIDE = "annot"  # what is behind the name of a split's folder of masks
ENDING = "_masks?|_labels?|_seg|_gt|_P|_L"  # of a mask's name, not of its picture's
NAMES = ("classes.txt", "codes.txt", "class_names.txt", "labels.txt")
LISTS = ("", "ImageSets/Segmentation")  # where files that list a split are


class Kind(NamedTuple):
    """What lies in the folders: pictures or volumes.

    suffixes: of their files; masks: of those of masks; load: reads the files of one picture; read: those of its mask
    and of its things, where they are told apart, given the sizes of the picture; ending: a regular expression for what
    stands behind the name in each of several files of one picture.
    """

    suffixes: tuple[str, ...]
    masks: tuple[str, ...]
    load: Callable[[list[Path]], Any]
    read: Callable[[Path, Path | None, tuple[int, ...]], Mask]
    ending: str = ""


def read(path: Path) -> LabelMaps:
    """Every picture below `path` that has a folder of masks, and the names that stand in its file of classes.

    A picture without a mask, and a mask without a picture, is an item that cannot be read.
    """
    return LabelMaps(paired(path, PICTURES), named(path))


def paired(path: Path, kind: Kind) -> list[Item]:
    """The items of the folders below `path`, in the order of their names."""
    if not path.is_dir():
        raise Fault(f"data.path must be a folder, got {whereabouts(path)}")
    pairs = _folders(path, kind)
    if not pairs:
        raise Fault(
            f"data.path must hold a folder of pictures beside one of masks, such as images/ and masks/, got "
            f"{whereabouts(path)}",
            code=Fault.DATA,
        )
    listed = _listed(path)
    items = [item for images, masks in pairs.items() for item in _items(path, images, masks, kind=kind, listed=listed)]
    return sorted(items, key=lambda item: sources.natural(item.id))


def numbers(path: Path) -> np.ndarray:
    """The numbers that a mask's file holds: integers (height, width).

    Raises:
        Unreadable: no PNG file or a broken one, one in colours, or too large.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise Unreadable("huge", f"a mask may have {PIXEL_LIMIT:,} pixels, this one has {image.size}")
            found = np.asarray(image)
    except Unreadable:
        raise
    except BROKEN as error:
        said = (str(error).splitlines() or ["it is broken"])[-1]
        raise Unreadable("unreadable mask", f"masks must be PNG files: {said}") from None
    if found.ndim == 3 and (found[..., :3] == found[..., :1]).all():
        found = found[..., 0]
    if found.ndim == 3:
        raise Unreadable("unreadable mask", "it is in colours; a mask must be grey or indexed, its pixels numbers")
    return found.astype(np.int32)


def mask(path: Path, instances: Path | None, size: tuple[int, int]) -> Mask:
    """The mask of a picture of this size, and where there is a file, its things told apart."""
    values = numbers(path)
    check_size(values.shape, size)
    apart = None if instances is None else numbers(instances)
    if apart is not None:
        check_size(apart.shape, size)
    return Mask(values, apart)


def _folders(path: Path, kind: Kind) -> dict[Path, Path]:
    """Folders of pictures, and for each the first one of its masks; a folder that holds no mask is none."""
    found: dict[Path, Path] = {}
    for folder in sorted(inner for inner in path.rglob("*") if inner.is_dir()):
        name = folder.name.lower()
        siblings = {inner.name.lower(): inner for inner in folder.parent.iterdir() if inner.is_dir()}
        together = TOGETHER.get(name, name.removesuffix(BESIDE) if name.endswith(BESIDE) else "")
        wanted = IMAGES if name in MASKS else (together,)
        images = next((siblings[one] for one in wanted if one in siblings), None)
        if images and images not in found and next(_keyed(folder, kind.masks), None):
            found[images] = folder
    return found


def _items(path: Path, images: Path, masks: Path, *, kind: Kind, listed: dict[str, str]) -> Iterator[Item]:
    """An item for each picture, and for each mask whose picture is missing."""
    pictures: dict[str, list[Path]] = {}
    for key, file in _keyed(images, kind.suffixes, kind.ending):
        pictures.setdefault(key, []).append(file)
    files = dict(_keyed(masks, kind.masks, ENDING))
    apart = [other for other in sorted(masks.parent.iterdir()) if other.name.lower() in INSTANCES]
    things = {key: file for other in apart for key, file in _keyed(other, kind.masks, ENDING)}
    for key, found in pictures.items():
        name, bare = annotations.below(path, found[0]), key.rpartition("/")[2]
        split = listed.get(bare, _split(path, found[0]))
        item = Item(name, partial(kind.load, found), partial(_none, masks), split)
        if key in files:
            item = item._replace(mask=partial(kind.read, files[key], things.get(key)))
        yield item
    for key in files.keys() - pictures.keys():
        name = annotations.below(path, files[key])
        yield Item(name, partial(refuse, "missing image", "a mask without a picture"), partial(_none, masks))


def _none(masks: Path, size: tuple[int, ...]) -> NoReturn:
    refuse("without a mask", f"none has its name in {masks.name}/")


def _keyed(root: Path, suffixes: tuple[str, ...], ending: str = "") -> Iterator[tuple[str, Path]]:
    """Files and what a picture and its mask share: the folders below their own, and the name without its ending."""
    for file in sorted(root.rglob("*")):
        suffix = next((one for one in suffixes if file.name.lower().endswith(one)), None)
        if suffix and file.is_file() and not file.name.startswith(sources.HIDDEN):
            bare = file.name[: -len(suffix)]
            yield (file.relative_to(root).parent / re.sub(f"(?:{ending})$", "", bare)).as_posix(), file


def _split(path: Path, file: Path) -> str | None:
    """The split that a folder between `path` and a picture names."""
    between = (part.lower() for part in file.relative_to(path).parts[:-1])
    return next((SPLITS[part] for part in between if part in SPLITS), None)


def _listed(path: Path) -> dict[str, str]:
    """The split of each picture by its name without suffix, as lists say: the first word of a line, or its path."""
    found: dict[str, str] = {}
    for place in LISTS:
        for name, split in SPLITS.items():
            file = path / place / f"{name}.txt"
            lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
            found |= {Path(line.split()[0]).stem: split for line in lines if line.strip()}
    return found


def named(path: Path) -> dict[int, str]:
    """The names of the numbers from 0 on, as a file in the folder lists them; none where there is no such file."""
    file = next((path / name for name in NAMES if (path / name).is_file()), None)
    if file is None:
        return {}
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    return dict(enumerate(line for line in lines if line and line != "__ignore__"))


def _only(files: list[Path]) -> bytes:
    return files[0].read_bytes()


PICTURES = Kind(tuple(sources.IMAGE_SUFFIXES), (".png",), _only, mask)
