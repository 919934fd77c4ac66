"""Charts of images with any number of labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.plots.image_grid import BLUE, ORANGE, page, shorten

SHOWN = 60  # labels; of more those that change most
ROOM = 1.6  # inches for their names


def f1_by_label(rows: Sequence[Mapping[str, Any]], path: Path, *, split: str) -> Path:
    """Draw the F1 of each label at its threshold and at ½, joined by a line, and the threshold beside its name.

    Args:
        rows: of each label `name`, `f1`, `f1_at_half`, `threshold` and `support`.
        split: that the thresholds are from.
    """
    shown = sorted(rows, key=lambda row: -abs(row["f1"] - row["f1_at_half"]))[:SHOWN]
    shown = [row for row in rows if row in shown]
    height = max(0.26 * len(shown), 0.8)
    with page(path, ROOM + 5.2, height + 1.5) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        places = np.arange(len(shown))
        at_half, chosen = (np.array([row[key] for row in shown]) for key in ("f1_at_half", "f1"))
        axes.hlines(places, at_half, chosen, color="0.7", linewidth=2, zorder=1)
        axes.scatter(at_half, places, s=34, facecolors="white", edgecolors=ORANGE, linewidths=1.6, label="at ½")
        axes.scatter(chosen, places, s=34, color=BLUE, label=f"at thresholds from {split}")
        axes.set_yticks(
            places, [f"{shorten(str(row['name']), ROOM - 0.5)}  ≥ {row['threshold']:.2f}" for row in shown], size=8
        )
        axes.set(xlabel="F1", xlim=(-0.02, 1.02), ylim=(len(shown) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        which = f"of the {SHOWN} labels that change most of {len(rows)}" if len(rows) > SHOWN else "of each label"
        figure.suptitle(f"F1 {which}, and its threshold", x=0.02, ha="left", size=10)
        figure.legend(loc="outside lower center", ncols=2)
    return path
