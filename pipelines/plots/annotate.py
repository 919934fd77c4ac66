"""Drawing on an image: boxes with labels, points, steering angles; it comes back larger if it was too small to read.

Images are as in `image_grid.py`, uint8 in 0-255; a function raises ValueError when its lists do not fit together.
"""

import colorsys
import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from matplotlib.font_manager import findfont, get_font
from PIL import Image, ImageColor, ImageDraw, ImageFont
from PIL.ImageFont import FreeTypeFont

from pipelines.plots.image_grid import BLUE, ORANGE, Array, fits, fonts, one_line, proportions

LEGIBLE = 256  # pixels: a picture with boxes whose longer side is no longer is enlarged
CROWD = 30  # boxes from which on a label must not be larger than its own
LETTERS = 24  # of a name that are written at a box
PALETTE = (BLUE, ORANGE, "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#f0e442")  # of boxes, before any hue will do
FRAME = 320  # pixels of the longer side that a smaller camera frame is enlarged to
LEAN = math.radians(60)  # of the line that stands for full lock


class Truth(NamedTuple):
    """True boxes, float [M, 4] left, top, right, bottom in pixels, and a name for each; "" shows none."""

    boxes: Array
    names: Sequence[str]


def draw_boxes(
    image: Array,
    boxes: Array,
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    classes: Sequence[int] | None = None,
    truth: Truth | None = None,
    side: int | None = None,
) -> Array:
    """Return the image, uint8 [H', W', 3], with boxes drawn on it, each with its label, "sparrow 0.97".

    A name of "" leaves only the score, and without scores no label at all. True boxes are white and dashed. Labels find
    their places in the order of the scores: one that would hide another is left out, and in a crowd one that would hide
    its box.

    Args:
        boxes: float [K, 4], left, top, right, bottom in pixels of `image`; what lies outside is cut.
        scores: in [0, 1].
        classes: numbers of classes, each of its own colour; None gives each name one.
        side: pixels of the result's longer side; None keeps the image's, but makes small ones legible.
    """
    fits("names", names, boxes)
    numbers = [sorted(set(names)).index(name) for name in names] if classes is None else list(classes)
    fits("classes", numbers, boxes)
    fits("scores", boxes if scores is None else scores, boxes)
    picture, scale = _scaled(image, side)
    width = max(2, round(max(picture.size) / 320))
    draw = ImageDraw.Draw(picture)
    true = np.zeros((0, 4)) if truth is None else np.asarray(truth.boxes, float).reshape(-1, 4) * scale
    for box in true:
        _outline(draw, box, "#000000", width + 1)
        _outline(draw, box, "#ffffff", width, dash=4 * width + 2)
    order = np.arange(len(boxes)) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    scaled = np.asarray(boxes, float).reshape(-1, 4) * scale
    for row in order[::-1]:
        _outline(draw, scaled[row], colour(numbers[row]), width)
    labels = _Labels(draw, crowded=len(scaled) + len(true) > CROWD)
    for row in order:
        text = _cut(names[row]) if scores is None else f"{_cut(names[row])} {scores[row]:.2f}".strip()
        labels.write(scaled[row], text, colour(numbers[row]))
    for box, name in zip(true, () if truth is None else truth.names, strict=True):
        labels.write(box, _cut(name), "#ffffff", below=True)
    return np.asarray(picture)


def draw_points(
    image: Array,
    points: Array,
    *,
    visible: Array | None = None,
    ring: bool = False,
    lines: Sequence[tuple[Array, Array]] = (),
) -> Array:
    """Return the image, uint8 [H, W, 3], with a spot in a colour of its own at each point, or a white ring.

    Args:
        points: float [L, 2], x and y in pixels of `image`.
        visible: bool [L], which of them are drawn; None draws all.
        lines: below the spots, from one x and y to another.
    """
    canvas = Image.fromarray(image)
    draw, size = ImageDraw.Draw(canvas), max(4, round(max(image.shape) / (160 if lines else 70)))
    for ends in lines:
        _path(draw, ends, size // 2)
    for number, (x, y) in enumerate(points):
        if visible is not None and not visible[number]:
            continue
        if not ring:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=colour(number), outline="#000000")
            continue
        wide = (x - size - 3, y - size - 3, x + size + 3, y + size + 3)
        draw.ellipse(wide, outline="#000000", width=4)
        draw.ellipse(wide, outline="#ffffff", width=2)
    return np.asarray(canvas)


