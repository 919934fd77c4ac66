"""Masks as files: a folder of pictures, and beside it a folder of masks whose pixels are numbers or colours of classes.

Read as they are found in the wild: `images/` beside `masks/`, `labels/` or `annotations/`, each with folders for the
splits inside or around; `train/` beside `trainannot/` or `train_masks/`; Pascal VOC's `JPEGImages/` beside
`SegmentationClass/`; Cityscapes' `leftImg8bit/` beside `gtFine/`; Roboflow's pictures and masks in one folder. Masks
are lossless files. Of an indexed one the number is the index, not the colour, unless a table names all its colours
or it is a GIF.
`color_tables` knows the files that name numbers and colours, `split_lists` those that prescribe splits. NIfTI files
lie in the same way, see `mask_volumes`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from PIL.Image import Transpose

from cnn_keras.data import annotation
from cnn_keras.data.files import dicom, file_tree, input_file
from cnn_keras.data.files.file_tree import SPLITS, describe_path, refuse
from cnn_keras.data.files.image_file import BROKEN, PIXEL_LIMIT, Picture, open_image
from cnn_keras.data.formats import exif_orientation, split_lists
from cnn_keras.data.formats.masks import color_tables
from cnn_keras.data.formats.masks.color_tables import Legend
from cnn_keras.data.label_map import Item, LabelMaps, Mask, check_size
from cnn_keras.errors import Fault, Unreadable

IMAGES = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "pictures", "photos", "volumes", "frames")
MASKS = ("masks", "mask", "labels", "label", "annotations", "annotation", "annot", "gt", "gtfine", "gtcoarse", "seg",
         "segmentations", "masks_machine", "segmentationclass", "segmentationclasspng",
         "segmentationclassraw")  # fmt: skip
AFFIXED = re.compile(r"(.*?)[_-]?(?:masks?|labels?|annot(?:ations?)?|gt|segmentations?)[_-]?(.*)")
AROUND = r"[_-]?(?:images?|imgs?|frames|prepped)[_-]?"  # what stands around a split in the name of a folder
CHANNELS = ("imagestr", "imagests")  # folders in which nnU-Net numbers the files of one picture
INSTANCES = ("instances", "segmentationobject", "segmentationobjectpng")
ENDING = (
    r"(?i:_masks?|_labels?|_seg(?:mentation)?|_gt)|_P|_L|(?:_gtFine|_gtCoarse)?_label(?:Train)?Ids"  # of a mask's name
)
APART = r"(?:_gtFine|_gtCoarse)?_instanceIds"  # of the name of a file that tells things apart
COMPANION = rf"{APART}|(?:_gtFine|_gtCoarse)?_(?:color|colour|instanceTrainIds)(?:_mask)?"  # of files of no use here
PICTURES_ENDING = "_leftImg8bit"
BRUSH = re.compile(r"task-\d+-annotation-\d+-by-.+-tag-.+-\d+\.png$")  # a mask, without the name of its picture
LISTS = ("", "ImageSets/Segmentation", "ImageSets", "splits", "lists")  # where files that list a split are
LOSSLESS = ("PNG", "GIF", "BMP", "TIFF", "PPM")
WHOLE = 1e-3  # how far a number may be from a whole one


class Kind(NamedTuple):
    """What lies in the folders: pictures or volumes.

    suffixes: of their files; masks: of those of masks; load: reads the files of one picture; read: given those, reads
    its mask and its things, where they are told apart, given the sizes of the picture; ending: a regular expression for
    what may stand behind the name that a picture shares with its mask.
    """

    suffixes: tuple[str, ...]
    masks: tuple[str, ...]
    load: Callable[[list[Path]], Any]
    read: Callable[[list[Path], Path, Path | None, tuple[int, ...]], Mask]
    ending: str


class Pair(NamedTuple):
    """A folder of pictures and one of masks; the same folder where they lie together."""

    images: Path
    masks: Path


def read(path: Path) -> LabelMaps:
    """Every picture below `path` that has a folder of masks, and what files beside them say of the numbers.

    A picture without a mask, and a mask without a picture, is an item that cannot be read.
    """
    file_tree.check_folder(path)
    legend = color_tables.read_legend(path)
    pairs = _pairs(path, PICTURES)
    assumed = not legend.names
    legend = _published(pairs) if assumed else legend
    kind = PICTURES._replace(read=partial(read_mask, legend.colours))
    return LabelMaps(pair_items(path, kind, pairs), legend.names, legend.ignored, assumed)


def pair_items(path: Path, kind: Kind, pairs: list[Pair] | None = None) -> list[Item]:
    """The items of the folders below `path`, in the order of their names.

    Raises:
        Fault: no folder of pictures stands beside one of masks.
    """
    file_tree.check_folder(path)
    pairs = _pairs(path, kind) if pairs is None else pairs
    if len(pairs) > 1 and all(pair.masks.name == "masks" and len(list(pair.images.iterdir())) == 1 for pair in pairs):
        raise Fault(
            f"{path} has folders of masks for each picture, such as {pairs[0].masks.relative_to(path)}, each mask a "
            "thing: read them with data.source=dsb",
            code=Fault.DATA,
        )
    if painted := next((file for file in annotation.files_below(path, [".png"]) if BRUSH.match(file.name)), None):
        raise Fault(
            f"{path} holds masks of Label Studio's brush, such as {painted.name}, which do not say of which picture "
            "they are; export its JSON and read that with data.source=labelstudio",
            code=Fault.DATA,
        )
    if not pairs:
        raise Fault(
            f"data.path must hold a folder of pictures beside one of masks, such as images/ and masks/, their files "
            f"ending in {', '.join(sorted(kind.suffixes))}, got {_endings(path)} in {describe_path(path)}",
            code=Fault.DATA,
        )
    candidates = [item for pair in pairs for item in _items(path, pair, kind)]
    items = {item.id: item for item, _ in candidates}
    lists = split_lists.read(
        [path / place for place in LISTS],
        {item.id: names for item, names in candidates if names},
    )
    for id_, splits in lists.splits.items():
        item = items[id_]._replace(split=splits[0])
        if len(splits) > 1:
            reason = f"lists name it for {' and '.join(splits)}"
            item = item._replace(read=partial(refuse, "broken annotation", reason))
        items[id_] = item
    for item, names in candidates:
        if lists.whole and names and item.id not in lists.splits and item.split is None:
            items[item.id] = item._replace(read=partial(refuse, "not listed", "no list names it"))
    strangers = [
        Item(f"{file.name}: {name}", partial(refuse, "missing image", "listed, and not there"), partial(_none, path))
        for file, name in lists.strangers
    ]
    return sorted([*items.values(), *strangers], key=lambda item: file_tree.natural(item.id))


def _endings(path: Path) -> str:
    """The endings of the files below a folder, and how many have each, the commonest first."""
    counts = Counter("".join(file.suffixes[-2:]) or file.name for _, files in file_tree.tree(path) for file in files)
    return ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common(6)) or "no file"


def lacks_mask(item: Item) -> bool:
    """Whether the item's picture is there, and no file of its mask."""
    missing = isinstance(item.read, partial) and item.read.args[:1] == ("missing image",)
    return not missing and isinstance(item.mask, partial) and item.mask.func is _none


