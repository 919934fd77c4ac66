"""The contest: what a network paints in one pass, beside the same pictures optimised one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import exhibition, extractors, motifs, stages, style_report, transformer
from pipelines.painting import Easel, Paint, Painter

if TYPE_CHECKING:
    from pipelines.pictures import Array
    from pipelines.stages import Run


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the network on the test pictures, beside pictures that were optimised one by one; `report.json`."""
    import numpy as np

    recipe, prepared = run.recipe, run.finished("prepare")
    styles = motifs.styles(prepared)
    pixels = [style.pixels for style in styles]
    model, contents = transformer.trained(run), motifs.motifs(prepared)
    own = extractors.chosen(recipe.train.loss)
    found = style_report.judges(recipe, prepared, own, run.console)
    measured: dict[str, list[Any]] = {judge.name: [] for judge in found}
    optimised: dict[str, list[Any]] = {judge.name: [] for judge in found}
    rows, terms = [], {"network": [], "optimised": []}  # type: ignore[var-annotated]
    for number, content in enumerate(contents):
        for style, like in enumerate(styles):
            by_network = np.asarray(transformer.painted(model, content.pixels[None], style, len(styles)))[0]
            shown = [content.pixels, like.pixels, by_network]
            for judge in found:
                measured[judge.name].append(style_report.distances(judge, content.pixels, by_network, pixels, style))
            if number < recipe.evaluate.compared and style == 0:
                slow = _optimised(run, content.pixels, pixels[:1])
                for judge in found:
                    optimised[judge.name].append(style_report.distances(judge, content.pixels, slow, pixels, style))
                for name, picture in (("network", by_network), ("optimised", slow)):
                    terms[name].append(_terms(found[0], recipe, content.pixels, picture, pixels[0]))
                shown.append(slow)
            fall = measured[found[-1].name][-1].style_fall
            rows.append((content.name, f"{like.name}, {fall:.0%} nearer", shown))
    report = {**style_report.summary(measured), "pictures": len(contents), "extractors": style_report.named(found)}
    if terms["network"]:
        report["optimised"] = style_report.summary(optimised) | {"steps": recipe.evaluate.steps}
        report["terms"] = {name: _mean(rows) for name, rows in terms.items()}
    columns = ["content", "style", "network", f"optimised, {recipe.evaluate.steps} steps"]
    heading = style_report.headline(report)
    style_report.strip(rows[: style_report.SHOWN], columns, folder / "strip.png", heading=heading)
    stages.write_json(folder / "report.json", report)
    style_report.say(report, run.console)
    return report


def _optimised(run: "Run", content: "Array", styles: "Sequence[Array]") -> "Array":
    """What a picture would become if it were optimised itself, in the first style."""
    recipe = run.recipe
    objective, _ = exhibition.objective_of(recipe.train.loss, run.finished("prepare"))
    settings = Paint(loss=recipe.train.loss, steps=recipe.evaluate.steps, scales=(1.0,), preview=recipe.evaluate.steps)
    painter = Painter(objective, settings, styles=styles, weights=[1.0], seed=recipe.seed)
    return painter.paint(content, Easel(), told=lambda easel: None, said=lambda step, row: None)


def _terms(judge: Any, recipe: Any, content: "Array", picture: "Array", style: "Array") -> dict[str, float]:
    """The terms of J of a picture, with the weights of the recipe."""
    found = style_report.distances(judge, content, picture, [style], 0)
    loss = recipe.train.loss
    return {"content": loss.content * found.content**2, "style": loss.style * found.style**2}


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
