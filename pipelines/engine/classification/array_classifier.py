"""Classifiers of signals and volumes: what is trained, measured and exported. `noun` is "signal" or "volume"."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.data import array_dataset
from pipelines.data import image_dataset
from pipelines.data.array_dataset import Array, draw_array
from pipelines.engine import baselines, heat_maps
from pipelines.engine.classification import (
    calibration,
    classifier,
    classifier_export,
    classifier_formats,
    classifier_report,
    dropout_samples,
    ensemble,
)
from pipelines.engine.stages import Run
from pipelines.engine.training import precision_choice
from pipelines.engine.training.task_training import Training
from pipelines.export import savedmodel
from pipelines.export.formats import Convertible

PLAIN = 8  # batches that are timed without augmentation
NUMBERS = 1024  # values of one example that the baselines see


def train(run: Run, folder: Path, *, noun: str, extend_to: int | None = None) -> dict[str, Any]:
    """Find the weights; leave `model.keras` with those of the best epoch."""
    run = precision_choice.settled(run, folder)
    return ensemble.train(run, folder, training(run, noun=noun), extend_to=extend_to)


def training(run: Run, *, noun: str) -> Training:
    """What a training of the run needs."""

    recipe, prepared, data = run.recipe, run.finished("prepare"), run.facts("prepare")
    examples, validation = (
        array_dataset.read(prepared, split) for split in ("train", image_dataset.validation_split(data))
    )
    size = recipe.train.batch_size
    augment = array_dataset.augmentation([step.model_dump() for step in recipe.augment])

    def assembled() -> keras.Model:
        return classifier.assemble(recipe, data, shape=tuple(data["shape"]), dtype="float32", name=noun)

    first = array_dataset.Split(*(column[: PLAIN * size] for column in examples))

    def batches(epochs: range) -> Any:
        return array_dataset.training(
            examples, epochs=epochs, batch_size=size, seed=recipe.seed, augment=augment, share=run.share
        )

    return classifier.training(
        run,
        assembled=assembled,
        batches=batches,
        validation=array_dataset.batches(validation, size),
        plain=lambda: array_dataset.training(first, epochs=range(2**31), batch_size=size, seed=0),
        noun=noun,
    )


def evaluate(run: Run, folder: Path, *, noun: str) -> dict[str, Any]:
    """Measure the model on the test split, beside what needs no network; say which requirements failed."""

    prepared = run.finished("prepare")
    training = array_dataset.read(prepared, "train")
    test = array_dataset.read(prepared, image_dataset.test_split(run.facts("prepare")))

    def batches(split: str) -> Iterator[tuple[Array, Array, list[str]]]:
        examples = array_dataset.read(prepared, split)
        for start in range(0, len(examples.labels), 128):
            rows = slice(start, start + 128)
            yield examples.values[rows], examples.labels[rows], examples.ids[rows].tolist()

    facts = classifier_report.evaluate(
        run,
        folder,
        batches=batches,
        baselines=lambda: _baselines(training, test, noun=noun, seed=run.recipe.seed),
        pictures_of=lambda rows: [draw_array(test.values[row]) for row in rows],
        noun=noun,
    )
    if run.recipe.evaluate.insight:
        _, first = np.unique(test.labels, return_index=True)  # of each class
        examples = ((test.values[row], str(test.ids[row])) for row in sorted(first.tolist()))
        heat_maps.report(explainer(run), examples, folder, heading=f"What the answers rest on: Grad-CAM of {noun}s")
    return facts


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the answers of the run's model by heat maps."""
    data, fit = run.facts("prepare"), run.recipe.data.fit

    def frame(values: Array) -> Array:
        return np.asarray(array_dataset.resize(values[None].astype(np.float32), tuple(data["shape"][:-1]), fit=fit)[0])

    return heat_maps.classifier(classifier.load_trained(run), data["classes"], frame)


def export(run: Run, folder: Path, *, noun: str) -> dict[str, Any]:
    """Write the SavedModel that serves: floats in, names and probabilities out; prove that it agrees."""

    recipe, data = run.recipe, run.facts("prepare")
    values = array_dataset.read(run.finished("prepare"), image_dataset.test_split(data)).values
    shape, answer = tuple(data["shape"]), dropout_samples.exported_answer(recipe)

    def write(model: keras.Model, saved: Path) -> dict[str, Any]:
        names, tolerance = data["classes"], recipe.export.tolerance
        savedmodel.write_tensor_classifier(
            model,
            saved,
            tensor=noun,
            shape=shape,
            fit=recipe.data.fit,
            names=names,
            answer=answer,
            samples=dropout_samples.exported_samples(recipe),
            accepted_from=calibration.acceptance_threshold(run),
        )
        agreement = savedmodel.compare_tensor_classifier(
            model, saved, noun, values, tolerance=tolerance, answer=answer, looks=dropout_samples.looks(recipe)
        )
        requests = [value[None] for value in values[: savedmodel.WARMUP]]
        signatures = ("serving_default", "serving_ranked")
        savedmodel.record_requests(saved, dict.fromkeys(signatures, (noun, requests)))
        return agreement

    sizes = "×".join(map(str, shape))
    framing = "resampled to" if recipe.data.fit == "stretch" else "cut or filled with zeros to"
    takes = f"`{noun}` is float32 with its channels last; the graph normalises it, and any size is {framing} {sizes}."
    return classifier_export.export(run, folder, write=write, noun=noun, takes=takes)


def convertible(run: Run, *, noun: str) -> Convertible:
    """What of the classifier is written in other formats: from `noun`s of the network's shape to probabilities."""
    data = run.facts("prepare")

    def batches(split: str) -> Iterator[tuple[Array, Array]]:
        examples = array_dataset.read(run.finished("prepare"), split)
        for start in range(0, len(examples.labels), 128):
            rows = slice(start, start + 128)
            yield np.asarray(examples.values[rows], np.float32), examples.labels[rows]

    return classifier_formats.convertible(
        run,
        calibration.load_calibrated(run),
        tensor=tf.TensorSpec((None, *data["shape"]), tf.float32, name=noun),
        preprocessing={
            "kind": noun,
            "size": data["shape"][:-1],
            "channels": data["shape"][-1],
            "fit": run.recipe.data.fit,
        },
        examples=batches,
        answer=dropout_samples.exported_answer(run.recipe),
    )


def _baselines(training: Any, test: Any, *, noun: str, seed: int) -> dict[str, Any]:
    """The baselines of images, shown each example as one pixel of up to 1,024 channels of 8 bits."""

    *size, channels = training.values.shape[1:]
    most = max(1, int((NUMBERS / channels) ** (1 / len(size)) + 1e-9))
    shrunk = tuple(min(length, most) for length in size) if np.prod(size) * channels > NUMBERS else tuple(size)
    low, high = training.values.min(), training.values.max()

    def features(values: Array) -> Array:
        resized = np.asarray(array_dataset.resize(values, shrunk)) if shrunk != tuple(size) else values
        scaled = np.clip((resized - low) / max(high - low, 1e-30), 0, 1) * 255
        flat: Array = np.round(scaled).astype(np.uint8).reshape(len(values), 1, 1, -1)
        return flat

    splits = (features(training.values), training.labels, features(test.values), test.labels)
    figures = baselines.baselines(*splits, seed=seed)
    averaged = "" if shrunk == tuple(size) else f", averaged from {'×'.join(map(str, size))}"
    note = f"fitted on the {noun}s of the training split at {'×'.join(map(str, shrunk))}{averaged}, 8 bits a number"
    return {"accuracy": figures.accuracy, "note": note}
