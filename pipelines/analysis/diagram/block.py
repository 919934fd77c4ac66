"""The inside of a block: its layers as boxes from left to right, its branches one over the other."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from pipelines.analysis.diagram.layout import Box, Part
from pipelines.analysis.model_summary import times
from pipelines.plots.image_grid import BLUE, INK, ORANGE, text_width

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = {
    "input": "#b0b0b0",
    "convolution": "#56b4e9",
    "pooling": ORANGE,
    "up-sampling": "#cc79a7",
    "dense": "#009e73",
    "normalisation": "#f0e442",
    "block": BLUE,
    "network": BLUE,
    "merge": "#e69f00",
}
QUIETLY = "#eeeeee"  # normalisation and activations
POINTS = 7.0
NODE, LANE = 0.36, 0.48  # inches: the height of a layer, and from branch to branch
Point = tuple[float, float]


class BlockDiagram:
    """A block from inside: its layers from left to right, its branches one over the other."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.ranks, self.lanes = _ranks(box.inside), _lanes(box.inside)
        columns = max(self.ranks.values()) + 1
        widest = [0.1] * columns
        for part in box.inside:
            rank = self.ranks[part.name]
            widest[rank] = max(widest[rank], _breadth(part))
        self.middles = [0.0] * columns
        x = 0.0
        for rank, breadth in enumerate(widest):
            x += self._gap(rank)
            self.middles[rank] = x + breadth / 2
            x += breadth
        self.title = f"{box.letter}   {box.name}: {times(box.inside[-1].shape)}"
        self.width = max(x + 0.2, text_width(self.title, 9) + 0.1)
        self.branches = max(self.lanes.values())
        bows = {(source, part.name): self._bows(source, part) for part in box.inside for source in part.inputs}
        self.bow = 0.26 if "over" in bows.values() else 0.0
        self.under = [way for way, bow in bows.items() if bow == "under"]  # each at a depth of its own
        self.sag = 0.26 + 0.1 * (len(self.under) - 1) if self.under else 0.0
        self.height = 0.34 + self.bow + NODE + LANE * self.branches + self.sag + 0.22

    def _gap(self, rank: int) -> float:
        """Before the layers of this rank: none where they only go on with what the last have made."""
        here = [part for part in self.box.inside if self.ranks[part.name] == rank]
        read = [source for part in self.box.inside for source in part.inputs]
        near = all(not part.kind and self.ranks[part.inputs[0]] == rank - 1 > 0 for part in here)
        near = near and all(read.count(part.inputs[0]) == 1 for part in here)
        return 0.02 if near else 0.2

    def draw(self, paper: Axes, left: float, top: float) -> None:
        """Draw the block with its top left corner at a place of the paper."""
        self.left, self.top = left, top - 0.34 - self.bow - NODE / 2
        paper.text(left, top - 0.1, self.title, size=9, va="center")
        paper.plot(*[[value] for value in self._at("")], marker="o", markersize=4, color=INK)
        for part in self.box.inside:
            self._node(paper, part)
            for source in part.inputs:
                self._edge(paper, source, part)
        last = self.box.inside[-1]
        x, y = self._at(last.name)
        arrow(paper, (x + _breadth(last) / 2, y), (x + _breadth(last) / 2 + 0.18, y))

    def _at(self, name: str) -> Point:
        return self.left + self.middles[self.ranks[name]], self.top - LANE * self.lanes[name]

    def _bows(self, source: str, part: Part) -> str:
        """The way round other layers of the same branch: "over" them to one behind, "under" all to another branch."""
        between = [other for other in self.box.inside if self.ranks[source] < self.ranks[other.name]]
        between = [other for other in between if self.ranks[other.name] < self.ranks[part.name]]
        if not any(abs(self.lanes[other.name] - self.lanes[source]) < 0.5 for other in between):
            return ""
        return "over" if self.lanes[source] == self.lanes[part.name] else "under"

    def _node(self, paper: Axes, part: Part) -> None:
        x, y = self._at(part.name)
        breadth = _breadth(part)
        shape = FancyBboxPatch(
            (x - breadth / 2 + 0.03, y - NODE / 2 + 0.03),
            breadth - 0.06,
            NODE - 0.06,
            boxstyle="round,pad=0.03,rounding_size=0.05",
            facecolor=_tint(part),
            edgecolor=shade(COLOURS.get(part.kind, "#b0b0b0"), 0.75),
            linewidth=0.8,
            zorder=3,
        )
        paper.add_patch(shape)
        paper.text(x, y, _words(part), size=POINTS, ha="center", va="center", zorder=4, linespacing=1.15)

    def _edge(self, paper: Axes, source: str, part: Part) -> None:
        (x0, y0), (x1, y1) = self._at(source), self._at(part.name)
        x0 += next((_breadth(other) / 2 for other in self.box.inside if other.name == source), 0)
        start, end = (x0, y0), (x1 - _breadth(part) / 2, y1)
        if way := self._bows(source, part):
            side, y = 1, y0 + NODE / 2 + 0.14
            if way == "under":
                depth = 0.14 + 0.1 * self.under.index((source, part.name))
                side, y = -1, self.top - LANE * self.branches - NODE / 2 - depth
            _path(paper, [start, (x0 + 0.07, y0), (x0 + 0.07, y), (x1, y)])
            arrow(paper, (x1, y), (x1, y1 + side * NODE / 2))
            return
        if end[0] - start[0] < 0.1:
            return
        turn = end[0] - 0.1 if part.kind == "merge" else x0 + 0.1
        _path(paper, [start, (turn, y0), (turn, y1)])
        arrow(paper, (turn, y1), end)