def read_numbers(path: Path, colours: frozenset[int] = frozenset()) -> np.ndarray:
    """The numbers that a mask's file holds: integers (height, width); of colours see `color_tables`.

    Args:
        colours: the numbers of the colours that a table names; an indexed mask of such colours alone is a coloured one.

    Raises:
        Unreadable: no lossless picture, a broken one, one of numbers that are not whole, or too large.
    """
    data = input_file.read_bytes(path)
    try:
        image = open_image(data)
        if image.format not in LOSSLESS:
            raise Unreadable("unsupported", f"{image.format} changes the numbers of pixels; save masks as PNG")
        if image.width * image.height > PIXEL_LIMIT:
            raise Unreadable("huge", f"a mask may have {PIXEL_LIMIT:,} pixels, this one has {image.size}")
        numbers = np.asarray(image)
        palette = image.convert("RGB") if image.mode == "P" and (colours or image.format == "GIF") else None
    except Unreadable as error:
        raise Unreadable(error.kind if error.kind == "huge" else "unreadable mask", str(error)) from None
    except BROKEN as error:
        message = (str(error).splitlines() or ["it is broken"])[-1]
        raise Unreadable("unreadable mask", f"it cannot be decoded: {message}") from None
    if palette is not None:
        palette_colours = _coloured(np.asarray(palette))
        if (
            image.format == "GIF" or set(np.unique(palette_colours).tolist()) <= colours
        ):  # a GIF's indices are any program's own
            return palette_colours
    if numbers.ndim == 3:
        return _coloured(numbers[..., :3]) if numbers.shape[-1] > 2 else numbers[..., 0].astype(np.int32)
    return to_integers(numbers)


