"""The sizes of boxes as a picture: how large they are, and how well the anchors cover them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pipelines.plots.image_grid import BLUE, ORANGE, QUIET, page

SMALL, MEDIUM = 32, 96  # pixels of the side of a square: COCO's borders of small, medium and large
POINTS = 5000  # boxes that the scatter shows at most


def draw(sizes: Any, anchors: Sequence[Sequence[float]], frame: tuple[int, int], path: Path) -> Path:
    """Draw a histogram of the boxes' sizes and their widths against their heights, with the anchors.

    Args:
        sizes: float (N, 2), width and height in [0, 1] of the frame.
        anchors: (width, height) likewise.
        frame: (height, width) in pixels.
    """
    if not len(sizes):
        raise ValueError("sizes must hold at least one box, got none")
    pixels = np.asarray(sizes, float) * frame[::-1]
    places = np.asarray(anchors, float).reshape(-1, 2) * frame[::-1]
    sides = np.sqrt(pixels.prod(axis=1))
    shares = [(sides < SMALL).mean(), ((sides >= SMALL) & (sides < MEDIUM)).mean(), (sides >= MEDIUM).mean()]
    with page(path, 9, 4.2) as figure:
        figure.set_layout_engine("constrained")
        left, right = figure.subplots(1, 2)
        left.hist(sides, bins=np.geomspace(max(sides.min() * 0.95, 0.5), sides.max() * 1.05, 31), color=BLUE)
        left.set(xscale="log", xlabel="√(width × height), pixels of the frame", ylabel="boxes")
        for border in (SMALL, MEDIUM):
            left.axvline(border, color=QUIET, linestyle="--", linewidth=1)
        counts_text = ", ".join(
            f"{share:.0%} {name}" for share, name in zip(shares, ("small", "medium", "large"), strict=True)
        )
        left.set_title(f"{len(sizes):,} boxes: {counts_text}")
        _plain(left.xaxis, sides)
        step = -(-len(pixels) // POINTS)
        right.plot(*pixels[::step].T, ".", color=BLUE, markersize=3, alpha=0.4, label="boxes")
        if len(places):
            label = f"{len(places)} anchors"
            right.plot(*places.T, "D", color=ORANGE, markersize=6, markeredgecolor="white", label=label)
        right.set(xlabel="width, pixels", ylabel="height, pixels", xlim=(0, None), ylim=(0, None))
        right.grid()
        right.set_title(f"In a frame of {frame[1]} × {frame[0]} pixels")
        right.legend()
    return path


def _plain(axis: Any, values: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10 … in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
