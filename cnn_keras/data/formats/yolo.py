"""YOLO's text files: a line `class x y width height` for each object, centre and sides as shares of the picture.

`data.yaml` names the classes and the folders, lists or pictures of each split; a path in it is relative to its
`path`, and that to the file itself. What it names must be there, but for the test set that Roboflow names in each file,
which is left out and reported. Darknet's `obj.data` does the same with fewer words. Labels lie in a folder `labels`
beside `images`, or beside the pictures. A longer line is a polygon `class x y x y x y …`, and the box is what surrounds
it – or, where data.yaml has a `kpt_shape`, a box and landmarks.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.data import annotation
from cnn_keras.data.annotation import Annotations, Item, Landmark, Note, Object
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, SPLITS, describe_path, refuse
from cnn_keras.data.files.input_file import is_regular, read_text
from cnn_keras.data.formats import kitti
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

IMAGES = ("images", "jpegimages", "imgs", "img", "image")  # folders of pictures that `labels` lies beside
UNSPLIT = "pictures"  # the key of pictures whose split is not known
LABEL_STUDIO = "notes.json"  # beside its exports
NAMES = (
    "classes.txt",
    "obj.names",
    "labels/classes.txt",
    "names.txt",
    "labels.txt",
)  # beside pictures without a data.yaml


class Meaning(NamedTuple):
    """What the lines of label files mean.

    names: of the classes by their numbers. landmarks: their names; empty where lines have none. seen: whether each has
    a number for its visibility behind its place.
    """

    names: Mapping[int, str]
    landmarks: tuple[str, ...] = ()
    seen: bool = False


def read(path: Path, described: Mapping[str, Any], images: Path | None = None) -> Annotations:
    """The pictures of a data.yaml, a picture without a text file as background.

    Args:
        path: the file.
        described: what the file holds: `path`, `train`, `val`, `test`, `names` – a list, a mapping from numbers or a
            file with a name in each line – and, for landmarks, `kpt_shape` and `kpt_names`.
        images: the folder that paths are relative to, in place of `path`.

    Raises:
        Fault: it names no pictures, none of them is there, or none has a text file.
    """
    root = images or path.parent / str(described.get("path") or ".")
    places = Places([root, path.parent])
    meaning = _meaning(path, described, places)
    lower = {str(key).lower(): value for key, value in described.items()}  # CVAT writes its subsets' own capitals
    keys = ("train", "val", "valid", "validation", "test", UNSPLIT)
    value_of = {key: lower[key] for key in keys if lower.get(key)}
    if not value_of:
        keys_there = ", ".join(map(str, described))
        raise Fault(f"{path} must name a folder of pictures as train, val or test, got {keys_there}", code=Fault.DATA)
    split_of: dict[Path, str | None] = {}
    notes: list[Note] = []
    twice: dict[str, list[Path]] = {}
    for key, value in value_of.items():
        for place in value if isinstance(value, list | tuple) else [value]:
            pictures = _pictures(path, places, key, str(place))
            if pictures is None:
                notes.append(
                    Note("split that is not there", path.name, f"{key}: {place}", "left out, nothing is tested on it")
                )
            for picture in pictures or ():
                if split_of.setdefault(picture, SPLITS.get(key)) != SPLITS.get(key):
                    twice.setdefault(key, []).append(picture)
    for key, pictures in twice.items():
        note = f"{key}: {len(pictures):,} × such as {annotation.relative_id(root, pictures[0])}"
        notes.append(Note("picture in two splits", path.name, note, f"kept for {split_of[pictures[0]]}"))
    annotation.check_pictures(split_of, path, str(next(iter(value_of.values()))))
    items = [_item(root, picture, places, meaning)._replace(split=split) for picture, split in split_of.items()]
    if all(any(kind == "without annotation" for kind, _ in item.troubles) for item in items):
        raise Fault(
            f"{path} must name pictures with text files, got none for any of {len(items)}, looked for as "
            f"{_labels(next(iter(split_of)), places)[0]}",
            code=Fault.DATA,
        )
    notes += annotation.out_of_bounds_notes(items, path) if is_regular(path.parent / LABEL_STUDIO) else ()
    roots = (path.parent, *([images] if images else []))
    return Annotations(items, tuple(meaning.names.values()), (*notes, *places.notes(path)), roots)


def darknet(path: Path) -> dict[str, str]:
    """What Darknet's `obj.data` says, in the words of a data.yaml: its lines are `key = value`."""
    lines = [line.partition("=") for line in read_text(path).splitlines() if not line.lstrip().startswith("#")]
    return {key.strip(): value.strip() for key, sign, value in lines if sign and value.strip()}


