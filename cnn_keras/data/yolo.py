"""YOLO's text files: a line `class x y width height` for each object, centre and sides as shares of the picture.

`data.yaml` names the classes and the folders (or lists) of pictures of each split; a path in it is relative to its
`path`, and that to the file itself. Labels lie in a folder `labels` beside `images`, or beside the pictures. A longer
line is a polygon `class x y x y x y …`, and the box is what surrounds it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cnn_keras.data import annotations
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.read import SPLITS, whereabouts
from cnn_keras.fault import Fault


def read(path: Path, described: Mapping) -> Annotated:
    """The pictures of a data.yaml, a picture without a text file as background.

    Args:
        path: the file.
        described: what the file holds: `path`, `train`, `val`, `test`, and `names`, a list or a mapping from numbers.
    """
    names = _names(path, described.get("names"))
    root = path.parent / str(described.get("path") or ".")
    given = {key: described[key] for key in ("train", "val", "valid", "validation", "test") if described.get(key)}
    if not given:
        raise Fault(f"{path} must name a folder of pictures as train, val or test, got {', '.join(described)}")
    found: dict[Path, Item] = {}
    for key, value in given.items():
        for place in [value] if isinstance(value, str) else value:
            for picture in _pictures(path, root, key, str(place)):
                if picture not in found:
                    found[picture] = _item(root, picture, names)._replace(split=SPLITS[key])
    annotations.check_pictures(list(found), path)
    return Annotated(list(found.values()), tuple(names.values()))


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`images/SPLIT/`, `labels/SPLIT/` and `data.yaml`; items without a split go to train.

    Crowds are left out; masks and difficult are lost.
    """
    places: dict[str, str] = {}
    for item in items:
        short = "val" if item.split == "validation" else item.split or "train"
        places[short] = f"images/{short}"
        name = annotations.inner_name(item)
        height, width = annotations.save(item, folder / "images" / short / name)
        lines = [
            f"{list(classes).index(found.name)} " + " ".join(f"{value:.10g}" for value in _shares(found, height, width))
            for found in item.objects
            if not found.crowd
        ]
        file = (folder / "labels" / short / name).with_suffix(".txt")
        if file.exists():
            raise Fault(f"pictures must differ in more than their suffix, got {name}: both are {file.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    rows = ["path: .", *(f"{key}: {value}" for key, value in sorted(places.items())), "names:"]
    rows += [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for number, name in enumerate(classes)]
    (folder / "data.yaml").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _shares(found: Object, height: int, width: int) -> tuple[float, ...]:
    left, top, right, bottom = found.box
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height


def _names(path: Path, names: object) -> dict[int, str]:
    if isinstance(names, Mapping) and all(str(number).isdigit() for number in names):
        return {int(number): str(name) for number, name in names.items()}
    if isinstance(names, Sequence) and not isinstance(names, str):
        return {number: str(name) for number, name in enumerate(names)}
    raise Fault(f"{path} must hold names, a list or a mapping from numbers, got {names!r}", code=Fault.DATA)


def _pictures(path: Path, root: Path, key: str, place: str) -> list[Path]:
    """The pictures of a folder or of a list of paths, one a line."""
    options = [root / place, path.parent / place]
    if place.startswith("../"):  # some exporters write the folder as it is seen from below
        options.append(root / place.removeprefix("../"))
    found = next((option for option in options if option.exists()), None)
    if found is None:
        raise Fault(f"{path}: {key} must be there, got {place!r}, which is {whereabouts(options[0])}", code=Fault.DATA)
    if found.is_dir():
        return annotations.pictures_below(found)
    lines = [line.strip() for line in found.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return [
        next((file for file in (found.parent / line, root / line) if file.is_file()), root / line) for line in lines
    ]


def _item(root: Path, picture: Path, names: Mapping[int, str]) -> Item:
    name = "/".join(part for part in annotations.below(root, picture).split("/") if part != "images")
    read = annotations.picture(picture)
    file, size = _labels(picture), annotations.extent(picture)
    if not file.is_file():
        return Item(name, read, troubles=(("without annotation", f"{file.name} is not there"),))
    if size is None:
        return Item(name, read)
    objects, troubles = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            found = _object(line.split(), size, names)
            (objects if isinstance(found, Object) else troubles).append(
                found if isinstance(found, Object) else (found, f"{file.name}, line {number}: {line.strip()[:60]}")
            )
    return Item(name, read, tuple(objects), troubles=tuple(troubles))


def _object(fields: Sequence[str], size: tuple[int, int], names: Mapping[int, str]) -> Object | str:
    """What a line says, or the kind of trouble with it."""
    values, (height, width) = annotations.numbers(fields), size
    if values is None or len(values) < 5 or values[0] != int(values[0]) or (len(values) > 6 and len(values) % 2 == 0):
        return "malformed annotation"
    if int(values[0]) not in names:
        return "unknown class"
    if len(values) > 6:
        points = tuple(value * (width, height)[place % 2] for place, value in enumerate(values[1:]))
        return Object(annotations.around(points), names[int(values[0])], mask=(points,))
    x, y, across, down = values[1:5]
    box = ((x - across / 2) * width, (y - down / 2) * height, (x + across / 2) * width, (y + down / 2) * height)
    return Object(box, names[int(values[0])])


def _labels(picture: Path) -> Path:
    """The text file of a picture: the last folder `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
        beside = Path(*parts).with_suffix(".txt")
        if beside.is_file() or not picture.with_suffix(".txt").is_file():
            return beside
    return picture.with_suffix(".txt")
