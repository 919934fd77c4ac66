"""The picture of a network's architecture: its maps in a row, to scale on a root, and its blocks from inside.

A slab is as high (and deep) as its maps and as wide as they are many, both as square roots of the largest; vectors are
bars, whose height is the logarithm of their length. Under a slab are the layer, and the sizes where they change; in
front of a block is the letter under which its inside is drawn below.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Arc, Polygon, Rectangle

from cnn_keras import models
from cnn_keras.errors import Fault
from pipelines.analysis.diagram.block import COLOURS, POINTS, BlockDiagram, arrow, shade
from pipelines.analysis.diagram.layout import Box, boxes, parts
from pipelines.analysis.model_summary import short, times
from pipelines.plots.image_grid import FAINT, INK, ORANGE, QUIET, page, text_width

EDGE = 0.2  # inches around the page
WIDEST = 12.0  # inches of a row
TALLEST = 1.9  # inches of the largest maps
SLANT = 0.2  # of a slab's depth, seen from the side
LEVEL = 0.16  # inches from one level of sizes to the next


@dataclass(frozen=True)
class Slab:
    """Where a box stands: its left edge, width, height and the shift of its back, in inches over the ground."""

    box: Box
    left: float
    width: float
    height: float
    shift: float

    @property
    def copies(self) -> list[float]:
        """How far to the right each of the slabs stands that are drawn for a box of several."""
        return [0.07 * copy for copy in range(min(self.box.count, 3))]

    @property
    def middle(self) -> float:
        return self.left + self.copies[-1] + self.width / 2


def picture(network: dict[str, Any], path: Path) -> Path:
    """Draw a network that `model_summary.examine` took apart.

    Raises:
        Fault: when the file is to be of another kind than PNG.
    """
    if path.suffix.lower() != ".png":
        raise Fault(f"--picture must be a file whose name ends in .png, got {str(path)!r}")
    arguments = {key: network[key] for key in ("input_shape", "classes")}
    layout = boxes(parts(models.build(network["name"], **arguments)))
    totals = network["totals"]
    counts = f"{totals['parameters']:,} parameters, {short(totals['multiply_adds'])} multiply-adds"
    return draw(layout, path, heading=f"{network['name']}: {counts}")


def draw(row: Sequence[Box], path: Path, *, heading: str = "") -> Path:
    """Write the picture of these boxes, of `layout.boxes`, as PNG."""
    slabs = _slabs(row)
    blocks = {box.letter: box for box in reversed(row) if box.letter}  # the first of each letter
    panels = [BlockDiagram(blocks[letter]) for letter in sorted(blocks)]
    levels = _levels(slabs)
    upright = _upright(slabs)
    words = max(text_width(slab.box.text, POINTS) for slab in slabs) if upright else LEVEL
    foot = words + LEVEL * (max(level for *_, level in levels) + 1) + 0.28
    head = max(slab.height + slab.shift for slab in slabs) + _arches(slabs)
    width = max(slabs[-1].left + slabs[-1].width + slabs[-1].shift + 2 * EDGE, text_width(heading, 10) + 2 * EDGE)
    legend = 8.0 if panels else 6.0
    width = max(width, legend, *(panel.width + 2 * EDGE for panel in panels))
    shelves = _shelves(panels, width - 2 * EDGE)
    below = sum(max(panel.height for panel in shelf) for shelf in shelves)
    ground = EDGE + 0.3 + below + foot
    with page(path, width, ground + head + 0.55) as figure:
        height = ground + head + 0.55
        paper = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        paper.axis("off")
        paper.text(EDGE, height - EDGE, heading, size=10, va="center")
        _row(paper, slabs, ground, upright=upright)
        for text, left, right, level in levels:
            _sizes(paper, text, left, right, ground - words - 0.2, level)
        y = ground - foot
        for shelf in shelves:
            x = EDGE
            for panel in shelf:
                panel.draw(paper, x, y)
                x += panel.width + 0.35
            y -= max(panel.height for panel in shelf)
        _legend(paper, row)
    return path


def _slabs(row: Sequence[Box]) -> list[Slab]:
    maps = [tuple(side or 1 for side in box.shape) for box in row if len(box.shape) > 1]
    largest = max((max(shape[:-1]) for shape in maps), default=1)
    most = max((shape[-1] for shape in maps), default=1)
    broadest = min(max(5.5 / len(row), 0.2), 0.5)
    sizes = [_measure(box, largest, most, broadest) for box in row]
    copies = [0.14 if box.count > 1 else 0 for box in row]
    room = (WIDEST - sum(width for width, *_ in sizes) - sum(copies)) / len(row)
    gap = min(max(room, 0.14), 0.42)
    slabs, left = [], EDGE + text_width(times(row[0].shape), POINTS) / 2
    for box, (width, height, shift), copy in zip(row, sizes, copies, strict=True):
        slabs.append(Slab(box, left, width, height, shift))
        left += width + copy + gap + 0.45 * shift
    return slabs


def _measure(box: Box, largest: int, most: int, broadest: float) -> tuple[float, float, float]:
    """Width, height and shift of the back."""
    if len(box.shape) < 2:
        return 0.13, 0.3 + 0.3 * math.log10(max(box.shape, default=1)), 0
    *sizes, channels = (side or 1 for side in box.shape)
    width = max(broadest * math.sqrt(channels / most), 0.22 if box.letter else 0.06)
    height, depth = (TALLEST * math.sqrt(size / largest) for size in (sizes[-2:] if len(sizes) > 1 else (*sizes, 0)))
    return width, max(height, 0.1), SLANT * (TALLEST * math.sqrt(sizes[0] / largest) if len(sizes) > 2 else depth)


def _upright(slabs: Sequence[Slab]) -> bool:
    """Whether what the layers are called has to be written upwards."""
    pitches = [after.middle - before.middle for before, after in itertools.pairwise(slabs)]
    return any(text_width(slab.box.text, POINTS) > min(pitches, default=1) - 0.08 for slab in slabs)


def _levels(slabs: Sequence[Slab]) -> list[tuple[str, float, float, int]]:
    """Sizes, each under the slabs that have them and as far down as the neighbours' sizes push it."""
    runs: list[list[Slab]] = []
    for slab in slabs:
        if runs and runs[-1][-1].box.shape == slab.box.shape:
            runs[-1].append(slab)
        else:
            runs.append([slab])
    ends: list[float] = []
    levels = []
    for run in runs:
        text = times(run[0].box.shape)
        middle, half = (run[0].middle + run[-1].middle) / 2, text_width(text, POINTS) / 2
        level = next((level for level, end in enumerate(ends) if end < middle - half - 0.06), len(ends))
        ends[level : level + 1] = [middle + half]
        levels.append((text, run[0].middle, run[-1].middle, level))
    return levels


