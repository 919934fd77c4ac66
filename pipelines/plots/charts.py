"""Pictures made of numbers: how training went, and what the answers to a split are worth.

Each function writes one PNG on the `page` of `image_grid.py` and returns its path; it raises ValueError when
what it is given does not fit together. The numbers that a figure stands for are written on it.
"""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cnn_keras.metrics.classification import Reliability, wilson_interval
from pipelines.plots.image_grid import BLUE, FAINT, ORANGE, QUIET, fits, page, shorten, text_width

Array = np.ndarray[Any, np.dtype[Any]]

SPLITS = (BLUE, "#56b4e9", "#e69f00", "#009e73")  # training, validation and others, in Okabe and Ito's colours
LINES = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # and those of any things compared
NAMED = 130  # classes whose names can still be written along an axis
COUNTED = 25  # classes whose counts can still be written into the cells
NAME_ROOM = 1.7  # inches for a class name


def curves(
    history: Sequence[Mapping[str, Any]], path: Path, *, metric: str = "accuracy", best: int | None = None
) -> Path:
    """Draw loss, `metric` and learning rate over the epochs, with a star at the best one.

    A row of `history` is an epoch: `epoch`, `loss`, `learning_rate` and the metric by its name; `val_` before
    a name is the validation split's. A missing or empty value is left out. `best` is the number of the best
    epoch; None takes the highest `val_METRIC` or, where there is none, the lowest `val_loss`.
    """
    if not history:
        raise ValueError("history must hold at least one epoch, got none")
    columns = _columns(history, metric)
    epochs = columns.pop("epoch", np.arange(1.0, len(history) + 1))
    best_epoch = _best(columns, metric) if best is None else epochs.tolist().index(best)
    panels = [name for name in ("loss", metric, "learning_rate") if {name, f"val_{name}"} & columns.keys()]
    heights = [1.0 if name == "learning_rate" else 2.5 for name in panels]
    with page(path, 7, sum(heights) + 0.8) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, name in zip(axes, panels, strict=True):
            _curve(panel, epochs, columns, name, best_epoch)
        figure.align_ylabels(axes)
        axes[-1].set(xlabel="epoch", xlim=(epochs.min() - 0.5, epochs.max() + 0.5))
        axes[-1].xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    return path


