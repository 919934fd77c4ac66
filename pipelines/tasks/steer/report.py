"""What a steering network's answers are worth: errors, likelihood, calibration, beside what needs no network.

Neighbouring frames err alike, so that intervals are those of `predictions.bootstrap_interval`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.learn import visualization
from pipelines.data import image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.engine import plugins, requirement
from pipelines.engine.regression import nearest_image
from pipelines.engine.stages import Run
from pipelines.plots import annotate, image_grid, overlays
from pipelines.plots.image_grid import Array
from pipelines.tasks.steer import closed_loop, dataset, forks, model, plots, predictions
from pipelines.tasks.steer.config import Evaluate
from pipelines.tasks.steer.predictions import BATCH, Predictions, bootstrap_interval

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))  # of intervals, for the calibration
LEAST_SCALE = 1e-3  # of the baseline's normal distribution


def evaluate(run: Run, folder: Path) -> dict[str, Any]:
    """Measure the model on the last block of time, then let it drive; say which requirements failed."""
    recipe, data = run.recipe, run.facts("prepare")
    settings = recipe.evaluate
    split, steerer = image_dataset.test_split(data), model.steerer(run)
    with data_validation.progress(run.console) as bar:
        task = bar.add_task("evaluating", total=data["splits"][split])
        answers = predictions.predict(run, steerer, split, lambda done: bar.advance(task, done))
    report: dict[str, Any] = {"split": split}
    for control, own in answers.items():
        figures = measure(own, settings.interval)
        figures |= {"spread": steerer.scales[control].spread, "baselines": baselines(run, own, split, control)}
        report |= figures if control == "angle" else {control: figures}
        report |= model.named(control, {key: figures[key] for key in ("mae", "rmse", "coverage")})
    report |= plugins.measure(settings.metrics, answers["angle"].truth, answers["angle"].predicted)
    if data["source"] == "road":
        report["loop"] = loop(run, steerer, folder)
        report["lane_steps"] = min(row["steps"] for row in report["loop"])
    if recipe.forks:
        report["forks"] = forks.measure(run, steerer, folder)
        report |= {"forks_taken": report["forks"]["taken"], "fork_mae": report["forks"]["mae"]}
    run_files.write_json(folder / "report.json", report)
    durable.write_text(folder / "predictions.csv", predictions.as_csv(answers))
    draw(run, folder, answers, report, steerer)
    say(run, report)
    names = (*settings.MEASURED, *map(plugins.short, settings.metrics))
    metrics = {f"test_{key}": report[key] for key in names if key in report}
    return {"metrics": metrics, "failed": failed_requirements(settings, report)}


def measure(answers: Predictions, interval: float) -> dict[str, Any]:
    """The figures of what the network says of a control."""
    error = answers.predicted - answers.truth
    is_covered = (answers.low <= answers.truth) & (answers.truth <= answers.high)
    calibration = [{"level": level, "coverage": float(_inside(answers, level).mean())} for level in LEVELS]
    return {
        "frames": len(error),
        "mae": float(np.abs(error).mean()),
        "mae_interval": bootstrap_interval(np.abs(error)),
        "rmse": float(np.sqrt((error**2).mean())),
        "bias": float(error.mean()),
        "nll": float(answers.losses.mean()),
        "nll_interval": bootstrap_interval(answers.losses),
        "interval": interval,
        "coverage": float(is_covered.mean()),
        "coverage_interval": bootstrap_interval(is_covered.astype(float)),
        "width": float((answers.high - answers.low).mean()),
        "calibration": calibration,
        "calibration_error": float(np.mean([abs(row["level"] - row["coverage"]) for row in calibration])),
    }


def baselines(run: Run, answers: Predictions, split: str, control: str = "angle") -> dict[str, dict[str, float]]:
    """What needs no network: always the training mean; the nearest training image's angle; the last true angle.

    The last is told but not to be beaten: no picture tells it, and a wheel hardly moves from frame to frame.
    """
    training = run.facts("prepare")[f"{control}s"]["train"]
    mean, scale = training["mean"], max(training["deviation"], LEAST_SCALE)
    far = (answers.truth - mean) / scale
    errors: dict[str, dict[str, float]] = {f"mean {control}": _errors(mean - answers.truth)}
    errors[f"mean {control}"]["nll"] = float((0.5 * far**2 + np.log(scale * np.sqrt(2 * np.pi))).mean())
    train, tested = (dataset.examples(run, name).batch(BATCH).as_numpy_iterator() for name in ("train", split))
    nearest = nearest_image.answers(train, tested, control, crop=run.recipe.model.crop)
    errors["nearest image"] = _errors(nearest - answers.truth)
    follows = np.flatnonzero([drive == other for drive, other in zip(answers.drives[1:], answers.drives, strict=False)])
    if len(follows):
        errors[f"last true {control}"] = _errors(answers.truth[follows] - answers.truth[follows + 1])
    return errors


def loop(run: Run, steerer: model.Steerer, folder: Path) -> list[dict[str, Any]]:
    """Let the network drive; beside it who never turns the wheel. Draws the roads, returns a row for each."""
    recipe = run.recipe
    settings = recipe.evaluate.loop
    tracks = closed_loop.roads(recipe.seed, settings.roads, settings.steps, forks=recipe.forks)
    driven = closed_loop.drive(closed_loop.steered_by(steerer, recipe.data), tracks, settings.steps)
    straight = closed_loop.drive(lambda views, routes: np.zeros(len(views)), tracks, settings.steps)
    plots.loops(driven, folder / "loop.png")
    return [
        {
            "seed": path.road.seed,
            "steps": path.steps,
            "of": settings.steps,
            "distance": path.distance,
            "offset": float(np.abs(path.offsets).mean()),
            "straight": other.distance,
        }
        for path, other in zip(driven, straight, strict=True)
    ]


def failed_requirements(settings: Evaluate, report: dict[str, Any]) -> list[str]:
    """The requirements of the recipe that the model does not meet."""
    failures = requirement.failed_requirements(settings, report)
    of_throttle = [name for name in settings.beat if name == "mean throttle"]
    of_angle = [name for name in settings.beat if name not in of_throttle]
    failures += nearest_image.failed(of_angle, report["baselines"], report["mae"])
    if of_throttle:
        failures += nearest_image.failed(of_throttle, report["throttle"]["baselines"], report["throttle_mae"])
    return failures


def say(run: Run, report: dict[str, Any]) -> None:
    """The figures, for people."""
    for control, figures in parts(report).items():
        _say_control(run, control, figures, report["split"])
    for row in report.get("loop", ()):
        run.console.print(
            f"          closed loop, road {row['seed']}: [bold]{row['steps']}[/] of {row['of']} steps in the lane, "
            f"{row['distance']:,.0f} m, on average {row['offset']:.2f} m off its middle; "
            f"[dim]without steering {row['straight']:,.0f} m[/]"
        )
    if "forks" in report:
        run.console.print(f"          {forks.told(report['forks'])}")


def parts(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of each control: those of the angle are the report itself."""
    return {"angle": report, **({"throttle": report["throttle"]} if "throttle" in report else {})}


