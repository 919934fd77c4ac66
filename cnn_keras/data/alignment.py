"""Alignment: a face turned and scaled so that its eyes stand where every other face's do.

An aligner is a function of a picture's id and pixels that says where the eyes are, or None where it finds none; such a
picture is used as it is. `annotated` takes them from a list; a network or a detector may do the same.
"""

import csv
import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from cnn_keras.data.encoded import plain, png
from cnn_keras.data.read import Item
from cnn_keras.fault import Fault

COLUMNS = ("path", "left_x", "left_y", "right_x", "right_y")


class Eyes(NamedTuple):
    """The centres of the eyes, (x, y) in pixels from the top left corner; the left one is at the picture's left."""

    left: tuple[float, float]
    right: tuple[float, float]


Aligner = Callable[[str, np.ndarray], Eyes | None]
PLACES = Eyes((0.33, 0.38), (0.67, 0.38))  # shares of width and height: the face in the middle, chin and forehead in it


def annotated(path: Path) -> Aligner:
    """An aligner that reads the eyes from a CSV file with the columns path, left_x, left_y, right_x and right_y.

    `path` is that of the picture below its source, as in `split.csv`.

    Raises:
        Fault: no such file, other columns, or a place that is no number (code DATA).
    """
    if not path.is_file():
        raise Fault(f"data.align.path must be a CSV file, got {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := sorted(set(COLUMNS) - set(reader.fieldnames or [])):
            raise Fault(f"{path} must have the columns {', '.join(COLUMNS)}; it lacks {missing[0]}", code=Fault.DATA)
        try:
            rows = {row["path"]: tuple(float(row[name]) for name in COLUMNS[1:]) for row in reader}
        except (TypeError, ValueError) as error:
            raise Fault(f"{path}, line {reader.line_num}: places must be numbers: {error}", code=Fault.DATA) from None
    eyes = {name: Eyes((a, b), (c, d)) for name, (a, b, c, d) in rows.items()}
    return lambda name, image: eyes.get(name)


def upright(image: np.ndarray, eyes: Eyes, *, size: tuple[int, int], places: Eyes = PLACES) -> np.ndarray:
    """Cut a face out so that its eyes stand at `places`: one rotation, scale and shift, bilinear; black beyond.

    Args:
        image: uint8 (height, width, channels), 0–255.
        size: (height, width) to return.
        places: where the eyes are to be, as shares of width and height.

    Returns:
        uint8 (*size, channels).
    """
    height, width = size
    wanted = [complex(x * width, y * height) for x, y in places]
    found = [complex(*eye) for eye in eyes]
    turn = (found[1] - found[0]) / (wanted[1] - wanted[0])  # from places of the result to the picture
    move = found[0] - turn * wanted[0]
    matrix = (turn.real, -turn.imag, move.real, turn.imag, turn.real, move.imag)
    source = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    drawn = source.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(drawn).reshape(height, width, -1)


def applied(items: Iterable[Item], aligner: Aligner, *, size: tuple[int, int], missed: list[str]) -> list[Item]:
    """The items with aligned pictures; the id of each one read of which the aligner finds no eyes goes to `missed`."""
    return [item._replace(read=partial(_aligned, item, aligner, size, missed)) for item in items]


def _aligned(item: Item, aligner: Aligner, size: tuple[int, int], missed: list[str]) -> bytes:
    data, _ = plain(item.read())
    with Image.open(io.BytesIO(data)) as opened:
        image = np.asarray(opened if opened.mode == "L" else opened.convert("RGB"))
    image = image.reshape(*image.shape[:2], -1)
    eyes = aligner(item.id, image)
    if eyes is None:
        missed.append(item.id)
        return data
    return png(upright(image, eyes, size=size))