def draw_places(image: Array, lines: Sequence[tuple[Array, str]], zones: Sequence[tuple[Array, str]]) -> Array:
    """Return the image, uint8 [H, W, 3], with lines and zones and a label at each.

    Args:
        lines: float [2, 2], x and y in pixels, and the label; an arrow points to the right of the line, seen from its
            first point.
        zones: float [P, 2], the corners of a polygon, and the label.
    """
    picture = Image.fromarray(image)
    draw, width = ImageDraw.Draw(picture), max(2, round(max(picture.size) / 320))
    labels = _Labels(draw, crowded=False)
    for polygon, text in zones:
        _path(draw, [*polygon, polygon[0]], width)
        labels.write(np.concatenate([polygon.min(axis=0), polygon.max(axis=0)]), text, "#ffffff")
    for (start, end), text in lines:
        _path(draw, [start, end], width)
        middle, along = (start + end) / 2, (end - start) / max(1e-6, float(np.linalg.norm(end - start)))
        across, size = np.array([-along[1], along[0]]), 5 * width
        tip = middle + 2 * size * across
        _path(draw, [middle, tip], width)
        _path(draw, [tip - size * (across + along), tip, tip - size * (across - along)], width)
        labels.write(np.concatenate([start, start]), text, "#ffffff")
    return np.asarray(picture)


def _path(draw: ImageDraw.ImageDraw, points: Sequence[Array], width: int) -> None:
    """Draw straight lines from point to point, white with black edges."""
    places = [tuple(map(float, point)) for point in points]
    draw.line(places, fill="#000000", width=width + 2, joint="curve")
    draw.line(places, fill="#ffffff", width=width, joint="curve")


