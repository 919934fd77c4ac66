"""Pictures of numbers: how they are spread, answers over what is true, and what is left of the errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.plots.image_grid import BLUE, ORANGE, QUIET, Array, page

BINS = 30
SPLITS = {"train": BLUE, "validation": "#56b4e9", "test": "#e69f00"}


def histograms(values: Mapping[str, Array], data: dict[str, Any], path: Path) -> Path:
    """Draw how the numbers of each split, (N, values), are spread, one panel for each number."""
    with page(path, 6, 2.4 * len(data["names"]) + 0.4) as figure:
        figure.set_layout_engine("constrained")
        for place, axes in enumerate(figure.subplots(len(data["names"]), 1, squeeze=False)[:, 0]):
            everything = np.concatenate([column[:, place] for column in values.values()])
            edges = np.histogram_bin_edges(everything, BINS)
            shown = [column[:, place] for column in values.values()]
            axes.hist(shown, edges, stacked=True, color=[SPLITS[name] for name in values], label=list(values))
            axes.set(xlabel=named(data, place), ylabel="images")
        figure.axes[0].legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return path


def scatter(truth: Array, answers: Mapping[str, Array], report: dict[str, Any], path: Path) -> Path:
    """Draw each answer with its interval over what is true, and beside it the error; a row for each number.

    Args:
        truth: (N, values).
        answers: `values`, `low` and `high`, each (N, values).
    """
    rows = report["values"]
    with page(path, 9.5, 4.2 * len(rows)) as figure:
        figure.set_layout_engine("constrained")
        panels = figure.subplots(len(rows), 2, squeeze=False)
        for place, (row, (beside, left)) in enumerate(zip(rows, panels, strict=True)):
            true, said = truth[:, place], answers["values"][:, place]
            low, high = answers["low"][:, place], answers["high"][:, place]
            held = (low <= true) & (true <= high)
            ends = [min(true.min(), said.min()), max(true.max(), said.max())]
            beside.plot(ends, ends, color=QUIET, linestyle="--", linewidth=1)
            for inside, colour in ((held, BLUE), (~held, ORANGE)):
                share = f"{inside.mean():.1%} {'inside' if inside is held else 'outside'} the interval"
                beside.vlines(true[inside], low[inside], high[inside], color=colour, alpha=0.12, linewidth=0.8)
                beside.plot(true[inside], said[inside], ".", color=colour, markersize=3, label=share)
                left.plot(true[inside], (said - true)[inside], ".", color=colour, markersize=3)
            beside.set(xlabel=f"true {named(report, place)}", ylabel=f"predicted {named(report, place)}")
            beside.legend(loc="upper left")
            left.axhline(0, color=QUIET, linestyle="--", linewidth=1)
            left.set(xlabel=f"true {named(report, place)}", ylabel="error, predicted minus true")
            left.set_title(f"mean absolute error {row['mae']:.4g}, R² {row['r2']:.3f}", size=9)
            for axes in (beside, left):
                axes.grid()
    return path


def named(data: dict[str, Any], place: int) -> str:
    """A number's name and unit."""
    unit = data["units"][place]
    return f"{data['names'][place]}, {unit}" if unit else str(data["names"][place])