def confusion_matrix(matrix: Array, class_names: Sequence[str], path: Path, *, heading: str = "") -> Path:
    """Draw counts [C, C], a row per true class and a column per answer: right ones blue, mistakes orange.

    A cell is the darker the larger its share of the true class, on a scale that shows single mistakes. Counts
    are written into the cells of up to 25 classes, names along the axes of up to 130. Without a heading it says
    how many are right.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ValueError(f"matrix must have shape [C, C] with C > 0, got {list(matrix.shape)}")
    fits("class_names", class_names, matrix)
    classes, total = len(matrix), int(matrix.sum())
    side = min(max(0.45 * classes, 3.0), 13.0)
    names, points, room = _names(class_names, side)
    upright = bool(names) and room > 0.9 * side / classes
    left, head, foot = 0.6 + room, 0.7, 0.6 + (room if upright else 0.2)
    with page(path, left + side + 0.3, head + side + foot) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((left / width, foot / height, side / width, side / height))
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        shades = np.where(matrix > 0, 0.2 + 0.8 * np.sqrt(share), 0)
        axes.imshow(_coloured(shades), aspect="auto", interpolation="nearest")
        axes.set(xlabel="answer", ylabel="truth")
        axes.spines[:].set(visible=True, color=FAINT)
        if names:
            axes.tick_params(length=0)
            axes.set_xticks(range(classes), names, rotation=90 if upright else 0, size=points)
            axes.set_yticks(range(classes), names, size=points)
        if classes <= COUNTED:
            _write_counts(axes, matrix, shades, side / classes)
        right = f"{np.trace(matrix):,} of {total:,} right ({np.trace(matrix) / max(total, 1):.1%})"
        figure.text(0.12 / width, 1 - 0.24 / height, heading or right, size=10, va="center")
        legend = "blue: right · orange: wrong · darker: larger share of its row"
        figure.text(0.12 / width, 1 - 0.46 / height, legend, size=8, va="center", color=QUIET)
    return path


def reliability(bins: Reliability, ece: float, path: Path) -> Path:
    """Draw accuracy against confidence, bin by bin with 95 % intervals, above the examples of each bin."""
    full, total = bins.count > 0, bins.count.sum()
    confidence, accuracy, count = bins.confidence[full], bins.accuracy[full], bins.count[full]
    intervals = [wilson_interval(round(a * n), n) for a, n in zip(accuracy, count.tolist(), strict=True)]
    spread = np.abs(np.transpose(intervals) - accuracy)
    edges = np.linspace(0, 1, len(bins.count) + 1)
    with page(path, 5, 5.8) as figure:
        figure.set_layout_engine("constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        upper.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1, label="perfect calibration")
        upper.errorbar(confidence, accuracy, spread, fmt="o-", color=BLUE, label="bins, 95 % intervals")
        upper.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        upper.grid()
        upper.set_title(
            f"Expected calibration error {ece:.3f}\n"
            f"mean confidence {confidence @ count / total:.3f}, accuracy {accuracy @ count / total:.3f}",
            pad=22,
        )
        upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.4, borderpad=0)
        lower.stairs(bins.count, edges, fill=True, color=QUIET)
        lower.set(xlabel=f"confidence of {total:,} answers in {len(bins.count)} bins", ylabel="examples")
    return path


class Precision(NamedTuple):
    """One class on the chart of precision and recall, and its point at the threshold."""

    name: str
    average: float
    recall: Array
    precision: Array
    point: tuple[float, float]


def precision_recall(curves: Sequence[Precision], path: Path, *, heading: str, figure_of: str = "AP50") -> Path:
    """Draw precision against recall for each class, a dot at the threshold; of many classes only the ends in colour.

    Args:
        figure_of: what the average of a curve is called.
    """
    ranked = sorted(curves, key=lambda curve: -curve.average)
    many = len(ranked) > len(LINES)
    labelled_curves = [*ranked[:3], *ranked[-3:]] if many else ranked
    with page(path, 7, 5.2) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        figure.suptitle(textwrap.fill(heading, 90), x=0.02, ha="left", size=10)
        for curve in ranked[3:-3] if many else ():
            axes.plot(*_best_above(curve), color=FAINT, linewidth=1)
        for number, curve in enumerate(labelled_curves):
            label = f"{shorten(curve.name, NAME_ROOM)} {curve.average:.3f}"
            axes.plot(*_best_above(curve), color=LINES[number], label=label)
            axes.plot(*curve.point, "o", color=LINES[number], markersize=6, markeredgecolor="white", clip_on=False)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.grid()
        if labelled_curves:
            title = f"{figure_of}: best and worst of {len(ranked)}" if many else figure_of
            axes.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return path


def class_balance(counts: Mapping[str, Mapping[str, int]], path: Path, *, unit: str = "examples") -> Path:
    """Draw how many examples every class has, `counts[split][class name]`, the splits end to end."""
    class_names = list(dict.fromkeys(name for split in counts.values() for name in split))
    if not class_names:
        raise ValueError("counts must hold at least one split with one class, got none")
    totals = [sum(split.get(name, 0) for split in counts.values()) for name in class_names]
    side = min(max(0.22 * len(class_names), 1.5), 16.0)
    names, points, room = _names(class_names, side)
    left, bars, head, foot = 0.3 + room, 5.0, 0.75, 0.55
    with page(path, left + bars + 0.5, head + side + foot) as figure:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((left / width, foot / height, bars / width, side / height))
        start = np.zeros(len(class_names), int)
        for number, (split, of) in enumerate(counts.items()):
            sizes = np.array([of.get(name, 0) for name in class_names])
            label = f"{split} {sizes.sum():,}"
            rectangles = axes.barh(
                range(len(sizes)), sizes, 0.8, start, color=SPLITS[number % len(SPLITS)], label=label
            )
            start += sizes
        axes.set(xlabel=unit, ylim=(len(class_names) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.tick_params(axis="y", length=0)
        if names:
            axes.set_yticks(range(len(names)), names, size=points)
            axes.bar_label(rectangles, [f"{total:,}" for total in totals], padding=3, size=points - 1)
        title = f"{len(class_names):,} classes of {min(totals):,} to {max(totals):,} {unit}"
        figure.text(0.12 / width, 1 - 0.22 / height, title, size=10, va="center")
        place = (0.12 / width, 1 - 0.5 / height)
        figure.legend(loc="center left", bbox_to_anchor=place, ncols=len(counts), borderaxespad=0, borderpad=0)
    return path


@dataclass(frozen=True)
class Panel:
    """What one set of axes compares: lines of (x, y) points by their names, or bars.

    A y of NaN is a training that diverged, an infinite one what was never reached. `log` names the logarithmic
    axes, "x", "y" or "xy"; `marked` is a height that a dashed line marks.
    """

    quantity: str
    against: str = ""
    lines: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    log: str = ""
    marked: float | None = None


def panels(compared: Sequence[Panel], path: Path, *, heading: str) -> Path:
    """Draw the panels one below the other, under a heading."""
    if not compared:
        raise ValueError("compared must hold at least one panel, got none")
    heights = [0.6 + 0.36 * len(panel.bars) if panel.bars else 3.2 for panel in compared]
    with page(path, 7, sum(heights) + 0.6) as figure:
        figure.set_layout_engine("constrained")
        figure.suptitle(textwrap.fill(heading, 90), x=0.02, ha="left", size=10)
        axes = figure.subplots(len(compared), 1, squeeze=False, height_ratios=heights)[:, 0]
        for place, panel in zip(axes, compared, strict=True):
            (_compare_bars if panel.bars else _compare_lines)(place, panel)
    return path


def rates(rates: Array, losses: Array, smooth: Array, path: Path, *, marked: Mapping[str, float]) -> Path:
    """Draw the loss of batches, [steps], over their learning rates, as it was and smoothed; `marked` names rates."""
    start = float(np.median(losses[: max(3, len(losses) // 20)]))
    with page(path, 7, 4) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.plot(rates, losses, color=FAINT, linewidth=1, label="each batch")
        axes.plot(rates, smooth, color=BLUE, label="smoothed")
        for colour, (name, rate) in zip((ORANGE, "#009e73", QUIET), marked.items(), strict=False):
            axes.axvline(rate, color=colour, linestyle="--", linewidth=1, label=f"{name}: {rate:.1e}")
        bottom = min(float(smooth.min()), start)
        top = start + 0.6 * (start - bottom)  # what diverges leaves through the roof
        axes.set(xlabel="learning rate", ylabel="loss", ylim=(bottom - 0.05 * start, max(top, 1.1 * start)))
        _logarithmic(axes)
        axes.grid()
        axes.legend()
    return path


def search(
    values: Sequence[float],
    settings: Mapping[str, Sequence[Any]],
    path: Path,
    *,
    metric: str,
    log: Collection[str],
    highest: bool,
) -> Path:
    """Draw how the trials of a search did: the metric over their numbers, then over each setting.

    Args:
        values: float [trials], NaN where a trial gave none.
        settings: of each trial, by key; what is no number stands side by side.
        log: keys with a logarithmic axis.
        highest: whether the highest value is the best one.
    """
    known = np.asarray(values, float)
    trials = np.flatnonzero(np.isfinite(known))
    so_far = (np.fmax if highest else np.fmin).accumulate(known)
    best = trials[(np.argmax if highest else np.argmin)(known[trials])]
    columns = {1: 1, 2: 2, 4: 2}.get(1 + len(settings), 3)
    lines = -(-(1 + len(settings)) // columns)
    with page(path, 3.4 * columns, 2.8 * lines) as figure:
        figure.set_layout_engine("constrained")
        first, *others = figure.subplots(lines, columns, squeeze=False).ravel()
        first.plot(np.arange(1, len(known) + 1), so_far, color=ORANGE, drawstyle="steps-post", label="best so far")
        _points(first, trials + 1, known[trials], best + 1, known[best])
        first.set(xlabel="trial", ylabel=metric.replace("_", " "))
        first.legend()
        for axes, (key, column) in zip(others, settings.items(), strict=False):
            numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
            kinds = sorted({str(value) for value in column}, key=lambda kind: (len(kind), kind))
            places = np.array([float(v) if numeric else kinds.index(str(v)) for v in column])
            _points(axes, places[trials], known[trials], places[best], known[best])
            axes.set_xlabel(key)
            if key in log:
                _logarithmic(axes)
            if not numeric:
                axes.set_xticks(range(len(kinds)), [shorten(kind, 2.4 / len(kinds), 8) for kind in kinds])
                axes.margins(x=0.2)
        for axes in others[len(settings) :]:
            axes.set_visible(False)
    return path


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 300 * low:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _points(axes: Axes, x: Array, y: Array, best_x: float, best_y: float) -> None:
    axes.plot(x, y, "o", color=BLUE, markersize=4, alpha=0.7)
    axes.plot(best_x, best_y, "*", color=ORANGE, markersize=13, markeredgecolor="white")
    axes.grid()


def _compare_lines(axes: Axes, panel: Panel) -> None:
    """Draw one line for each name; what has no height stands above, and the legend says what became of it."""
    axes.set(xlabel=panel.against, ylabel=panel.quantity)
    axes.grid()
    missing = set()
    for number, (name, points) in enumerate(panel.lines.items()):
        colour = LINES[number % len(LINES)]
        x, y = np.array(sorted(points), float).reshape(-1, 2).T
        visible = np.isfinite(y) & ((y > 0) | ("y" not in panel.log))
        axes.plot(x, np.where(visible, y, np.nan), "o-", color=colour, markersize=3, label=name)
        for word, lost in (("diverged", np.isnan(y)), ("never", np.isinf(y))):
            top = np.full(lost.sum(), 0.97 - 0.05 * number)  # each name at its own height
            axes.plot(x[lost], top, "x", color=colour, markersize=6, transform=axes.get_xaxis_transform())
            missing |= {word} if lost.any() else set()
    for word in sorted(missing):
        axes.plot([], [], "x", color=QUIET, label=word)
        axes.margins(y=0.06 + 0.06 * len(panel.lines))
    if panel.marked is not None:
        axes.axhline(panel.marked, color=QUIET, linestyle="--", linewidth=1)
    _scale(axes, panel)
    axes.legend()


def _compare_bars(axes: Axes, panel: Panel) -> None:
    """Draw one bar for each name, the first on top, with its length in figures; neighbours alternate in colour."""
    names, values = list(panel.bars), list(panel.bars.values())
    bars = axes.barh(range(len(names)), values, 0.7, color=[LINES[number % 2] for number in range(len(names))])
    axes.bar_label(bars, [f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" for value in values], padding=3, size=8)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel=panel.quantity, ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x")
    _scale(axes, panel)
    axes.margins(x=0.25)


def _scale(axes: Axes, panel: Panel) -> None:
    """Make the panel's axes logarithmic; write large numbers short, 12 M, and small ones out, 0.003."""
    plain: Any = FuncFormatter(lambda value, _: f"{value:g}")
    if panel.bars:
        axes.xaxis.set_major_formatter(EngFormatter(sep=" ") if max(panel.bars.values()) >= 1000 else plain)
    elif panel.against == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    for name in panel.log:
        axes.set(**{f"{name}scale": "log"})
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_formatter(EngFormatter(sep=" ") if panel.bars else plain)
        axis.set_minor_formatter(NullFormatter())
    settings = sorted({x for points in panel.lines.values() for x, _ in points})
    if "x" in panel.log and 0 < len(settings) <= 12:
        axes.set_xticks(settings, [f"{x:g}" for x in settings])
        axes.set_xticks([], minor=True)


