"""Export of classification: encoded images in, names and probabilities out."""

from pathlib import Path
from typing import Any

import keras

from pipelines.data import image_dataset
from pipelines.engine import reference_statistics
from pipelines.engine.classification import calibration, classifier_export, dropout_samples, label_kind
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.classify import multi_label_exporter
from pipelines.tasks.classify import test_time_augmentation as crops


def export(run: Run, folder: Path) -> dict[str, Any]:
    """Write the SavedModel that serves: encoded bytes in, names and probabilities out; prove that it agrees."""
    is_multi = label_kind.of(run.recipe) is label_kind.MULTI
    facts = multi_label_exporter.export(run, folder) if is_multi else _export(run, folder)
    reference_statistics.export(run, folder / facts["name"] / str(facts["version"]))
    return facts


def _export(run: Run, folder: Path) -> dict[str, Any]:
    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    split, (shape, answer, looks, takes) = image_dataset.test_split(data), crops.exported(recipe)

    def write(model: keras.Model, saved: Path) -> dict[str, Any]:
        accepted_from = calibration.acceptance_threshold(run)
        savedmodel.write_classifier(
            model,
            saved,
            shape=shape,
            names=data["classes"],
            answer=answer,
            samples=dropout_samples.exported_samples(recipe),
            accepted_from=accepted_from,
        )
        tolerance = recipe.export.tolerance
        agreement = savedmodel.compare_classifier(
            model, saved, prepared, split, shape, tolerance=tolerance, answer=answer, looks=looks
        )
        savedmodel.write_warmup(saved, prepared, split, shape)
        return agreement

    facts = classifier_export.export(run, folder, write=write, takes=takes)
    if recipe.export.crops and "register" in facts:
        facts["register"]["metrics"]["test_accuracy"] = run.facts("evaluate")["metrics"]["test_crops_accuracy"]
    return facts
