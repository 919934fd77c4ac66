"""Classes as colours on pictures: what is true, what was said, and where the two differ.

Pictures are uint8 [H, W], [H, W, 1] or [H, W, 3], labels integers [H, W], below 0 where nobody knows. Of volumes,
[D, H, W, C], the three planes through the middle are shown side by side.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from pipelines.plots import annotate, image_grid
from pipelines.plots.image_grid import Scale, Strip

Array = np.ndarray[Any, np.dtype[Any]]

GROUND = frozenset({"background", "_background_", "other", "ground"})  # names of a first class that is left as it is
TINT = 0.5  # how much of a pixel's colour is that of its class
WRONG = (230, 30, 30)
LEGIBLE = 360  # pixels: a smaller picture is enlarged by whole pixels
HEAT = "inferno"  # of Grad-CAM, and "viridis" of feature maps: as bright in grey as in colour


def paint_classes(image: Array, labels: Array, names: Sequence[str]) -> Array:
    """Return the picture with the colour of its class over each pixel, uint8 [H, W, 3]; what nobody knows is darker."""
    grey = _rgb(image)
    colours = np.array([rgb_of(number) for number in range(len(names))], np.float32)
    tint = np.full(len(names), TINT, np.float32)
    if names[0].lower() in GROUND:
        tint[0] = 0.0
    known = np.maximum(labels, 0)
    share = tint[known][..., None]
    blended = grey * (1 - share) + colours[known] * share
    blended = np.where((labels < 0)[..., None], 0.4 * grey, blended)
    return np.round(_edged(blended, labels)).astype(np.uint8)


def paint_instances(image: Array, numbers: Array) -> Array:
    """Return the picture with a colour over each thing of a map of instances, uint8 [H, W], 0 where nothing is."""
    return paint_classes(image, numbers.astype(np.int64), ["background", *map(str, range(1, int(numbers.max()) + 1))])


def wrong(image: Array, truth: Array, labels: Array) -> Array:
    """Return the picture, faint, with the pixels in red that are not what they should be, uint8 [H, W, 3]."""
    faint = 0.35 * _rgb(image) + 0.65 * 255
    mistaken = (truth >= 0) & (truth != labels)
    return np.round(np.where(mistaken[..., None], np.array(WRONG, np.float32), faint)).astype(np.uint8)


def legend(names: Sequence[str], labels: Iterable[Array]) -> list[Scale]:
    """The colours of the classes that are in any of the labels, for the foot of `image_grid.strips`."""
    there = sorted({int(number) for label_map in labels for number in np.unique(label_map) if number >= 0})
    listed = [number for number in there if number or names[0].lower() not in GROUND]
    return [Scale(names[number], np.array([[rgb_of(number)]], np.uint8), 0.16) for number in listed]


def sheet(
    rows: Sequence[tuple[Array, Array]], titles: Sequence[str], path: Path, *, names: Sequence[str], heading: str
) -> Path:
    """Draw pictures and, beside each, their labels over them: two pairs a row."""
    pairs = [[_shown(image), _over(image, labels, names)] for image, labels in rows]
    strips = []
    for start in range(0, len(pairs), 2):
        beside = [title or " " for title in titles[start : start + 2]]
        images = [part for pair in pairs[start : start + 2] for part in pair]
        strips.append(Strip(beside[0], "".join(beside[1:]), images))
    scales = legend(names, (labels for _, labels in rows))
    return image_grid.strips(strips, path, heading=heading, scales=scales, size=1.9)


def compare_masks(
    rows: Sequence[tuple[Array, Array, Array]],
    captions: Sequence[tuple[str, str]],
    path: Path,
    *,
    names: Sequence[str],
    heading: str,
) -> Path:
    """Draw a row for each picture, its true labels and what was said: both over it, and where they differ.

    `captions` are a name and a quieter second line for each.
    """
    strips = []
    for (image, truth, answer), (name, detail) in zip(rows, captions, strict=True):
        differ = [wrong(*planes) for planes in zip(*map(_planes, (_grey(image), truth, answer)), strict=True)]
        parts = [_shown(image), _over(image, truth, names), _over(image, answer, names), _side_by_side(differ)]
        strips.append(Strip(name, detail, parts))
    scales = legend(names, (labels for _, *both in rows for labels in both))
    columns = ("picture", "truth", "answer", "wrong pixels")
    return image_grid.strips(strips, path, heading=heading, columns=columns, scales=scales, size=2.2)


def draw_segmentation(image: Array, labels: Array, names: Sequence[str]) -> Array:
    """Return the picture with the predicted classes over it, enlarged if it is small, and a legend, uint8 [H, W, 3]."""
    picture, line = _over(image, labels, names), 18
    there = np.unique(labels).tolist()
    page = Image.new("RGB", (max(picture.shape[1], 160), picture.shape[0] + line * len(there) + 8), "white")
    page.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(page)
    for row, number in enumerate(there):
        top = picture.shape[0] + 6 + line * row
        ground = number == 0 and names[0].lower() in GROUND
        pen.rectangle((6, top, 18, top + 12), fill=None if ground else rgb_of(number), outline="#222222")
        caption = f"{names[number]}  {(labels == number).mean():.1%}"
        pen.text((26, top + 6), caption, fill="#222222", anchor="lm", font_size=13)
    return np.asarray(page)


def rgb_of(number: int) -> tuple[int, int, int]:
    """The colour of a class by its number."""
    red, green, blue = ImageColor.getrgb(annotate.colour(number))[:3]
    return red, green, blue


def paint_heat_map(image: Array, heat: Array) -> Array:
    """The image, uint8 [H, W, 1 or 3], in grey under the colours of a heat map [H, W], scaled by its largest value."""
    share = heat / max(float(heat.max()), 1e-12)
    strength = 0.3 + 0.5 * share[..., None]
    mixed: Array = np.round((1 - strength) * grey(image) + strength * coloured(share, HEAT)).astype(np.uint8)
    return mixed


def heated_planes(volume: Array, heat: Array) -> tuple[Array, Array]:
    """Pictures of the planes through the hottest voxel of a volume [D, H, W, C], plain and under its heat [D, H, W]."""
    hottest = np.unravel_index(int(heat.argmax()), heat.shape)
    pairs = [
        [np.rot90(values.take(int(place), axis=axis)) for values in (_grey(volume), heat)]
        for axis, place in enumerate(hottest)
    ]
    return _shown_planes([grey for grey, _ in pairs]), _side_by_side(
        [paint_heat_map(grey[..., None], own) for grey, own in pairs]
    )


def coloured(values: Array, colours: str) -> Array:
    """Values in [0, 1] in a colour map of matplotlib: uint8 (…, 3)."""
    coloured: Array = matplotlib.colormaps[colours](values, bytes=True)[..., :3]
    return coloured


def grey(image: Array) -> Array:
    """float64 (height, width, 1), 0–255."""
    mean: Array = image.mean(axis=2, keepdims=True)
    return mean


def _rgb(image: Array) -> Array:
    grey = image[..., None] if image.ndim == 2 else image
    return np.repeat(grey, 3, axis=-1).astype(np.float32) if grey.shape[-1] == 1 else grey[..., :3].astype(np.float32)


def _edged(colours: Array, labels: Array) -> Array:
    """The colours, lighter where a class begins: at pixels whose right or lower neighbour is of another one."""
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    lighter: Array = np.where(edge[..., None], 0.3 * colours + 0.7 * 255, colours)
    return lighter


def _shown(image: Array) -> Array:
    return _shown_planes(_planes(_grey(image)))


def _shown_planes(planes: Sequence[Array]) -> Array:
    return _side_by_side([np.round(_rgb(plane)).astype(np.uint8) for plane in planes])


def _over(image: Array, labels: Array, names: Sequence[str]) -> Array:
    """The labels over their picture; of a volume over its three planes."""
    return _side_by_side(
        [paint_classes(*pair, names) for pair in zip(_planes(_grey(image)), _planes(labels), strict=True)]
    )


def _grey(image: Array) -> Array:
    """A picture as it is; of a volume [D, H, W, C] the first channel as uint8 [D, H, W], its values 0 to 255."""
    if image.ndim < 4:
        return image
    values = image[..., 0].astype(np.float32)
    low, high = float(values.min()), float(values.max())
    grey: Array = np.round((values - low) / max(high - low, 1e-30) * 255).astype(np.uint8)
    return grey


def _planes(values: Array) -> list[Array]:
    """Of a volume [D, H, W] the planes through its middle – from the side, from behind, from above –, else itself."""
    if values.ndim < 3 or values.shape[2] in (1, 3):
        return [values]
    return [np.rot90(values.take(length // 2, axis=axis)) for axis, length in enumerate(values.shape)]


def _side_by_side(planes: Sequence[Array]) -> Array:
    """Pictures beside each other on white, enlarged by whole pixels if they are small."""
    tallest = max(len(plane) for plane in planes)
    parts = []
    for plane in planes:
        above = (tallest - len(plane)) // 2
        pads = ((above, tallest - len(plane) - above), (0, 2 if len(planes) > 1 else 0), (0, 0))
        parts.append(np.pad(plane, pads, constant_values=255))
    joined = np.concatenate(parts, axis=1)
    factor = max(1, LEGIBLE // max(joined.shape[:2]))
    return joined.repeat(factor, axis=0).repeat(factor, axis=1)