def _best_above(curve: Precision) -> tuple[Array, Array]:
    """Return recall and, at each, the best precision at it or above: what the average is the area of."""
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return np.append(0.0, np.repeat(curve.recall, 2)), np.append(np.repeat(best, 2), 0.0)


def _columns(history: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Array]:
    """Return the columns that hold any value, float64 [epochs], NaN where a row has none."""
    names = ("epoch", "loss", "val_loss", metric, f"val_{metric}", "learning_rate")
    missing = (None, "")
    return {
        key: np.array([np.nan if row.get(key) in missing else float(row[key]) for row in history])
        for key in names
        if any(row.get(key) not in missing for row in history)
    }


def _best(columns: Mapping[str, Array], metric: str) -> int | None:
    """Return the row of the best epoch; None without a finite validation number."""
    for key, sign in ((f"val_{metric}", 1), ("val_loss", -1)):
        scores = sign * columns.get(key, np.array([np.nan]))
        if np.isfinite(scores).any():
            return int(np.nanargmax(scores))
    return None


def _curve(panel: Axes, epochs: Array, columns: Mapping[str, Array], name: str, best: int | None) -> None:
    """Draw one quantity of both splits over the epochs."""
    panel.set_ylabel(name.replace("_", " "))
    panel.grid()
    dot = "o" if len(epochs) <= 40 else None
    if name == "learning_rate":
        panel.plot(epochs, columns[name], color=QUIET, linewidth=1, marker=dot, markersize=2)
        panel.set_ylim(bottom=0)
        return
    for key, label, colour in ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE)):
        if key in columns:
            panel.plot(epochs, columns[key], color=colour, label=label, marker=dot, markersize=3)
    column = columns[f"val_{name}" if f"val_{name}" in columns else name]
    if best is not None and np.isfinite(value := column[best]):
        label = f"best, epoch {epochs[best]:.0f}: {value:.4g}"
        panel.plot(epochs[best], value, "*", color=ORANGE, markersize=14, markeredgecolor="white", label=label)
    panel.legend()


