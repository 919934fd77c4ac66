"""Pictures made of images: sheets to look the data, the augmentation and the mistakes in the face.

Images are uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB) in 0-255, of any and differing sizes; small ones are
drawn with visible pixels. Every function writes one PNG, under a temporary name first, and returns its path; it
raises ValueError when its lists do not fit together. Figures with axes are in `charts.py`, which draws on the same
page; boxes and points are drawn on an image by `annotate.py`.
"""

import math
import warnings
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.textpath import text_to_path

from cnn_keras.data.files import durable

Array = np.ndarray[Any, np.dtype[Any]]

DOTS = 120  # per inch
INK, QUIET, FAINT = "#222222", "#6a6a6a", "#e4e4e4"
BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito: told apart with any colour vision
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelcolor": QUIET,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.12,
}
# Asked, in this order, for letters that the font of matplotlib lacks.
FALLBACK_FONTS = ("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei")

CAPTION = 8  # points
LINE = 0.16  # inches from one line of caption to the next
GAP = 0.14  # inches between tiles and around the page
VISIBLE = 64  # pixels: a picture no larger is drawn with visible pixels


@contextmanager
def page(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Open a blank figure of `width` by `height` inches; on leaving, write it to `path` as PNG."""
    with matplotlib.rc_context({**STYLE, "font.family": fonts()}), _boxes_for_unknown_letters():
        figure = Figure(figsize=(width, height))
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DOTS)


def shorten(text: str, inches: float, points: float = CAPTION) -> str:
    """Return `text` cut in its middle, as "Bachman's…sparrow", so that it is at most `inches` wide."""
    text = one_line(text)
    width = text_width(text, points)
    length = min(len(text), int(len(text) * inches / width) + 2) if width > inches else len(text)
    shorter = text
    while length > 1 and text_width(shorter, points) > inches:
        length -= 1
        shorter = f"{text[: length - length // 2]}…{text[len(text) - length // 2 :]}"
    return shorter


def text_width(text: str, points: float = CAPTION) -> float:
    """Return the width in inches of a text written in one line."""
    font = FontProperties(family=fonts(), size=points)
    with _boxes_for_unknown_letters():
        width, _, _ = text_to_path.get_text_width_height_descent(one_line(text), font, ismath=False)
    return float(width) / 72


def contact_sheet(
    images: Sequence[Array],
    titles: Sequence[str],
    path: Path,
    *,
    columns: int = 8,
    heading: str = "",
    size: float | None = None,
) -> Path:
    """Draw the images in rows of `columns`, each above its title, under one line of heading.

    `size` is the longer side of an image in inches; None leaves it to the length of the titles.
    """
    fits("titles", titles, images)
    size = size or (1.0 if all(text_width(title) <= 1 for title in titles) else 1.5)
    captions = [[title] for title in titles]
    return _sheet(images, captions, path, columns=columns, heading=heading, size=size)


def augmentation_sheet(rows: Sequence[tuple[str, Sequence[Array]]], path: Path) -> Path:
    """Draw one row of images for each (title, images), under its title."""
    if not rows:
        raise ValueError("rows must hold at least one (title, images), got none")
    size, title = 1.1, 0.3
    columns = max(len(images) for _, images in rows)
    width = max(GAP + columns * (size + GAP), 4)
    pitch = title + size + GAP
    with page(path, width, len(rows) * pitch + GAP) as figure:
        paper = _paper(figure)
        for number, (name, images) in enumerate(rows):
            top = number * pitch
            paper.text(GAP, top + title - 0.06, shorten(name, width - 2 * GAP, 9), size=9, va="bottom")
            for column, image in enumerate(images):
                _place(paper, image, GAP + column * (size + GAP), top + title, size)
    return path


class Strip(NamedTuple):
    """A row of images, under a name and a quieter second line of it at the left."""

    name: str
    detail: str
    images: Sequence[Array]


class Scale(NamedTuple):
    """A scale of colours, uint8 [1, N, 3], what it says, and how long it is in inches."""

    text: str
    colours: Array
    length: float = 1.0


def strips(
    rows: Sequence[Strip],
    path: Path,
    *,
    heading: str,
    columns: Sequence[str] = (),
    scales: Sequence[Scale] = (),
    size: float = 0.8,
) -> Path:
    """Draw the rows under one heading, the columns under their names, the scales of the colours at the foot.

    `size` is the longer side of an image in inches. A row may hold fewer images than another.
    """
    if not rows:
        raise ValueError("rows must hold at least one strip, got none")
    lines = [*((row.name, CAPTION) for row in rows), *((row.detail, CAPTION - 1) for row in rows)]
    room = min(max(text_width(*line) for line in lines) + 0.05, 1.9)
    gap, left = 0.08, GAP + room + 0.12
    head = 0.45 + (0.2 if columns else 0)
    pitch = gap + size * max(proportions(image)[0] for row in rows for image in row.images)
    across = max(len(row.images) for row in rows)
    legends = [scale.length + text_width(scale.text) + 0.4 for scale in scales]
    width = max(left + across * (size + gap) + GAP, text_width(heading, 10) + 2 * GAP, *(g + 2 * GAP for g in legends))
    foot = 0.1 + 0.24 * len(_lines(legends, width - 2 * GAP))
    with page(path, width, head + len(rows) * pitch + foot) as figure:
        paper = _paper(figure)
        paper.text(GAP, GAP + 0.08, heading, size=10, va="center")
        for number, title in enumerate(columns):
            middle = left + number * (size + gap) + size / 2
            paper.text(middle, head - 0.1, shorten(title, size), size=CAPTION, ha="center", va="center", color=QUIET)
        for number, row in enumerate(rows):
            top = head + number * pitch
            middle = top + (pitch - gap) / 2
            name, detail = shorten(row.name, room), shorten(row.detail, room, CAPTION - 1)
            paper.text(GAP, middle - (LINE / 2 if detail else 0), name, size=CAPTION, va="center")
            paper.text(GAP, middle + LINE / 2, detail, size=CAPTION - 1, va="center", color=QUIET)
            for column, image in enumerate(row.images):
                _place(paper, image, left + column * (size + gap), middle - size / 2, size)
        _draw_scales(paper, scales, head + len(rows) * pitch + 0.14, width - 2 * GAP)
    return path


def worst(
    images: Sequence[Array],
    truths: Sequence[str],
    predictions: Sequence[str],
    confidences: Sequence[float],
    ids: Sequence[str],
    path: Path,
) -> Path:
    """Draw wrongly answered images in the order given, captioned "true 3 · said 8 (0.97)" above their id.

    `cnn_keras.metrics.classification.confident_mistakes` picks them. With none the picture says so.
    """
    for name, values in {
        "truths": truths,
        "predictions": predictions,
        "confidences": confidences,
        "ids": ids,
    }.items():
        fits(name, values, images)
    size = 1.5
    captions = [
        [f"true {truth} · predicted {prediction} ({confidence:.2f})"]
        for truth, prediction, confidence in zip(truths, predictions, confidences, strict=True)
    ]
    if any(text_width(line) > size for (line,) in captions):
        captions = [
            [f"true {truth}", _with_confidence(f"predicted {prediction}", confidence, size)]
            for truth, prediction, confidence in zip(truths, predictions, confidences, strict=True)
        ]
    captions = [[*lines, identity] for lines, identity in zip(captions, ids, strict=True)]
    heading = f"The {len(images)} most confident mistakes" if len(images) else "No mistakes"
    return _sheet(images, captions, path, columns=6, heading=heading, size=size)


def draw_prediction(image: Array, label: str, confidence: float, path: Path) -> Path:
    """Draw one image, uint8 [H, W, 1 or 3], with its prediction, "sparrow (0.97)", below."""
    size, foot, points = 4.0, 0.5, 13
    height = size * min(1, image.shape[0] / image.shape[1])
    with page(path, size + 2 * GAP, GAP + height + foot) as figure:
        paper = _paper(figure)
        _place(paper, image, GAP, GAP - (size - height) / 2, size)
        answer = _with_confidence(label, confidence, size, points)
        paper.text(GAP + size / 2, GAP + height + foot / 2, answer, size=points, ha="center", va="center")
    return path


def detections(
    images: Sequence[Array], captions: Sequence[Sequence[str]], path: Path, *, heading: str, size: float
) -> Path:
    """Draw pictures with boxes, `size` inches wide, three a row, each above its lines of caption."""
    fits("captions", captions, images)
    return _sheet(images, captions, path, columns=3, heading=heading, size=size)


def fits(name: str, values: Sized, others: Sized) -> None:
    """Raise ValueError unless there are as many `values` as `others`."""
    if len(values) != len(others):
        raise ValueError(f"{name} must have {len(others)} entries, one for each, got {len(values)}")


@cache
def fonts() -> list[str]:
    """The fonts of captions: DejaVu Sans, then those of other scripts that are installed."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


@contextmanager
def _boxes_for_unknown_letters() -> Iterator[None]:
    """Let letters that no font has be drawn as boxes, in silence: the picture is worth having anyway."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing")
        yield


def one_line(text: str) -> str:
    """Return text without line breaks and without the halves of letters that undecodable file names hold."""
    return " ".join(text.encode(errors="replace").decode().split())


def _sheet(
    images: Sequence[Array],
    captions: Sequence[Sequence[str]],
    path: Path,
    *,
    columns: int,
    heading: str,
    size: float,
) -> Path:
    """Draw tiles `size` inches wide, as high as the highest image, with equally many lines of caption below them."""
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    columns = min(columns, max(len(images), 1))
    top = GAP + (0.3 if heading else 0)
    high = size * max((proportions(image)[0] for image in images), default=1)
    pitch = high + GAP + 0.06 + LINE * max(map(len, captions), default=0)
    width = max(GAP + columns * (size + GAP), text_width(heading, 10) + 2 * GAP)
    with page(path, width, GAP / 2 + top + math.ceil(len(images) / columns) * pitch) as figure:
        paper = _paper(figure)
        paper.text(GAP, GAP + 0.08, heading, size=10, va="center")
        for number, (image, lines) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(number, columns)
            left, upper = GAP + column * (size + GAP), top + row * pitch
            _place(paper, image, left, upper - (size - high) / 2, size)
            for line, text in enumerate(lines):
                paper.text(
                    left + size / 2,
                    upper + high + 0.06 + LINE * (line + 0.5),
                    shorten(text, size),
                    size=CAPTION,
                    ha="center",
                    va="center",
                    color=INK if line == 0 else QUIET,
                )
    return path


def _draw_scales(paper: Axes, scales: Sequence[Scale], middle: float, room: float) -> None:
    """Draw each scale as a strip with its text behind it, in lines of this room, the first at the height `middle`."""
    widths = [scale.length + text_width(scale.text) + 0.4 for scale in scales]
    for line, places in enumerate(_lines(widths, room)):
        left, height = GAP, middle + 0.24 * line
        for place in places:
            text, colours, length = scales[place]
            extent = (left, left + length, height + 0.05, height - 0.05)
            paper.imshow(colours, extent=extent, interpolation="bilinear", aspect="auto")
            paper.text(left + length + 0.08, height, text, size=CAPTION, va="center", color=QUIET)
            left += widths[place]


def _lines(widths: Sequence[float], room: float) -> list[list[int]]:
    """Break what stands side by side into lines of this room, each with one at least: the places in each."""
    lines: list[list[int]] = []
    used_width = 0.0
    for place, width in enumerate(widths):
        if not lines or used_width + width > room:
            lines.append([])
            used_width = 0.0
        lines[-1].append(place)
        used_width += width
    return lines


def _paper(figure: Figure) -> Axes:
    """Return axes over the whole figure whose unit is the inch, from its top left corner."""
    width, height = figure.get_size_inches()
    paper = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    paper.axis("off")
    return paper


def _place(paper: Axes, image: Array, left: float, top: float, size: float) -> None:
    """Draw one image in the middle of a square of `size` inches, in its own proportions."""
    height, width = (size * side for side in proportions(image))
    left, top = left + (size - width) / 2, top + (size - height) / 2
    paper.imshow(
        image.squeeze(2) if image.shape[2:] == (1,) else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(left, left + width, top + height, top),
        interpolation="nearest" if max(image.shape) <= VISIBLE else "auto",
        aspect="auto",
    )
    outline = ([left, left + width, left + width, left, left], [top, top, top + height, top + height, top])
    paper.plot(*outline, color=FAINT, linewidth=0.8, clip_on=False)


def proportions(image: Array) -> tuple[float, float]:
    """Return height and width of an image [H, W, …] as shares of the longer side."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"images must be uint8 [H, W], [H, W, 1] or [H, W, 3], got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    return height / max(height, width), width / max(height, width)


def _with_confidence(text: str, confidence: float, inches: float, points: float = CAPTION) -> str:
    certainty = f" ({confidence:.2f})"
    return shorten(text, inches - text_width(certainty, points), points) + certainty