def _sizes(paper: Axes, text: str, left: float, right: float, y: float, level: int) -> None:
    foot = y - 0.05 - LEVEL * level
    if right > left:
        paper.plot([left, left, right, right], [y + 0.03, y, y, y + 0.03], color=QUIET, linewidth=0.6)
    middle = (left + right) / 2
    paper.plot([middle, middle], [y + (0.03 if left == right else 0), foot], color=QUIET, linewidth=0.6)
    words = paper.text(middle, foot - 0.02, text, size=POINTS, ha="center", va="top")
    words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _row(paper: Axes, slabs: Sequence[Slab], ground: float, *, upright: bool) -> None:
    places = {slab.box.name: number for number, slab in enumerate(slabs)}
    for number, slab in enumerate(slabs):
        for copy in slab.copies:
            _slab(paper, slab, copy, ground)
        _caption(paper, slab, ground, upright=upright)
        for source in slab.box.inputs:
            before = slabs[places[source]]
            if places[source] == number - 1:
                start = before.middle + before.width / 2
                y = ground + 0.05
                paper.plot([start, slab.left], [y, y], color=INK, linewidth=0.8, zorder=50)
            else:
                first, last = sorted((places[source], number))
                _skip(paper, slabs[first : last + 1], ground)
        if slab.box.shortcut:
            _arch(paper, slab, ground)


def _slab(paper: Axes, slab: Slab, copy: float, ground: float) -> None:
    left, right, top, shift = slab.left + copy, slab.left + copy + slab.width, ground + slab.height, slab.shift
    front = [(left, ground), (right, ground), (right, top), (left, top)]
    side = [(right, ground), (right + shift, ground + shift), (right + shift, top + shift), (right, top)]
    roof = [(left, top), (right, top), (right + shift, top + shift), (left + shift, top + shift)]
    colour = COLOURS[slab.box.kind]
    for corners, share in ((side, 0.75), (roof, 1.4), (front, 1.0)):
        paper.add_patch(Polygon(corners, facecolor=shade(colour, share), edgecolor="white", linewidth=0.6, zorder=2))


