"""Pictures of steering: a frame with its angles drawn on it, angles over time, calibration, and a road from above."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.plots.charts import SPLITS
from pipelines.plots.image_grid import BLUE, FAINT, ORANGE, QUIET, page

if TYPE_CHECKING:
    from pipelines.tasks.steer.closed_loop import Driven
    from pipelines.tasks.steer.report import Answers

Array = np.ndarray[Any, np.dtype[Any]]

SIDE = 320  # pixels of the longer side that a smaller frame is enlarged to
LEAN = math.radians(60)  # of the line that stands for full lock
GAPS = 4  # drives that are drawn one below the other


def steered(
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
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).convert("RGB")
    factor = max(1, round(SIDE / max(picture.size)))
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


def recorded(angles: Array, splits: Sequence[str | None], path: Path) -> Path:
    """Draw the angles of a recording over its frames, in the colours of the splits, and how often each occurs."""
    named = dict(zip(("train", "validation", "test"), SPLITS, strict=False))
    places = np.arange(len(angles))
    with page(path, 9, 3.2) as figure:
        figure.set_layout_engine("constrained")
        line, counts = figure.subplots(1, 2, width_ratios=[4, 1], sharey=True)
        for split, colour in named.items():
            own = np.array([name == split for name in splits])
            if own.any():
                line.plot(places[own], angles[own], ".", color=colour, markersize=2, label=f"{split} {own.sum():,}")
                counts.hist(
                    angles[own],
                    bins=41,
                    range=(-1, 1),
                    density=True,
                    orientation="horizontal",
                    histtype="step",
                    color=colour,
                )
        line.set(xlabel="frame", ylabel="angle: left −1, right 1", ylim=(-1.05, 1.05))
        counts.set(xlabel="density")
        line.grid()
        line.legend(markerscale=4, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return path


def course(answers: "Answers", path: Path, *, interval: float) -> Path:
    """Draw what was said and what is true, frame by frame, with the interval, the first drives one below the other."""
    from pipelines.tasks.steer.report import drives_of

    spans = drives_of(answers)[:GAPS]
    with page(path, 9, 2.2 * len(spans) + 0.6) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots(len(spans), 1, squeeze=False, sharey=True)[:, 0]
        for place, span in zip(axes, spans, strict=True):
            frames = np.arange(span.stop - span.start)
            band = f"interval of {interval:.0%}"
            place.fill_between(
                frames, answers.low[span], answers.high[span], color=ORANGE, alpha=0.25, lw=0, label=band
            )
            place.plot(frames, answers.angle[span], color=ORANGE, linewidth=1, label="said")
            place.plot(frames, answers.truth[span], color=BLUE, linewidth=1, label="true")
            place.set(xlim=(0, max(len(frames) - 1, 1)), ylabel="angle")
            place.grid()
        axes[0].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        axes[-1].set_xlabel("frame of the split" + (f", {len(spans)} of its drives" if len(spans) > 1 else ""))
    return path


def calibration(report: dict[str, Any], path: Path) -> Path:
    """Draw how many true angles intervals hold over how many they are to hold."""
    levels = [row["level"] for row in report["calibration"]]
    held = [row["coverage"] for row in report["calibration"]]
    low, high = report["coverage_interval"]
    with page(path, 4.6, 4.4) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="calibrated")
        axes.plot(levels, held, "o-", color=BLUE, markersize=3, label="this model")
        told = f"{report['interval']:.0%} holds {report['coverage']:.1%}"
        axes.plot([report["interval"]] * 2, [low, high], "_-", color=ORANGE, markersize=8)
        axes.plot(report["interval"], report["coverage"], "*", color=ORANGE, markersize=13, label=told)
        axes.set(
            xlabel="share an interval is to hold", ylabel="share of true angles it holds", xlim=(0, 1), ylim=(0, 1)
        )
        axes.grid()
        axes.legend(loc="upper left")
    return path


def loops(driven: "Sequence[Driven]", path: Path) -> Path:
    """Draw each road from above with the car's way on it, and how far it was from its lane's middle."""
    from cnn_keras.data.sources import simulator

    with page(path, 9, 2.9 * len(driven) + 0.3) as figure:
        figure.set_layout_engine("constrained")
        rows = figure.subplots(len(driven), 2, squeeze=False, width_ratios=[1, 1.6])
        for (above, away), one in zip(rows, driven, strict=True):
            track = one.road
            above.plot(track.x, track.y, color=FAINT, linewidth=5, solid_capstyle="butt")
            above.plot(*one.path.T, color=ORANGE if one.left else BLUE, linewidth=1)
            above.plot(*one.path[-1], "x" if one.left else "o", color=ORANGE if one.left else BLUE, markersize=6)
            above.set_aspect("equal", adjustable="datalim")
            above.axis("off")
            ending = "left its lane" if one.left else "still in its lane"
            above.set_title(f"road {track.seed}: {one.steps} steps, {ending}", size=9)
            metres = simulator.STRIDE * np.arange(1, len(one.offsets) + 1)
            away.axhspan(-simulator.ROOM, simulator.ROOM, color=FAINT, lw=0)
            away.plot(metres, one.offsets, color=ORANGE if one.left else BLUE, linewidth=1)
            away.set(
                xlabel="metres",
                ylabel="left of the lane's middle, m",
                ylim=(-1.5 * simulator.ROOM, 1.5 * simulator.ROOM),
            )
            away.grid()
    return path
