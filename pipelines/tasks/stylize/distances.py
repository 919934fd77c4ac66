"""What a painting is worth: how far the style has come and how much of the content is left – by other eyes.

Whoever optimises a loss makes that loss small; with random weights too, and no style is seen. So a painting is measured
by a network that had no say in it. Distances are those of `cnn_keras.losses.style` at unit weights: the root of J_style
to the style's Gram matrices, the root of J_content to the features of content and style picture.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from rich.console import Console

from pipelines.plots import image_grid
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset, extractor_choice, feature_extractor
from pipelines.tasks.stylize.config import Paint, Recipe
from pipelines.tasks.stylize.extractor_choice import Extractor
from pipelines.tasks.stylize.optimization import runner
from pipelines.tasks.stylize.optimization.painting import Painter

METRICS = ("style_fall", "content_lead")
SHOWN = 8  # pictures in the strip


class Judge(NamedTuple):
    """An extractor that measures, and the styles as it sees them."""

    name: str  # own or independent
    extractor: Extractor
    painter: Painter


class Distances(NamedTuple):
    """How far a painting is from what it should be like, and how far the picture itself was."""

    style: float
    style_before: float
    content: float
    content_of_style: float  # to the style picture, in place of the content

    @property
    def style_fall(self) -> float:
        """The share of the distance to the style that is gone."""
        return 1 - self.style / self.style_before if self.style_before else 0.0

    @property
    def content_lead(self) -> float:
        """1 for the content itself, 0 for a painting that is as near to the style picture."""
        return 1 - self.content / self.content_of_style if self.content_of_style else 0.0


def judges(recipe: Recipe, prepared: Path, own: Extractor, console: Console) -> list[Judge]:
    """The extractor of the loss, and one of another family, where there is one."""
    other = extractor_choice.independent(own)
    if other is None:
        console.print("          [yellow]no independent extractor is available[/]; `make samples` installs one")
    reference = [style.pixels for style in dataset.styles(prepared)]
    judges_ = []
    for name, extractor in (("own", own), ("independent", other)):
        if extractor:
            loss = recipe.train.loss if name == "own" else None
            plain = loss.model_copy(update=dict.fromkeys(("content", "style"), 1.0)) if loss else None
            painter = runner.painter_of(
                recipe.data, prepared, Paint(), feature_extractor.objective(extractor, plain, reference)
            )
            judges_.append(Judge(name, extractor, painter))
    return judges_


def distances(judge: Judge, content: Array, painting: Array, styles: Sequence[Array], share: Any = None) -> Distances:
    """Measure one painting.

    Args:
        content, painted: uint8 (height, width, 3), of one size.
        styles: the style pictures; the first is what content is compared with.
        share: the number of the one style that is wanted; None wants all, as the recipe blends them.
    """
    objective = judge.painter.objective
    style_targets = judge.painter.wanted(content) if share is None else objective.style_of(_batch(styles[share]))
    like = dataset.resize(styles[share or 0], content.shape[:2])
    content_targets = [objective.content_of(_batch(picture)) for picture in (content, like)]
    after = [objective.terms(_batch(painting), target, style_targets) for target in content_targets]
    before = objective.terms(_batch(content), content_targets[0], style_targets)
    figures = (after[0]["style"], before["style"], after[0]["content"], after[1]["content"])
    return Distances(*(math.sqrt(max(float(np.sum(figure)), 0.0)) for figure in figures))


def summary(distances_by: dict[str, list[Distances]]) -> dict[str, Any]:
    """Means over the paintings, by judge; the headline figures are the independent one's, where there is one."""
    figures: dict[str, Any] = {}
    for judge, rows in distances_by.items():
        mean = {name: sum(getattr(row, name) for row in rows) / len(rows) for name in (*Distances._fields, *METRICS)}
        figures[judge] = mean
    headline = figures.get("independent", figures["own"])
    return {**{name: headline[name] for name in METRICS}, "judges": figures}


def strip(
    rows: Sequence[tuple[str, str, Sequence[Array]]], columns: Sequence[str], path: Path, *, heading: str
) -> None:
    """Pictures side by side, a row for each picture."""
    image_grid.strips([image_grid.Strip(*row) for row in rows], path, heading=heading, columns=columns, size=2.6)


def say(report: dict[str, Any], console: Console) -> None:
    """Print the distances to content and style, a row for each judge."""
    for judge, figures in report["judges"].items():
        console.print(
            f"          {report['extractors'][judge]} ({judge}): distance to the style {figures['style_before']:.3f} → "
            f"{figures['style']:.3f}, [bold]{figures['style_fall']:.1%}[/] less; to the content "
            f"{figures['content']:.3f}, to the style picture {figures['content_of_style']:.3f}"
        )


def headline(report: dict[str, Any]) -> str:
    """One sentence for a figure."""
    judge = "independent" if "independent" in report["judges"] else "own"
    return (
        f"Distance to the style {report['style_fall']:.0%} less by {report['extractors'][judge]} ({judge}), content "
        f"lead {report['content_lead']:.2f}"
    )


def table(report: dict[str, Any]) -> list[str]:
    """The distances by each judge, as Markdown."""
    rows = ["| judge | style, before | after | less | content | style picture |", "|---|---|---|---|---|---|"]
    for judge, row in report["judges"].items():
        figures = (row["style_before"], row["style"], row["content"], row["content_of_style"])
        before, after, content, like = (f"{figure:.3f}" for figure in figures)
        name = f"{report['extractors'][judge]}, {judge}"
        rows.append(f"| {name} | {before} | {after} | {row['style_fall']:.1%} | {content} | {like} |")
    return rows


def describe(judges: Sequence[Judge]) -> dict[str, str]:
    """The network and weights of each judge, by its name."""
    return {judge.name: f"{judge.extractor.builder} ({judge.extractor.weights})" for judge in judges}


def _batch(image: Array) -> Any:
    return tf.constant(image[None], tf.float32)