def _caption(paper: Axes, slab: Slab, ground: float, *, upright: bool) -> None:
    if slab.box.count == 1:
        style: Any = {"size": POINTS, "color": QUIET, "rotation": 90 if upright else 0}
        paper.text(slab.middle, ground - 0.06, slab.box.text, ha="center", va="top", **style)
    if slab.box.letter:
        place = (slab.middle, ground + min(slab.height / 2, 0.3))
        paper.text(*place, slab.box.letter, size=9, weight="bold", color="white", ha="center", va="center", zorder=60)
    if slab.box.count > 1:
        paper.text(slab.middle, ground - 0.06, f"×{slab.box.count}", size=9, ha="center", va="top")


def _arch(paper: Axes, slab: Slab, ground: float) -> None:
    """Over a block that adds what it reads to what it makes of it."""
    place = (slab.middle + slab.shift, ground + slab.height + slab.shift)
    changed = slab.box.shortcut == "changed"
    line: Any = {"color": ORANGE if changed else INK, "linestyle": (0, (3, 1.5)) if changed else "-"}
    paper.add_patch(Arc(place, slab.width + 0.12, 0.3, theta1=0, theta2=180, linewidth=1.1, zorder=55, **line))


def _skip(paper: Axes, over: Sequence[Slab], ground: float) -> None:
    """From the first to the last of these slabs, over those between."""
    y = ground + max(slab.height + slab.shift for slab in over) + 0.06 + 0.05 * len(over)
    start, end = over[0].middle + over[0].shift / 2, over[-1].middle + over[-1].shift / 2
    tops = [ground + slab.height + slab.shift / 2 for slab in (over[0], over[-1])]
    paper.plot([start, start, end], [tops[0], y, y], color=INK, linewidth=0.8, zorder=55)
    arrow(paper, (end, y), (end, tops[1]))


def _arches(slabs: Sequence[Slab]) -> float:
    """How much room the shortcuts need over the slabs."""
    places = {slab.box.name: number for number, slab in enumerate(slabs)}
    spans = [number - places[source] for number, slab in enumerate(slabs) for source in slab.box.inputs]
    longest = max(spans, default=1)
    return 0.1 + 0.05 * (longest + 1) if longest > 1 else 0.2 if any(slab.box.shortcut for slab in slabs) else 0.0


def _shelves(panels: Sequence[BlockDiagram], width: float) -> list[list[BlockDiagram]]:
    """The panels in lines no longer than the page is wide."""
    shelves: list[list[BlockDiagram]] = []
    for panel in panels:
        if shelves and sum(other.width + 0.35 for other in shelves[-1]) + panel.width <= width:
            shelves[-1].append(panel)
        else:
            shelves.append([panel])
    return shelves


def _legend(paper: Axes, row: Sequence[Box]) -> None:
    kinds = {box.kind for box in row} | {part.kind for box in row for part in box.inside}
    x = EDGE
    for kind, colour in COLOURS.items():
        if kind in kinds:
            paper.add_patch(Rectangle((x, EDGE - 0.05), 0.12, 0.12, facecolor=colour))
            paper.text(x + 0.18, EDGE, kind, size=POINTS, va="center", color=QUIET)
            x += 0.38 + text_width(kind, POINTS)
    for shortcut, words in (("identity", "identity shortcut"), ("changed", "shortcut with layers")):
        if any(box.shortcut == shortcut for box in row):
            line = {"color": ORANGE, "linestyle": (0, (3, 1.5))} if shortcut == "changed" else {"color": INK}
            paper.plot([x, x + 0.25], [EDGE, EDGE], linewidth=1.1, **line)
            paper.text(x + 0.31, EDGE, words, size=POINTS, va="center", color=QUIET)
            x += 0.51 + text_width(words, POINTS)
    paper.plot([EDGE, paper.get_xlim()[1] - EDGE], [EDGE + 0.16] * 2, color=FAINT, linewidth=0.8)
