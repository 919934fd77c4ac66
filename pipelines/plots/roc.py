"""ROC curves of classifiers: of two classes, and of few classes, each against the rest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnn_keras.metrics.classification import Ranking
from pipelines.plots.charts import LINES, NAME_ROOM
from pipelines.plots.image_grid import BLUE, FAINT, QUIET, page, shorten


def two_classes(ranking_: Ranking, report: Mapping[str, Any], path: Path) -> Path:
    """Draw the ROC and precision over recall of the second of two classes, with what answers at random would have."""
    first, second = ranking_.counts
    with page(path, 9, 4.8) as figure:
        figure.set_layout_engine("constrained")
        roc, precision = figure.subplots(1, 2)
        roc.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1)
        roc.plot([0, *ranking_.false_positives], [0, *ranking_.recall], color=BLUE)
        roc.set(
            xlabel=f"false positives among {first:,}", ylabel=f"recall of {report['positive']}, {second:,} examples"
        )
        precision.axhline(second / (first + second), color=QUIET, linestyle="--", linewidth=1)
        precision.step([0, *ranking_.recall], [1, *ranking_.precision], where="pre", color=BLUE)
        precision.set(xlabel="recall", ylabel="precision")
        for axes, name, title in (
            (roc, "auc", "area under the ROC"),
            (precision, "average_precision", "average precision"),
        ):
            low, high = report[f"{name}_interval"]
            axes.set(
                xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), title=f"{title} {report[name]:.4f}\n{low:.4f} to {high:.4f}"
            )
            axes.grid()
    return path


def one_vs_rest(rankings: Mapping[int, Ranking], report: Mapping[str, Any], path: Path) -> Path:
    """Draw the ROC of each class against all others, and what answers at random would have; the lowest in colour.

    Args:
        rankings: in the order of the rows of `report["one_vs_rest"]`.
    """
    rows = sorted(zip(report["one_vs_rest"], rankings.values(), strict=True), key=lambda pair: float(pair[0]["auc"]))
    low, high = report["macro_auc_interval"]
    with page(path, 7, 5.2) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle="--", linewidth=1)
        for place, (row, ranking) in reversed(list(enumerate(rows))):
            color = LINES[place] if place < len(LINES) else FAINT
            label = f"{shorten(row['name'], NAME_ROOM)} {row['auc']:.4f}"
            axes.plot([0, *ranking.false_positives], [0, *ranking.recall], color=color, label=label)
        axes.set(
            xlabel="false positives among all others",
            ylabel="recall of the class",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            title=f"mean area under the ROC {report['macro_auc']:.4f}, {low:.4f} to {high:.4f}",
        )
        axes.grid()
        axes.legend(reverse=True, title="area", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return path
