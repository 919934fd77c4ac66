"""Export: the SavedModel of a network that steers, the proof that it agrees, its card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files, value_records
from pipelines.engine import reference_statistics
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.steer import dataset, forks
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.steer import report as steer_report
from pipelines.tasks.steer.config import Recipe
from pipelines.tasks.steer.model import Steerer

COMPARED = 32  # pictures on which the exported model must agree
WARMUP = 2  # requests recorded beside it
ENDS = {"low": "", "high": ""}  # of an interval
TAKES = (
    "Images are encoded JPEG or PNG of any size, of a camera mounted like that of the recordings; angles are shares of "
    "full lock, −1 for full left to 1 for full right, throttles of full speed. An EXIF orientation is not applied by "
    "the graph."
)
ROUTES = (
    " Beside each image it is given `route`, float32 (32, 32, 1): the map from above, the car's heading upwards and "
    "the car in the middle, 8 rows above the lower edge, 1.5 m a pixel; 1 on the route, 0.5 on other branches, else 0."
)


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, an angle and its interval out; prove that it agrees."""
    recipe, data = run.recipe, run.facts("prepare")
    settings = recipe.export
    name, split = settings.name or recipe.name, image_dataset.test_split(data)
    version = savedmodel.next_version(run.folder / "export" / name)
    saved, steerer = folder / name / str(version), steer_model.steerer(run)
    savedmodel.write(saved, served(run))
    encoded = value_records.encoded_images(run.finished("prepare"), split, COMPARED, dataset.example(run))
    batch = next(iter(dataset.examples(run, split).batch(COMPARED)))
    more = {name: batch[name].numpy() for name in dataset.inputs(recipe.data)}
    requests = {"image_bytes": np.array(encoded, object), **more}
    answer_settings = {"interval": settings.interval, "tolerance": settings.tolerance}
    agreement = compare(steerer, saved, steer_model.seen(batch), requests, **answer_settings)
    warmup = [{name: values[[row]] for name, values in requests.items()} for row in range(min(WARMUP, len(encoded)))]
    savedmodel.record_requests(saved, {"serving_default": ("image_bytes", warmup)})
    reference_statistics.export(run, saved)
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    write_card(saved / "card.md", steerer.model, recipe=recipe, data=data, report=report, agreement=agreement)
    run.console.print(
        f"          {name} version {version}: angles differ by at most {agreement['difference']:.1e} on "
        f"{agreement['images']} images"
    )
    facts = {"name": name, "version": version, "agreement": agreement}
    if more:
        facts["inputs"] = ["image_bytes", *more]
    if settings.register_model:
        facts["register"] = {
            "name": name,
            "folder": f"export/{name}/{version}",
            "metrics": run.facts("evaluate")["metrics"],
            "requirement": f"test_mae <= {recipe.evaluate.at_most.get('mae', 2.0)}",  # no error is larger than 2
        }
    return facts


def served(run: Run) -> savedmodel.Signatures:
    """What the exported model answers: what `Steerer.answer` does, and `interval` (batch,)."""
    steerer, interval = steer_model.steerer(run), run.recipe.export.interval

    inputs = dataset.inputs(run.recipe.data)

    def answer(images: Any, sizes: Any, *more: Any) -> dict[str, Any]:
        answer = steerer.answer(steer_model.seen({"image": images, **dict(zip(inputs, more, strict=True))}), interval)
        return {**answer, "interval": tf.fill(tf.shape(answer["angle"]), tf.constant(interval))}

    others = [tf.TensorSpec((None, *shape), tf.float32, name=name) for name, shape in inputs.items()]
    return savedmodel.picture_signatures(shape=image_dataset.shape_of(run.recipe.data), answer=answer, others=others)


def compare(
    steerer: Steerer, folder: Path, images: Any, requests: Mapping[str, Any], *, interval: float, tolerance: float
) -> Any:
    """Ask the trained and the exported model about the same pictures; raise a Fault if they disagree."""
    exported, size = tf.saved_model.load(str(folder)), inference.batch_limit(steerer.model)
    actual = savedmodel.call_signature(exported, "serving_default", size, **requests)
    expected = inference.predictor(steerer.model, lambda images: steerer.answer(images, interval))(images)
    names = [name for control in steerer.scales for name in (control, *steer_model.named(control, ENDS))]
    difference = max(float(np.abs(expected[name] - actual[name]).max()) for name in names)
    if not difference <= tolerance:
        raise Fault(
            f"the exported model must agree with the trained one to export.tolerance {tolerance}, got a largest "
            f"difference of {difference:.2e} on {len(requests['image_bytes'])} pictures",
            code=Fault.GATE,
        )
    return {"difference": difference, "images": len(requests["image_bytes"])}


def write_card(
    path: Path, model: keras.Model, *, recipe: Recipe, data: dict[str, Any], report: dict[str, Any], agreement: Any
) -> None:
    """The card of a network that steers."""
    metric_lines = [
        f"On the last {report['frames']:,} frames ({report['split']} split), angles in shares of full lock"
        f"{', throttles of full speed' if 'throttle' in report else ''}. The exported model differs from the trained "
        f"one by at most {agreement['difference']:.1e} on {agreement['images']} images.",
        "",
    ]
    for control, figures in steer_report.parts(report).items():
        metric_lines += _figures(control, figures)
    if loop := report.get("loop"):
        loop_text = ", ".join(f"{row['steps']} of {row['of']}" for row in loop)
        metric_lines += [
            f"In a closed loop on roads of other seeds it stayed in its lane for {loop_text} steps of a metre.",
        ]
    if "forks" in report:
        metric_lines.append(forks.told(report["forks"]))
    takes = TAKES + (ROUTES if recipe.data.route else "")
    what = (
        f"`{recipe.model.builder}` with the head `{recipe.head.kind}`, {model.count_params():,} parameters, on "
        f"`{data['source']}`."
    )
    savedmodel.write_card(path, model, recipe=recipe, data=data, what=what, metrics=metric_lines, takes=takes)


def _figures(control: str, figures: dict[str, Any]) -> list[str]:
    """What a card says of a control."""
    low, high = figures["mae_interval"]
    return [
        f"{control.capitalize()}: mean absolute error **{figures['mae']:.4f}** (95 % interval {low:.4f} to "
        f"{high:.4f}), root mean square {figures['rmse']:.4f}, negative log-likelihood "
        f"{figures['nll']:.3f} nats. The interval of {figures['interval']:.0%} holds "
        f"{figures['coverage']:.1%} of the true {control}s.",
        "",
        "| on the same frames | mean absolute error | root mean square |",
        "|---|---|---|",
        *(f"| {name} | {row['mae']:.4f} | {row['rmse']:.4f} |" for name, row in figures["baselines"].items()),
        "",
    ]
