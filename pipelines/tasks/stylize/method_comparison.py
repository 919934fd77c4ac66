"""The two methods compared: what a network paints in one pass, beside the same pictures optimised one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.data import run_files
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize import dataset, distances, extractor_choice, feature_extractor
from pipelines.tasks.stylize.config import Paint, Recipe
from pipelines.tasks.stylize.dataset import NamedImage
from pipelines.tasks.stylize.distances import Judge
from pipelines.tasks.stylize.model import load_trained, painter
from pipelines.tasks.stylize.optimization.optimizer_state import OptimizerState
from pipelines.tasks.stylize.optimization.painting import Painter


class Entry(NamedTuple):
    """A picture in a style: by the network, and optimised if it is one of those compared."""

    content: NamedImage
    style: int
    network: Array
    optimised: Array | None


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the network on the test pictures, beside pictures that were optimised one by one; `report.json`."""
    recipe, prepared = run.recipe, run.finished("prepare")
    styles = dataset.styles(prepared)
    pixels = [style.pixels for style in styles]
    entries = _entries(run, pixels)
    judges = distances.judges(recipe, prepared, extractor_choice.choose_extractor(recipe.train.loss), run.console)
    distances_of = _measured(judges, entries, [entry.network for entry in entries], pixels)
    report = {**distances.summary(distances_of), "extractors": distances.describe(judges)}
    report["pictures"] = len({entry.content.name for entry in entries})
    if compared := [entry for entry in entries if entry.optimised is not None]:
        report |= _compared(recipe, judges, compared, pixels)
    falls = [row.style_fall for row in distances_of[judges[-1].name]]
    rows = [
        (entry.content.name, f"{styles[entry.style].name}, {fall:.0%} nearer", _shown(entry, pixels))
        for entry, fall in zip(entries, falls, strict=True)
    ]
    columns = ["content", "style", "network", f"optimised, {recipe.evaluate.steps} steps"]
    heading = distances.headline(report)
    distances.strip(rows[: distances.SHOWN], columns, folder / "strip.png", heading=heading)
    run_files.write_json(folder / "report.json", report)
    distances.say(report, run.console)
    return report


def _entries(run: Run, styles: Sequence[Array]) -> list[Entry]:
    """Every test picture in every style; the first few are optimised too, in the first."""
    recipe, paint, entries = run.recipe, painter(load_trained(run), len(styles)), []
    optimiser = _painter(run, styles[:1]) if recipe.evaluate.compared else None
    for number, content in enumerate(dataset.contents(run.finished("prepare"))):
        for style in range(len(styles)):
            painting = paint(content.pixels, style)
            slow = None
            if optimiser and style == 0 and number < recipe.evaluate.compared:
                slow = optimiser.paint(
                    content.pixels, OptimizerState(), on_round=lambda state: None, on_step=lambda step, row: None
                )
            entries.append(Entry(content, style, painting, slow))
    return entries


def _painter(run: Run, styles: Sequence[Array]) -> Painter:
    """Who optimises the same loss that the network learnt by."""
    recipe = run.recipe
    objective, _ = feature_extractor.objective_of(recipe.train.loss, run.finished("prepare"))
    settings = Paint(loss=recipe.train.loss, steps=recipe.evaluate.steps, preview=recipe.evaluate.steps)
    return Painter(objective, settings, styles=styles, weights=[1.0], seed=recipe.seed)


def _measured(
    judges: Sequence[Judge], entries: Sequence[Entry], paintings: Sequence[Array], styles: Sequence[Array]
) -> dict[str, list[distances.Distances]]:
    return {
        judge.name: [
            distances.distances(judge, entry.content.pixels, painting, styles, entry.style)
            for entry, painting in zip(entries, paintings, strict=True)
        ]
        for judge in judges
    }


def _compared(
    recipe: Recipe, judges: Sequence[Judge], entries: Sequence[Entry], styles: Sequence[Array]
) -> dict[str, Any]:
    """The distances of the optimised pictures, and J's terms of both ways, with the weights of the recipe."""
    ways = {
        "network": [entry.network for entry in entries],
        "optimised": [entry.optimised for entry in entries if entry.optimised is not None],
    }
    distances_by_way = {name: _measured(judges, entries, paintings, styles) for name, paintings in ways.items()}
    loss, many = recipe.train.loss, len(entries)
    terms = {
        name: {
            "content": loss.content * sum(row.content**2 for row in way_distances["own"]) / many,
            "style": loss.style * sum(row.style**2 for row in way_distances["own"]) / many,
        }
        for name, way_distances in distances_by_way.items()
    }
    optimised = distances.summary(distances_by_way["optimised"]) | {"steps": recipe.evaluate.steps}
    return {"terms": terms, "optimised": optimised}


def _shown(entry: Entry, styles: Sequence[Array]) -> list[Array]:
    pictures = [entry.content.pixels, styles[entry.style], entry.network]
    return pictures if entry.optimised is None else [*pictures, entry.optimised]