def _ranks(inside: Iterable[Part]) -> dict[str, int]:
    """How many layers lie before each, along the longest way."""
    ranks = {"": 0}
    for part in inside:
        ranks[part.name] = 1 + max(ranks[source] for source in part.inputs)
    return ranks


def _lanes(inside: Sequence[Part]) -> dict[str, float]:
    """The branch of each: the first to read a layer stays on its branch, the others open new ones."""
    lanes: dict[str, float] = {"": 0.0}
    continued: set[str] = set()
    open_lanes = 0
    for part in inside:
        sources = [source for source in part.inputs if source or len(part.inputs) == 1]
        free = [source for source in sources if source not in continued]
        if part.kind == "merge":
            lanes[part.name] = sum(lanes[source] for source in sources) / len(sources)
        elif free:
            lanes[part.name] = lanes[free[0]]
        else:
            open_lanes += 1
            lanes[part.name] = float(open_lanes)
        continued |= set(sources)
    first = [lanes[part.name] for part in inside if part.inputs == ("",)]
    lanes[""] = sum(first) / len(first) if len(first) > 2 else 0.0
    return _ordered(lanes, inside[-1])


def _ordered(lanes: dict[str, float], last: Part) -> dict[str, float]:
    """The branches in the order in which the last layer puts them together."""
    order = [lanes[source] for source in last.inputs]
    if len(order) < 3 or sorted(order) != list(range(len(order))):
        return lanes
    return {name: float(order.index(lane)) if lane in order else lane for name, lane in lanes.items()}


def _breadth(part: Part) -> float:
    return max(text_width(line, POINTS) for line in _words(part).split("\n")) + 0.14


def _words(part: Part) -> str:
    worked = part.kind in ("convolution", "up-sampling", "dense", "merge") and part.text not in ("+", "×", "−")
    return f"{part.text}\n{part.shape[-1]}" if worked else part.text


def _tint(part: Part) -> Any:
    return tuple(0.45 * value + 0.55 for value in to_rgb(COLOURS[part.kind])) if part.kind else QUIETLY


def _path(paper: Axes, points: Sequence[Point]) -> None:
    paper.plot(*zip(*points, strict=True), color=INK, linewidth=0.8, zorder=1, solid_joinstyle="round")


def arrow(paper: Axes, start: Point, end: Point) -> None:
    """Draw an arrow between two points of the paper."""
    style = {"arrowstyle": "-|>,head_width=0.12,head_length=0.25", "color": INK, "linewidth": 0.8}
    paper.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=55)


def shade(colour: str, share: float) -> tuple[float, ...]:
    """The colour as RGB, 0–1: darker with a share below 1, mixed with white by what is above 1, at most 2."""
    mixed, share = (0.0, share) if share <= 1 else (share - 1, 2 - share)
    return tuple(mixed + channel * share for channel in to_rgb(colour))