def to_integers(values: np.ndarray) -> np.ndarray:
    """Numbers of any shape as int32, those that are a thousandth or less away from whole ones rounded.

    Raises:
        Unreadable: others, or larger ones than int32 holds.
    """
    if values.dtype.kind == "f":
        rounded = np.round(values)
        if not (np.abs(values - rounded) <= WHOLE).all():  # nan is not
            raise Unreadable("unreadable mask", "its numbers must be whole")
        values = rounded
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise Unreadable("unreadable mask", "its numbers must be those of classes, got some beyond 2³¹")
    return values.astype(np.int32)


def read_mask(
    colours: frozenset[int], files: list[Path], path: Path, instances: Path | None, size: tuple[int, int]
) -> Mask:
    """The mask of a picture of this size, and where there is a file, its things told apart.

    Of a picture that its camera stored rotated, a mask of the size as it is stored is turned as the picture is.
    """
    values, apart = read_numbers(path, colours), None if instances is None else read_numbers(instances)
    turn = _turn(files[0])
    notes = []
    if turn is not None and values.shape == _stored(size, turn) != tuple(size):
        transpose = exif_orientation.PIXELS[turn]
        values, apart = transpose(values), None if apart is None else transpose(apart)
        notes = [("mask of the unrotated image, turned", f"upright it is {size[1]}x{size[0]}")]
    elif turn is not None and _stored(size, turn) == tuple(size):
        notes = [("mask of a rotated image, taken as upright", "its size does not say whether it is rotated, too")]
    check_size(values.shape, size)
    if apart is not None:
        check_size(apart.shape, size)
    return Mask(values, apart, tuple(notes))


def _turn(file: Path) -> Transpose | None:
    """What makes a picture upright, from its header; None where it is, or says nothing."""
    try:
        return Picture(input_file.read_bytes(file)).turn
    except (OSError, Unreadable):  # told where the picture is read
        return None


def _stored(size: tuple[int, int], turn: Transpose) -> tuple[int, int]:
    """The size of a picture before `turn` has made it upright."""
    quarter = turn in (Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSPOSE, Transpose.TRANSVERSE)
    return (size[1], size[0]) if quarter else (size[0], size[1])


def _coloured(levels: np.ndarray) -> np.ndarray:
    """The numbers of colours, uint8 (height, width, 3)."""
    red, green, blue = (levels[..., channel].astype(np.int32) for channel in range(3))
    grey = (red == green) & (green == blue)
    return np.where(grey, red, color_tables.COLOURED + (red << 16) + (green << 8) + blue)