def _names(class_names: Sequence[str], side: float) -> tuple[list[str], float, float]:
    """Return names cut to fit an axis of `side` inches, their points and their width; none of too many."""
    if len(class_names) > NAMED:
        return [], 0, 0.4
    points = min(9, 0.8 * 72 * side / len(class_names))
    names = [shorten(name, NAME_ROOM, points) for name in class_names]
    return names, points, max(text_width(name, points) for name in names)


def _coloured(shades: Array) -> Array:
    """Mix white, at shade 0, with blue on the diagonal and orange off it: float64 [C, C, 3] in [0, 1]."""
    full = np.where(np.eye(len(shades), dtype=bool)[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    mixed: Array = 1 - shades[..., None] * (1 - full)
    return mixed


def _write_counts(axes: Axes, matrix: Array, shades: Array, cell: float) -> None:
    """Write every count but the noughts into its cell, `cell` inches wide."""
    points = min(9.0, 0.85 * cell / text_width(str(matrix.max()), 1))
    for row, column in np.argwhere(matrix):
        colour = "white" if shades[row, column] > 0.6 else "black"
        count = str(matrix[row, column])
        axes.text(column, row, count, ha="center", va="center", size=points, color=colour)


def recorded_controls(values: Array, splits: Sequence[str | None], path: Path, *, axis: str) -> Path:
    """Draw the angles or throttles of a recording over its frames, and how often each occurs in which split."""
    named = dict(zip(("train", "validation", "test"), SPLITS, strict=False))
    places = np.arange(len(values))
    with page(path, 9, 3.2) as figure:
        figure.set_layout_engine("constrained")
        line, counts = figure.subplots(1, 2, width_ratios=[4, 1], sharey=True)
        for split, colour in named.items():
            own = np.array([name == split for name in splits])
            if own.any():
                line.plot(places[own], values[own], ".", color=colour, markersize=2, label=f"{split} {own.sum():,}")
                counts.hist(
                    values[own],
                    bins=41,
                    range=(-1, 1),
                    density=True,
                    orientation="horizontal",
                    histtype="step",
                    color=colour,
                )
        line.set(xlabel="frame", ylabel=axis, ylim=(-1.05, 1.05))
        counts.set(xlabel="density")
        line.grid()
        line.legend(markerscale=4, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return path
