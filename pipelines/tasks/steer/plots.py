"""Pictures of steering: angles over time, calibration, and a road from above."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.sources.synthetic import simulator
from pipelines.plots.image_grid import BLUE, FAINT, ORANGE, QUIET, page
from pipelines.tasks.steer.closed_loop import Driven
from pipelines.tasks.steer.predictions import Predictions, drives_of

GAPS = 4  # drives that are drawn one below the other


def course(answers: Predictions, path: Path, *, interval: float, control: str = "angle") -> Path:
    """Draw what was said and what is true, frame by frame, with the interval, the first drives one below the other."""
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
            place.plot(frames, answers.predicted[span], color=ORANGE, linewidth=1, label="said")
            place.plot(frames, answers.truth[span], color=BLUE, linewidth=1, label="true")
            place.set(xlim=(0, max(len(frames) - 1, 1)), ylabel=control)
            place.grid()
        axes[0].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
        axes[-1].set_xlabel("frame of the split" + (f", {len(spans)} of its drives" if len(spans) > 1 else ""))
    return path


def calibration(report: dict[str, Any], path: Path) -> Path:
    """Draw how many true angles intervals hold over how many they are to hold."""
    levels = [row["level"] for row in report["calibration"]]
    coverage = [row["coverage"] for row in report["calibration"]]
    low, high = report["coverage_interval"]
    with page(path, 4.6, 4.4) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="calibrated")
        axes.plot(levels, coverage, "o-", color=BLUE, markersize=3, label="this model")
        interval_text = f"{report['interval']:.0%} holds {report['coverage']:.1%}"
        axes.plot([report["interval"]] * 2, [low, high], "_-", color=ORANGE, markersize=8)
        axes.plot(report["interval"], report["coverage"], "*", color=ORANGE, markersize=13, label=interval_text)
        axes.set(
            xlabel="nominal coverage of the interval",
            ylabel="observed coverage of true angles",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        axes.grid()
        axes.legend(loc="upper left")
    return path


def loops(driven: Sequence[Driven], path: Path) -> Path:
    """Draw each road from above with the car's way on it, and how far it was from its lane's middle."""
    with page(path, 9, 2.9 * len(driven) + 0.3) as figure:
        figure.set_layout_engine("constrained")
        rows = figure.subplots(len(driven), 2, squeeze=False, width_ratios=[1, 1.6])
        for (above, away), drive in zip(rows, driven, strict=True):
            track = drive.road
            above.plot(track.x, track.y, color=FAINT, linewidth=5, solid_capstyle="butt")
            above.plot(*drive.path.T, color=ORANGE if drive.left else BLUE, linewidth=1)
            above.plot(*drive.path[-1], "x" if drive.left else "o", color=ORANGE if drive.left else BLUE, markersize=6)
            above.set_aspect("equal", adjustable="datalim")
            above.axis("off")
            ending = "left its lane" if drive.left else "still in its lane"
            above.set_title(f"road {track.seed}: {drive.steps} steps, {ending}", size=9)
            metres = simulator.STRIDE * np.arange(1, len(drive.offsets) + 1)
            away.axhspan(-simulator.ROOM, simulator.ROOM, color=FAINT, lw=0)
            away.plot(metres, drive.offsets, color=ORANGE if drive.left else BLUE, linewidth=1)
            away.set(
                xlabel="metres",
                ylabel="left of the lane's middle, m",
                ylim=(-1.5 * simulator.ROOM, 1.5 * simulator.ROOM),
            )
            away.grid()
    return path