def _say_control(run: Run, control: str, figures: dict[str, Any], split: str) -> None:
    low, high = figures["mae_interval"]
    least, most = figures["coverage_interval"]
    run.console.print(
        f"          {split}: mean absolute error of the {control} [bold]{figures['mae']:.4f}[/] of "
        f"{'full lock' if control == 'angle' else 'full speed'} (95 % interval {low:.4f} to {high:.4f}, "
        f"{figures['frames']:,} frames), root mean square {figures['rmse']:.4f}, negative log-likelihood "
        f"{figures['nll']:.3f}"
    )
    run.console.print(
        f"          the interval of {figures['interval']:.0%} holds [bold]{figures['coverage']:.1%}[/] ({least:.1%} to "
        f"{most:.1%}) of the true {control}s and is {figures['width']:.3f} wide; calibration error "
        f"{figures['calibration_error']:.3f}"
    )
    for name, row in figures["baselines"].items():
        told = ", ".join(f"{key} {value:.4f}" for key, value in row.items())
        run.console.print(f"          [dim]{name:<15} {told}[/]")


def draw(
    run: Run, folder: Path, controls: Mapping[str, Predictions], report: dict[str, Any], steerer: model.Steerer
) -> None:
    """The strip, the course of the angles, the calibration, the worst frames, and where the network looks."""
    count, answers = run.recipe.evaluate.shown, controls["angle"]
    error = np.abs(answers.predicted - answers.truth)
    evenly = np.linspace(0, len(error) - 1, min(count, len(error))).astype(int)
    worst = np.argsort(-error, kind="stable")[:count]
    images = _images(run, report["split"], {*evenly.tolist(), *worst.tolist()})
    caption = "orange: predicted, with its interval; white: true"
    for name, rows, heading in (
        ("strip", evenly, f"{len(evenly)} frames in the order of time: {caption}"),
        ("worst", worst, f"The {len(worst)} worst frames: {caption}"),
    ):
        pictures = [_drawn(images[row], answers, row) for row in rows.tolist()]
        titles = [_title(controls, row) for row in rows]
        image_grid.contact_sheet(pictures, titles, folder / f"{name}.png", columns=4, size=2.6, heading=heading)
    for control, figures in parts(report).items():
        plots.course(controls[control], folder / f"{control}s.png", interval=report["interval"], control=control)
        plots.calibration(figures, folder / ("calibration.png" if control == "angle" else f"{control}_calibration.png"))
    if not run.recipe.evaluate.insight or run.recipe.data.route:
        return
    sample = [images[row]["image"] for row in evenly.tolist()]
    heat = visualization.visual_backprop(steerer.model, np.stack(sample))
    heat_pictures = [overlays.paint_heat_map(image, heat_map) for image, heat_map in zip(sample, heat, strict=True)]
    titles = [f"{answers.predicted[row]:+.2f}" for row in evenly]
    heading = "Where the network looks (VisualBackProp), and its predicted angle"
    image_grid.contact_sheet(heat_pictures, titles, folder / "saliency.png", columns=4, size=2.6, heading=heading)


def _title(controls: Mapping[str, Predictions], row: int) -> str:
    """What is said and true of a frame, the throttle below the angle."""
    names = {"angle": "", "throttle": "throttle "}
    return "\n".join(
        f"{names[name]}{own.predicted[row]:+.2f}, true {own.truth[row]:+.2f}" for name, own in controls.items()
    )


def _inside(answers: Predictions, level: float) -> Array:
    inside: Array = np.abs(answers.below - 0.5) <= level / 2
    return inside


def _errors(error: Array) -> dict[str, float]:
    return {"mae": float(np.abs(error).mean()), "rmse": float(np.sqrt((error**2).mean()))}


def _images(run: Run, split: str, rows: set[int]) -> dict[int, dict[str, Array]]:
    """Some examples of a split."""
    examples = enumerate(dataset.examples(run, split).take(max(rows) + 1).as_numpy_iterator())
    return {row: example for row, example in examples if row in rows}


def _drawn(example: Mapping[str, Array], answers: Predictions, row: int) -> Array:
    span = (float(answers.low[row]), float(answers.high[row]))
    predicted, truth = float(answers.predicted[row]), float(answers.truth[row])
    frame = annotate.draw_steering(example["image"], angle=predicted, interval=span, truth=truth)
    return annotate.beside(frame, example["route"]) if "route" in example else frame
