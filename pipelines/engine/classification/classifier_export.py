"""The export of every classifier, whatever it looks at: a version with its card, and the proof that it agrees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from pipelines.data import run_files
from pipelines.engine.classification import calibration, ensemble_gain
from pipelines.engine.classification.classifier_config import Export
from pipelines.engine.stages import Run
from pipelines.export import savedmodel


def export(
    run: Run,
    folder: Path,
    *,
    write: Callable[[keras.Model, Path], dict[str, Any]],
    noun: str = "image",
    takes: str = savedmodel.IMAGES,
    write_card: Callable[..., None] = savedmodel.write_classifier_card,
    metric: str = "accuracy",
) -> dict[str, Any]:
    """Write the SavedModel that serves, prove that it agrees, and say what to register.

    Args:
        write: writes a model into a version's folder with its warm-up requests, and returns how far it agrees.
        noun: what an example is called.
        takes: what the card says of the model's input.
        write_card: as `savedmodel.write_classifier_card`.
        metric: what registered versions are compared by.
    """
    recipe, data = run.recipe, run.facts("prepare")
    settings: Export = recipe.export
    name = settings.name or recipe.name
    model = calibration.load_calibrated(run)
    if settings.dropout_samples:
        takes += f" The graph averages its predictions for {recipe.evaluate.dropout_samples} passes with dropout."
    version = savedmodel.next_version(run.folder / "export" / name)
    saved = folder / name / str(version)
    agreement = write(model, saved)
    if (threshold := calibration.acceptance_threshold(run)) is not None:
        run_files.write_json(saved / savedmodel.REJECTION, {"accepted_from": threshold})
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    write_card(
        saved / "card.md",
        model,
        recipe=recipe,
        data=data,
        report=report,
        agreement=agreement,
        gain=ensemble_gain.gain_lines(report),
        takes=takes,
    )
    run.console.print(
        f"          {name} version {version}: largest difference {agreement['difference']:.1e}, "
        f"{agreement['changed']} changed decisions on {agreement['images']} {noun}s"
    )
    facts = {"name": name, "version": version, "classes": data["classes"], "agreement": agreement}
    if settings.register_model:
        facts["register"] = savedmodel.registration(run, name, version, metric=metric)
        if settings.dropout_samples:
            facts["register"]["metrics"]["test_accuracy"] = run.facts("evaluate")["metrics"]["test_dropout_accuracy"]
    return facts