def infer_description(folder: Path) -> dict[str, str] | None:
    """What a data.yaml would say of a folder that has a file of names and none of that kind; None without one."""
    file = next((name for name in NAMES if is_regular(folder / name)), None)
    return {UNSPLIT: ".", "names": file} if file else None


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str], scores: bool = False) -> None:
    """`images/SPLIT/`, `labels/SPLIT/` and `data.yaml`; items without a split go to train.

    Crowds are left out; masks, landmarks and difficult are lost. Places are relative to the file, without a `path`.

    Args:
        scores: the score of an object that has one is a sixth column, which most programs that train do not read.

    Raises:
        Fault: two pictures differ in nothing but their suffix, or one cannot be read.
    """
    places: dict[str, str] = {}
    for item in items:
        short = "val" if item.split == "validation" else item.split or "train"
        places[short] = f"images/{short}"
        name = annotation.inner_name(item)
        height, width = annotation.save(item, folder / "images" / short / name)
        lines = [
            f"{list(classes).index(object_.name)} "
            + " ".join(f"{value:.10g}" for value in (*_shares(object_, height, width), *_score(object_, scores)))
            for object_ in item.objects
            if not object_.crowd
        ]
        file = (folder / "labels" / short / name).with_suffix(".txt")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {name}: both are {file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    rows = []
    for key, other in (("train", "val"), ("val", "train")):
        if key not in places:
            rows.append(f"# No split says what is {key}; training needs the key, and gets {other} for it.")
            places[key] = places.get(other, "images/test")
    rows += [*(f"{key}: {value}" for key, value in sorted(places.items())), "names:"]
    rows += [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(classes)]
    (folder / "data.yaml").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _shares(object_: Object, height: int, width: int) -> tuple[float, ...]:
    left, top, right, bottom = object_.box
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def _score(object_: Object, wanted: bool) -> tuple[float, ...]:
    return () if object_.score is None or not wanted else (object_.score,)


def _meaning(path: Path, described: Mapping[str, Any], places: Places) -> Meaning:
    """What lines mean, as a data.yaml says."""
    names = _names(path, described, places)
    shape = described.get("kpt_shape")
    if shape is None:
        return Meaning(names)
    if not isinstance(shape, list | tuple) or len(shape) != 2 or not all(isinstance(value, int) for value in shape):
        raise Fault(f"{path} must hold kpt_shape as [landmarks, 2 or 3], got {shape!r}", code=Fault.DATA)
    count, fields = shape
    if not 0 < count <= 10_000 or fields not in (2, 3):
        raise Fault(f"{path} must hold kpt_shape as [landmarks, 2 or 3], got {shape!r}", code=Fault.DATA)
    keypoint_names = described.get("kpt_names")
    keypoints: Any = (
        next(iter(keypoint_names.values()), None) if isinstance(keypoint_names, Mapping) else keypoint_names
    )
    named = isinstance(keypoints, list | tuple) and len({str(name) for name in keypoints}) == count
    return Meaning(names, tuple(map(str, keypoints if named else range(count))), fields == 3)


def _names(path: Path, described: Mapping[str, Any], places: Places) -> dict[int, str]:
    names = described.get("names")
    if isinstance(names, Mapping) and names and all(str(number).isdecimal() for number in names):
        return {int(number): str(name) for number, name in names.items()}
    if isinstance(names, Sequence) and names and not isinstance(names, str):
        return {number: str(name) for number, name in enumerate(names)}
    if isinstance(names, str) and (file := places.file(names)):
        lines = [line.strip() for line in read_text(file).splitlines()]
        return {number: name for number, name in enumerate(lines) if name}
    held = f"the keys {', '.join(map(str, described))}" if names is None else repr(str(names)[:60])
    raise Fault(
        f"{path} must hold names, a list, a mapping from numbers or a file of them, got {held}",
        code=Fault.DATA,
    )


def _pictures(path: Path, places: Places, key: str, place: str) -> list[Path] | None:
    """The pictures of a folder, of a list of paths, one a line, or the one that is named.

    None where a test set is not there whose place is above the file: Roboflow writes `../test/images` in every file,
    with a test set or without.
    """
    if (folder := places.folder(place)) and not _is_meant_as_file(place, places):
        return annotation.pictures_below(folder)
    file = places.file(place)
    if file is None:
        if key == "test" and place.startswith("../"):
            return None
        where = describe_path(places.roots[0] / place)
        raise Fault(f"{path}: {key} must be there, got {place!r}, which is {where}", code=Fault.DATA)
    if file.suffix.lower() in IMAGE_SUFFIXES:
        return [file]
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    list_places = Places([file.parent, *places.roots])
    files = list_places.files(names)
    places.remember(list_places)
    return [files[name] or places.roots[0] / name for name in names]


def _is_meant_as_file(place: str, places: Places) -> bool:
    return any(is_regular(root / place) for root in places.roots)


def _item(root: Path, picture: Path, places: Places, meaning: Meaning) -> Item:
    name = "/".join(part for part in annotation.relative_id(root, picture).split("/") if part.lower() not in IMAGES[:2])
    read = annotation.image_reader(picture)
    labels_file = _labels(picture, places)
    file = next((place for place in labels_file if is_regular(place)), None)
    if file is None:
        trouble = ("without annotation", f"{labels_file[0].name} is not there")
        return Item(name, read, troubles=(trouble,), file=picture)
    size = annotation.image_size(picture)
    if size is None:
        return Item(name, read, file=picture)
    try:
        lines = read_text(file).splitlines()
    except Fault as fault:
        return Item(name, partial(refuse, "broken annotation", str(fault)), file=picture)
    objects, troubles = [], []
    for number, line in enumerate(lines, 1):
        if fields := line.split():
            object_ = _object(fields, size, meaning)
            if isinstance(object_, Object):
                objects.append(object_)
            else:
                troubles.append((object_, f"{file.name}, line {number}: {line.strip()[:60]}"))
    return Item(name, read, tuple(objects), size=size, troubles=tuple(troubles), file=picture)


def _object(fields: Sequence[str], size: tuple[int, int], meaning: Meaning) -> Object | str:
    """What a line says, or the kind of trouble with it."""
    values, (height, width) = annotation.finite_numbers(fields), size
    if values is None and kitti.is_line(fields):
        return "line of KITTI's, for source kitti"
    if values is None or len(values) < 5 or values[0] != int(values[0]):
        return "malformed annotation"
    number, rest = int(values[0]), values[1:]
    if number not in meaning.names:
        return "unknown class"
    if meaning.landmarks and len(rest) > 5:
        object_ = _posed(rest, size, meaning)
        return object_._replace(name=meaning.names[number]) if isinstance(object_, Object) else object_
    if len(rest) > 5:
        if _is_pose(rest):
            return "landmarks without kpt_shape in data.yaml"
        if len(rest) % 2:
            return "malformed annotation"
        points = tuple(value * (width, height)[place % 2] for place, value in enumerate(rest))
        return Object(annotation.enclosing_box(points), meaning.names[number], mask=(points,))
    return Object(_box(rest, size), meaning.names[number], score=rest[4] if len(rest) == 5 else None)


def _posed(rest: Sequence[float], size: tuple[int, int], meaning: Meaning) -> Object | str:
    """A box and its landmarks, or the kind of trouble."""
    step, (height, width) = 3 if meaning.seen else 2, size
    if len(rest) != 4 + step * len(meaning.landmarks):
        return "malformed annotation"
    marks = []
    for name, start in zip(meaning.landmarks, range(4, len(rest), step), strict=True):
        x, y = rest[start : start + 2]
        is_visible = rest[start + 2] == 2 if meaning.seen else (x, y) != (0, 0)  # 1 is known and hidden
        marks.append(Landmark(name, x * width, y * height, is_visible))
    return Object(_box(rest, size), "", landmarks=tuple(marks))


def _box(shares: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    (x, y, across, down), (height, width) = shares[:4], size
    return (x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height


def _is_pose(rest: Sequence[float]) -> bool:
    """Whether a box and triples of x, y and a visibility of 0, 1 or 2 fit better than a polygon."""
    visibilities = rest[6::3]
    return (len(rest) - 4) % 3 == 0 and set(visibilities) <= {0, 1, 2} and 2 in visibilities


def _labels(picture: Path, places: Places) -> list[Path]:
    """Where the text file of a picture may be: the last folder of pictures in its path becomes `labels`; beside it."""
    own = f"{picture.stem}.txt"
    candidates = []
    for folder in picture.parents:
        if folder.name.lower() in IMAGES:
            inner = (picture.parent.relative_to(folder) / own).as_posix()
            candidates.append(places.within(folder.parent, f"labels/{inner}") or folder.parent / "labels" / inner)
    return [*candidates[:1], places.within(picture.parent, own) or picture.with_suffix(".txt"), *candidates[1:]]