def _pairs(path: Path, kind: Kind) -> list[Pair]:
    """Folders of pictures, each with the first one of its masks; a folder that holds no mask is none."""
    folders = dict(file_tree.tree(path))
    siblings: dict[Path, dict[str, Path]] = {}
    for folder in folders:
        siblings.setdefault(folder.parent, {})[folder.name.lower()] = folder
    mask_folder_of: dict[Path, Path] = {}
    for folder in sorted(folders):
        beside = siblings[folder.parent] if folder != path else {}
        candidates = [beside[name] for name in _wanted(folder.name.lower()) if name in beside]
        images = next(
            (folder_ for folder_ in candidates if folder_ != folder and next(_files(folder_, kind.suffixes), None)),
            None,
        )
        if images and images not in mask_folder_of and next(_files(folder, kind.masks), None):
            mask_folder_of[images] = folder
    used_folders = [*mask_folder_of, *mask_folder_of.values()]
    for folder, files in folders.items():
        if not any(folder.is_relative_to(other) for other in used_folders) and _together(files, kind):
            mask_folder_of[folder] = folder
    return [Pair(images, masks) for images, masks in mask_folder_of.items()]


def _wanted(name: str) -> list[str]:
    """What a folder of pictures may be called beside one of masks with this name, in lower case."""
    if name in MASKS:
        return list(IMAGES)
    parts = AFFIXED.fullmatch(name)
    if not parts or not (parts.group(1) or parts.group(2)):
        return []
    before, behind = parts.groups()
    return [name for name in (before, behind) if name] + [
        f"{first}{mark}{second}"
        for word in IMAGES
        for first, second in ([(before, word)] if before else []) + ([(word, behind)] if behind else [])
        for mark in ("", "_", "-")
    ]


def _together(files: list[Path], kind: Kind) -> set[Path]:
    """The masks of a folder that holds pictures too: files that are called like another one, with an ending."""
    bare = {_bare(file, kind.suffixes) for file in files} - {None}
    return {
        file
        for file in files
        if (name := _bare(file, kind.masks)) and (stem := re.sub(f"(?:{ENDING})$", "", name)) != name and stem in bare
    }


def _bare(file: Path, suffixes: tuple[str, ...]) -> str | None:
    """The name of a file without its suffix; None if it has none of these."""
    suffix = next((ending for ending in suffixes if file.name.lower().endswith(ending)), None)
    return file.name[: -len(suffix)] if suffix else None