def colour(number: int) -> str:
    """Return the colour, "#rrggbb", of the boxes of a class: told apart with any colour vision while there are few."""
    if number < len(PALETTE):
        return PALETTE[number]
    shade = colorsys.hsv_to_rgb(number * 0.618034 % 1, (0.9, 0.55)[number % 2], (0.95, 0.75)[number // 2 % 2])
    return "#" + "".join(f"{round(255 * part):02x}" for part in shade)


def beside(frame: Array, patch: Array) -> Array:
    """A frame, uint8 [H, W, 3], and to its right a patch of a map, float [h, w, 1] in [0, 1], as high as it."""
    grey = Image.fromarray(np.round(patch[..., 0] * 255).astype(np.uint8))
    width = round(frame.shape[0] * patch.shape[1] / patch.shape[0])
    square = grey.resize((width, frame.shape[0]), Image.Resampling.NEAREST).convert("RGB")
    return np.concatenate([frame, np.asarray(square)], axis=1)


def draw_steering(
    image: Array,
    *,
    angle: float | None = None,
    interval: tuple[float, float] | None = None,
    truth: float | None = None,
) -> Array:
    """The frame, uint8 [H', W', 3], with lines that lean as the wheel is turned, from the middle of its lower edge.

    Args:
        image: uint8 [H, W, 1 or 3].
        angle: said, −1 to 1, in orange.
        interval: it lies in, as a pale fan.
        truth: in white with a black edge.
    """
    picture = Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).convert("RGB")
    factor = max(1, round(FRAME / max(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BILINEAR)
    foot, length = (picture.width / 2, picture.height - 1.0), 0.55 * picture.height
    width = max(2, round(picture.width / 80))

    def tip(value: float, reach: float = length) -> tuple[float, float]:
        lean = min(max(value, -1.2), 1.2) * LEAN
        return foot[0] + reach * math.sin(lean), foot[1] - reach * math.cos(lean)

    if interval is not None:
        fan = Image.new("RGBA", picture.size)
        edge = [tip(float(value)) for value in np.linspace(*interval, 16)]
        ImageDraw.Draw(fan).polygon([foot, *edge], fill=(213, 94, 0, 110))
        picture = Image.alpha_composite(picture.convert("RGBA"), fan).convert("RGB")
    pen = ImageDraw.Draw(picture)
    if truth is not None:
        pen.line([foot, tip(truth)], fill="#000000", width=width + 3)
        pen.line([foot, tip(truth)], fill="#ffffff", width=width)
    if angle is not None:
        pen.line([foot, tip(angle, 0.9 * length)], fill=ORANGE, width=width)
    return np.asarray(picture)


def _scaled(image: Array, side: int | None) -> tuple[Image.Image, float]:
    """Return the image as RGB, its longer side `side` pixels, and by how much it grew; small ones by whole pixels."""
    proportions(image)
    picture = Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).convert("RGB")
    longer = max(picture.size)
    scale = side / longer if side else math.ceil(LEGIBLE / longer) if longer < LEGIBLE else 1
    if scale != 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
    return picture, scale


def _outline(draw: ImageDraw.ImageDraw, box: Array, shade: str, width: int, dash: int | None = None) -> None:
    """Draw a frame `width` pixels wide just inside the box, whole or in dashes of `dash` pixels."""
    right, bottom = draw.im.size[0] - 1, draw.im.size[1] - 1
    x0, y0 = (int(np.clip(round(value), 0, most)) for value, most in zip(box[:2], (right, bottom), strict=True))
    x1, y1 = (int(np.clip(round(value) - 1, 0, most)) for value, most in zip(box[2:], (right, bottom), strict=True))
    x1, y1 = max(x0, x1), max(y0, y1)
    if dash is None:
        draw.rectangle((x0, y0, x1, y1), outline=shade, width=width)
        return
    inner = width - 1
    for start in range(x0, x1 + 1, 2 * dash):
        end = min(start + dash - 1, x1)
        draw.rectangle((start, y0, end, min(y0 + inner, y1)), fill=shade)
        draw.rectangle((start, max(y1 - inner, y0), end, y1), fill=shade)
    for start in range(y0, y1 + 1, 2 * dash):
        end = min(start + dash - 1, y1)
        draw.rectangle((x0, start, min(x0 + inner, x1), end), fill=shade)
        draw.rectangle((max(x1 - inner, x0), start, x1, end), fill=shade)


class _Labels:
    """Labels on one picture, none over another."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, crowded: bool) -> None:
        self.draw, self.crowded = draw, crowded
        self.width, self.height = draw.im.size
        self.points = max(11, round(max(draw.im.size) / 45))
        self.taken: list[tuple[int, int, int, int]] = []

    def write(self, box: Array, text: str, shade: str, *, below: bool = False) -> None:
        """Write the text on a plate of the colour, above the box or below it, and wholly in the picture."""
        if not (text := one_line(text)):
            return
        font = _font(text, self.points)
        across, down = math.ceil(self.draw.textlength(text, font)) + 4, self.points + 3
        if self.crowded and across * down > (box[2] - box[0]) * (box[3] - box[1]):
            return
        left = int(np.clip(round(box[0]), 0, max(0, self.width - across)))
        above, under = (int(np.clip(round(y), 0, max(0, self.height - down))) for y in (box[1] - down, box[3]))
        for top in (under, above) if below else (above, under):
            plate = (left, top, left + across, top + down)
            if not any(_meet(plate, other) for other in self.taken):
                break
        else:
            return
        self.taken.append(plate)
        red, green, blue = ImageColor.getrgb(shade)[:3]
        ink = "#000000" if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "#ffffff"
        self.draw.rectangle((left, top, left + across - 1, top + down - 1), fill=shade)
        self.draw.text((left + 2, top + down / 2), text, fill=ink, font=font, anchor="lm")


def _meet(first: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return first[0] < other[2] and other[0] < first[2] and first[1] < other[3] and other[1] < first[3]


def _cut(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS // 2]}…{name[1 - LETTERS // 2 :]}"


def _font(text: str, points: int) -> FreeTypeFont:
    """Return the first font that has every letter of the text, or else the first of all."""
    letters = {ord(letter) for letter in text}
    files = [findfont(name) for name in fonts()]
    return _opened(next((file for file in files if letters <= _letters(file)), files[0]), points)


@cache
def _letters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


@lru_cache
def _opened(file: str, points: int) -> FreeTypeFont:
    """The font of a file: a quarter of a megabyte for as long as it is kept."""
    return ImageFont.truetype(file, points)
