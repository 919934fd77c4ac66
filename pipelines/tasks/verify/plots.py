"""Pictures of an embedder: how its training went, how often it errs, where people lie, which pairs are hardest.

Each function writes PNG files on the `page` of `image_grid.py`. The numbers that a figure stands for are written on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cnn_keras.metrics import verification
from pipelines.plots import image_grid
from pipelines.plots.charts import LINES
from pipelines.plots.image_grid import BLUE, ORANGE, QUIET, page
from pipelines.tasks.verify.embeddings import Embeddings

Array = np.ndarray[Any, np.dtype[Any]]

COLOURED = 20  # people of the map with a colour of their own
MAPPED = 1500  # pictures that t-SNE still takes
KINDS = (("same", BLUE, "the same person"), ("other", ORANGE, "two people"))


def training(history: Sequence[Mapping[str, float]], path: Path, *, best: int) -> Path:
    """Draw what tells how a training of embeddings goes, over the epochs, with a line at the best one."""
    panels = {
        "loss": ("loss",),
        "area under the ROC": ("auc",),
        "active triplets": ("active",),
        "squared distance": ("positive", "negative"),
        "spread": ("spread",),
    }
    epochs = np.arange(1, len(history) + 1)
    with page(path, 7, 8.5) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=[1.3, 1.3, 1, 1.3, 1])
        for axis, (title, names) in zip(axes, panels.items(), strict=True):
            for number, name in enumerate(names):
                for prefix, style, split in (("", "-", "training"), ("val_", "--", "validation")):
                    label = f"{split}, {name}" if len(names) > 1 else split
                    colour = (BLUE, ORANGE)[bool(prefix)] if len(names) == 1 else (BLUE, ORANGE)[number]
                    axis.plot(epochs, [row[prefix + name] for row in history], style, color=colour, label=label)
            axis.axvline(best, color=QUIET, linestyle=":", linewidth=1)
            axis.set_ylabel(title)
            axis.grid()
        axes[0].legend()
        axes[3].legend(ncols=2, loc="upper left", bbox_to_anchor=(0, 1.25))
        figure.align_ylabels(axes)
        axes[-1].set_xlabel(f"epoch; the best by its validation is {best}")
    return path


def draw(embeddings: Embeddings, report: Mapping[str, Any], folder: Path, *, worst: int) -> None:
    """Draw everything that evaluate shows, into `folder`."""
    roc(embeddings, report, folder / "roc.png")
    ranks(report, folder / "ranks.png")
    histogram(embeddings, report, folder / "distances.png")
    hardest(embeddings, report, folder / "hardest.png", most=worst)
    embedding_map(embeddings, folder / "map.png")


def roc(embeddings: Embeddings, report: Mapping[str, Any], path: Path) -> Path:
    """Draw TAR over FAR, logarithmic, with intervals, and the rates of the calibrated threshold as a star."""
    pairs, calibration = embeddings.pairs, report["calibration"]
    rates = verification.rates(pairs.distance, pairs.same)
    least = 0.5 / report["pairs"]["other"]
    with page(path, 6.5, 4.8) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.step(np.maximum(rates.far, least), rates.tar, where="post", color=BLUE, label="this model")
        for far, row in report["tar_at_far"].items():
            if float(far) >= least:
                axes.plot([float(far)] * 2, row["interval"], "_-", color=QUIET, linewidth=1, markersize=8)
        point = (max(calibration["false_accept_rate"], least), 1 - calibration["false_reject_rate"])
        text = f"threshold {calibration['threshold']:.3f}, calibrated on {calibration['calibration_people']} people"
        axes.plot(*point, "*", color=ORANGE, markersize=14, markeredgecolor="white", label=text)
        diagonal = np.geomspace(least, 1, 200)
        axes.plot(diagonal, 1 - diagonal, color=QUIET, linestyle="--", linewidth=1, label="equal errors")
        axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.02))
        axes.set_xlabel(f"FAR: accepted of {report['pairs']['other']:,} pairs of two people")
        axes.set_ylabel(f"TAR: accepted of {report['pairs']['same']:,} pairs of one person")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid()
        axes.legend(loc="lower right")
        axes.set_title("\n".join(_errors(report)))
    return path


def _errors(report: Mapping[str, Any]) -> list[str]:
    """A line with the errors of the model and of each baseline."""
    rows = {"this model": report, **report.get("baselines", {})}
    return [f"{name}: AUC {row['auc']:.4f}, equal error rate {row['eer']:.2%}" for name, row in rows.items()]


def ranks(report: Mapping[str, Any], path: Path) -> Path:
    """Draw how often the right person is among the nearest few of a gallery with one picture of each."""
    shares = report["match_characteristic"][:20]
    open_set_text = ", ".join(f"{rate:.1%} at FAR {far}" for far, rate in report["identification_at_far"].items())
    lines = [
        f"One picture of each of {report['people']} people enrolled: rank 1 {shares[0]:.2%}",
        "Half of them enrolled, the others refused; named rightly:",
        open_set_text,
    ]
    with page(path, 6.5, 3.8) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.plot(range(1, len(shares) + 1), shares, "o-", color=BLUE, markersize=4)
        axes.set_title("\n".join(lines))
        axes.set(xlabel="rank", ylabel="right person within rank", ylim=(min(0.9, shares[0] - 0.05), 1.005))
        axes.set_xticks(range(1, len(shares) + 1))
        axes.grid()
    return path


def histogram(embeddings: Embeddings, report: Mapping[str, Any], path: Path) -> Path:
    """Draw the distances of both kinds of pairs, each kind's shares, and the calibrated threshold."""
    pairs, threshold = embeddings.pairs, report["calibration"]["threshold"]
    edges = np.linspace(0, float(pairs.distance.max()) * 1.001, 61)
    with page(path, 6.5, 3.6) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        for kind, colour, words in KINDS:
            values = pairs.distance[pairs.same if kind == "same" else ~pairs.same]
            shares = np.histogram(values, edges)[0] / len(values)
            label = f"{words}: {len(values):,} pairs, mean {values.mean():.3f}"
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.55, label=label)
        axes.axvline(threshold, color=QUIET, linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
        axes.set(xlabel="distance", ylabel="share of the pairs of its kind")
        axes.legend()
    return path


def hardest(embeddings: Embeddings, report: Mapping[str, Any], path: Path, *, most: int) -> Path:
    """Draw the pairs that are farthest on the wrong side: one person far apart, and two people close together."""
    pairs, ids, images = embeddings.pairs, embeddings.pictures.ids, embeddings.pictures.images
    rows = []
    for same in (True, False):
        places = np.flatnonzero(pairs.same == same)
        order = places[np.argsort(pairs.distance[places] * (-1 if same else 1), kind="stable")][: most // 2]
        for place in order:
            left, right = pairs.left[place], pairs.right[place]
            gap = np.full((images.shape[1], max(2, images.shape[2] // 16), images.shape[3]), 255, np.uint8)
            both = np.concatenate([images[left], gap, images[right]], axis=1)
            rows.append((both, f"{pairs.distance[place]:.3f}: {ids[left]}, {ids[right]}"))
    threshold = report["calibration"]["threshold"]
    heading = f"One person farthest apart, then two people closest together; the threshold is {threshold:.3f}"
    columns = max(1, min(6, most // 2))
    return image_grid.contact_sheet(
        [row[0] for row in rows], [row[1] for row in rows], path, columns=columns, heading=heading, size=2.0
    )


def embedding_map(embeddings: Embeddings, path: Path) -> Path:
    """Draw the embeddings in the plane, by their two principal axes and by t-SNE, a colour for each person."""
    vectors, labels = embeddings.embeddings[:MAPPED], embeddings.labels[:MAPPED]
    fitted = PCA(2, random_state=0).fit(vectors)
    explained = f"principal axes, {fitted.explained_variance_ratio_.sum():.0%} of the variance"
    with page(path, 9.5, 5) as figure:
        figure.set_layout_engine("constrained")
        left, right = figure.subplots(1, 2)
        _scatter(left, fitted.transform(vectors), labels)
        left.set_title(explained)
        _scatter(right, _neighbours(vectors), labels)
        right.set_title("t-SNE: neighbours are near; distances have no meaning")
        people = len(np.unique(labels))
        figure.suptitle(f"{len(labels):,} pictures of {people} people", x=0.02, ha="left", size=10)
    return path


def _neighbours(vectors: Array) -> Array:
    perplexity = max(2.0, min(30.0, (len(vectors) - 1) / 4))
    points: Array = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)
    return points


def _scatter(axes: Axes, places: Array, labels: Array) -> None:
    """A dot for each picture; the first people in colours and marks, the rest grey."""
    people = np.unique(labels)
    for number, person in enumerate(people):
        own = places[labels == person]
        coloured = number < COLOURED
        colour, mark = (LINES[number % len(LINES)], "os^D"[number // len(LINES)]) if coloured else (QUIET, ".")
        axes.plot(own[:, 0], own[:, 1], mark, color=colour, markersize=5 if coloured else 3, alpha=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