def _files(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Files, and their paths below `root` without suffix; where DICOM is among the suffixes, a series is its folder."""
    for folder, files in file_tree.tree(root):
        if dicom.SUFFIX in suffixes and dicom.is_series(folder):
            yield (folder.relative_to(root.parent if folder == root else root)).as_posix(), folder
            continue
        for file in files:
            if (bare := _bare(file, suffixes)) is not None:
                yield (folder.relative_to(root) / bare).as_posix(), file


def _items(path: Path, pair: Pair, kind: Kind) -> Iterator[tuple[Item, list[str]]]:
    """An item for each picture, with what lists may call it, and for each mask whose picture is missing."""
    together = (
        _together([file for _, file in _files(pair.images, kind.masks)], kind) if pair.images == pair.masks else None
    )
    masks = [(name, file) for name, file in _files(pair.masks, kind.masks) if together is None or file in together]
    images = [(name, file) for name, file in _files(pair.images, kind.suffixes) if file not in (together or ())]
    number_pattern = rf"_\d{{4}}|{kind.ending}" if pair.images.name.lower() in CHANNELS else kind.ending
    forms = _forms(masks)
    if not any(option in forms for name, file in images for option in _options(name, file, number_pattern)):
        masks, images = _bare_names(masks), _bare_names(images)  # masks in folders of their own, such as trimaps/
        forms = _forms(masks)
    things = {
        re.sub(f"(?:{ENDING})$", "", name): file
        for other in sorted(pair.masks.parent.iterdir())
        if other.name.lower() in INSTANCES and other.is_dir()
        for name, file in _files(other, kind.masks)
    }
    pictures: dict[str, list[Path]] = {}
    for name, file in images:
        options = _options(name, file, number_pattern)
        key = next((option for option in options if option in forms), options[number_pattern != kind.ending])
        pictures.setdefault(key, []).append(file)
    for key, files in pictures.items():
        item = Item(
            annotation.relative_id(path, files[0]),
            partial(kind.load, files),
            partial(_none, pair.masks),
            _split(path, files[0]),
        )
        matches = _chosen(forms.get(key, []))
        if len(matches) == 1:
            apart = [file for file in forms[key] if re.search(rf"(?:{APART})\.\w+$", file.name)]
            item = item._replace(
                mask=partial(kind.read, files, matches[0], things.get(key, apart[0] if apart else None))
            )
        elif matches:
            item = item._replace(mask=partial(_several, matches))
        stems = [
            f"{annotation.relative_id(path, file).rpartition('/')[0]}/{_bare(file, kind.suffixes) or file.name}"
            for file in files
        ]
        yield item, [key, *stems, *(file.name for file in matches)]
    used_files = {file for key in pictures for file in forms.get(key, [])}
    for name, file in masks:
        if file not in used_files and re.sub(f"(?:{COMPANION})$", "", name) not in pictures:
            reading = partial(refuse, "missing image", "a mask without a picture")
            yield Item(annotation.relative_id(path, file), reading, partial(_none, pair.masks)), []


def _forms(masks: list[tuple[str, Path]]) -> dict[str, list[Path]]:
    """Masks by what their pictures may be called."""
    forms: dict[str, list[Path]] = {}
    for name, file in masks:
        for form in dict.fromkeys((name, re.sub(f"(?:{ENDING})$", "", name), re.sub(f"(?:{APART})$", "", name))):
            forms.setdefault(form, []).append(file)
    return forms


def _options(name: str, file: Path, ending: str) -> list[str]:
    """What a picture's mask may be called."""
    return [name, re.sub(f"(?:{ending})$", "", name), f"{name}{file.suffix}"]


def _bare_names(files: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    return [(name.rpartition("/")[2], file) for name, file in files]


def _chosen(files: list[Path]) -> list[Path]:
    """The masks among the files that go with a picture: one, unless nobody knows which."""
    masks = [file for file in files if not re.search(rf"(?:{APART})\.\w+$", file.name)]
    training = [file for file in masks if "_labelTrainIds" in file.name]
    return training or masks


def _none(masks: Path, size: tuple[int, ...]) -> NoReturn:
    refuse("without a mask", f"none has its name in {masks.name}/")


def _several(files: list[Path], size: tuple[int, ...]) -> NoReturn:
    refuse("unreadable mask", f"several files are its mask: {', '.join(file.name for file in files)}")


def _split(path: Path, file: Path) -> str | None:
    """The split that a folder between `path` and a picture names."""
    between = (part.lower() for part in file.relative_to(path).parts[:-1])
    named = (SPLITS.get(part, SPLITS.get(re.sub(AROUND, "", part))) for part in between)
    return next((split for split in named if split), None)


def _published(pairs: list[Pair]) -> Legend:
    """The legend of a published data set whose layout and names the masks have; else an empty one."""
    for _, masks in pairs:
        names = [file.name for _, file in _files(masks, PICTURES.masks)]
        if masks.name.lower() in ("gtfine", "gtcoarse"):
            return color_tables.cityscapes(training=any("_labelTrainIds" in name for name in names))
        marked = [file for _, file in _files(masks, PICTURES.masks) if re.search(r"_L\.\w+$", file.name)]
        if marked and len(marked) == len(names) and _is_coloured(marked[0]):
            return color_tables.camvid()
    return Legend({})


def _is_coloured(path: Path) -> bool:
    try:
        return open_image(input_file.read_bytes(path)).mode in ("RGB", "RGBA")
    except (OSError, Unreadable):
        return False


def _only(files: list[Path]) -> bytes:
    if len(files) > 1:
        raise Unreadable("unsupported", f"a picture must be one file, got {', '.join(file.name for file in files)}")
    return input_file.read_bytes(files[0])


PICTURES = Kind(
    tuple(file_tree.IMAGE_SUFFIXES),
    (".png", ".gif", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".jpg", ".jpeg", ".webp"),
    _only,
    partial(read_mask, frozenset()),
    PICTURES_ENDING,
)
