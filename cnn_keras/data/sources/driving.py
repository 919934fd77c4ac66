"""Recorded drives: pictures of the road in the order of time, each with the steering angle of its moment.

Angles are shares of full lock, −1 for full left to 1 for full right, and throttles shares of full speed, −1 for
backwards to 1, as Donkey records them. A source says what there is, quickly, and hands out encoded bytes on demand;
what cannot be used is a frame too, which says why when it is read.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.data.files import file_tree, input_file
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import classification as read
from cnn_keras.data.sources.synthetic import simulator as roads
from cnn_keras.errors import Fault

PICTURE, ANGLE, THROTTLE, MODE = "cam/image_array", "user/angle", "user/throttle", "user/mode"  # of a tub's records


class Frame(NamedTuple):
    """One moment of a drive, its picture not read yet. Frames of a drive stand in the order of time."""

    id: str
    read: Callable[[], bytes]  # the encoded picture; raises Unreadable for what is none
    angle: float  # −1 to 1; beyond them only where the recording says so
    drive: str
    split: str | None = None
    label: str = ""
    throttle: float | None = None  # −1 to 1; None where it was not recorded, or as no number
    shot: roads.Shot | None = None  # of a drawn road, which knows the route too


def frames(source: str, **arguments: Any) -> list[Frame]:
    """The frames of `source`: road, tub or csv.

    Raises:
        Fault: an unknown source, or an argument it needs or does not take.
    """
    functions: dict[str, Callable[..., list[Frame]]] = {"road": road, "tub": tub, "csv": csv_file}
    if source not in functions:
        raise Fault(f"data.source must be {', '.join(functions)}, got {source!r}")
    return read.call_source(functions[source], source, arguments)


def road(
    *, drives: int = 8, frames: int = 300, wander: float = 0.25, hand: float = 0.02, forks: bool = False, seed: int = 0
) -> list[Frame]:
    """Drives on roads that are made up: see `sources.synthetic.simulator`. No two drives share a road."""
    items = []
    for number in range(drives):
        shots = roads.recording(seed + number, frames, wander=wander, hand=hand, forks=forks)
        for place, shot in enumerate(shots):
            name = f"{number:02d}/{place:05d}"
            items.append(Frame(name, partial(_drawn, shot), shot.angle, f"{number:02d}", shot=shot))
    return items


def tub(path: Path) -> list[Frame]:
    """A tub of the Donkey Car, version 2: a folder with `manifest.json`, catalogs and images; or a folder of tubs.

    Records that were deleted in the tub, or made while the pilot steered and not a person, are frames that cannot be
    read, and so are lines that are no record.

    Raises:
        Fault: no manifest, or one of another kind.
    """
    if not input_file.is_folder(path):
        raise Fault(f"data.path must be a tub's folder, got {file_tree.describe_path(path)}")
    whole = (path / "manifest.json").is_file()
    manifests = (path / "manifest.json",) if whole else sorted(path.glob("*/manifest.json"))
    tubs = [file.parent for file in manifests if not file.parent.name.startswith(file_tree.HIDDEN)]
    if not tubs:
        old = (
            "; this is a tub of version 1, which Donkey's convert_to_tub_v2.py converts"
            * (path / "meta.json").is_file()
        )
        raise Fault(
            f"data.path must hold a tub's manifest.json, got {file_tree.describe_path(path)}{old}", code=Fault.DATA
        )
    return [frame for folder in tubs for frame in _records(folder, "" if folder == path else f"{folder.name}/")]


def csv_file(path: Path, full: float | None = None) -> list[Frame]:
    """A CSV file with the columns `path` and `angle`, its rows in the order of time; `drive` tells drives apart.

    A column `time` with numbers orders the rows of a drive instead, `throttle` has that of each. Paths are relative to
    the file.

    Args:
        full: the angle, in the file's unit, that is full lock to the right; negative where angles grow to the left.

    Raises:
        Fault: there is no such file, a column is missing, or `full` is 0.
    """
    if full == 0:
        raise Fault("data.full must be the angle of full lock to the right, got 0")
    rows = file_tree.rows(path, ("path", "angle"))
    drives = {row.get("drive", ""): len(rows) for _, row in rows}  # in the order of their first rows
    order = {drive: number for number, drive in enumerate(drives)}
    rows.sort(key=lambda row: (order[row[1].get("drive", "")], _number(row[1].get("time")) or 0.0))
    return [_row(path, line, row, full or 1.0) for line, row in rows if row["path"]]


def _drawn(shot: roads.Shot) -> bytes:
    return encode_png(shot())


def _row(path: Path, line: int, row: dict[str, str], full: float) -> Frame:
    angle, drive = _number(row["angle"]), row.get("drive", "")
    name = file_tree.printable_path(row["path"])
    if angle is None:
        reason = f"line {line}: angle must be a number, got {row['angle']!r}"
        return Frame(name, partial(file_tree.refuse, "broken annotation", reason), 0.0, drive)
    reading = partial(input_file.read_bytes, file_tree.file_named(path.parent, row["path"]))
    return Frame(name, reading, angle / full, drive, throttle=_number(row.get("throttle")))


def _records(folder: Path, prefix: str) -> list[Frame]:
    """The frames of one tub, catalog by catalog."""
    manifest = folder / "manifest.json"
    lines = [line for line in input_file.read_text(manifest).splitlines() if line.strip()]
    try:
        inputs, catalogs = _parsed(lines[0]), _parsed(lines[4])
        names, deleted = list(map(str, catalogs["paths"])), set(map(int, catalogs.get("deleted_indexes") or ()))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Fault(
            f"{manifest} must be a tub's of version 2: five lines of JSON, the last with `paths`, got {error!r:.200}",
            code=Fault.DATA,
        ) from None
    if not isinstance(inputs, list) or (missing := {PICTURE, ANGLE} - set(map(str, inputs))):
        missing_keys = " and ".join(sorted(missing)) if isinstance(inputs, list) else "a list of inputs"
        raise Fault(f"{folder} must record {missing_keys}, got {str(inputs)[:200]}", code=Fault.DATA)
    records = []
    for name in names:
        catalog = folder / name
        try:
            text = input_file.read_bytes(catalog, limit=input_file.TEXT_LIMIT).decode("utf-8", "replace")
        except OSError as error:
            reading = partial(file_tree.refuse, "unreadable", f"a catalog that cannot be read: {error.strerror}")
            records.append(Frame(f"{prefix}{file_tree.printable_path(name)}", reading, 0.0, prefix))
            continue
        records += [
            _record(folder, prefix, f"{file_tree.printable_path(name)}, line {number}", line, deleted)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()
        ]
    return records


def _record(folder: Path, prefix: str, where: str, line: str, deleted: set[int]) -> Frame:
    try:
        record = _parsed(line)
        picture, angle, index = str(record[PICTURE]), float(record[ANGLE]), int(record["_index"])
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        reason = f"it is no record with {PICTURE}, {ANGLE} and _index: {error}"
        return Frame(f"{prefix}{where}", partial(file_tree.refuse, "broken annotation", reason), 0.0, prefix)
    trouble = None
    if index in deleted:
        trouble = ("deleted frame", "it is deleted in the tub")
    elif record.get(MODE, "user") != "user":
        trouble = ("not driven by hand", f"{MODE} is {str(record[MODE])[:40]}")
    elif not math.isfinite(angle):
        trouble = ("broken annotation", f"{ANGLE} is {angle}")
    reading = (
        partial(file_tree.refuse, *trouble) if trouble else partial(input_file.read_bytes, folder / "images" / picture)
    )
    throttle = _number(str(record.get(THROTTLE)))
    return Frame(f"{prefix}{file_tree.printable_path(picture)}", reading, angle, prefix, throttle=throttle)


def _parsed(line: str) -> Any:
    """The JSON value of a line.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
