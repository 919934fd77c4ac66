"""Calibrated probabilities of a classifier: `evaluate` fits a temperature and a rejection, `export` applies them.

Both rest on the validation split, which chose the epoch and so looks a little better than strangers do; what they are
worth is measured on the test split.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cnn_keras.metrics import calibration, classification
from pipelines.data import run_files
from pipelines.engine.classification import classification_report, classifier
from pipelines.engine.stages import Run

Array = np.ndarray[Any, np.dtype[Any]]


def measure(validation: tuple[Array, Array], test: tuple[Array, Array], *, error: float | None) -> dict[str, Any]:
    """The part `calibrated` of a report: the temperature, and what it makes of the test split.

    Args:
        validation: probabilities (N, classes) and labels (N,) that the temperature is fitted on.
        test: those it is measured on.
        error: the share of wrong answers that a rejection is to keep, if there is to be one.
    """
    temperature = calibration.temperature(*validation)
    fitted, probabilities = (calibration.scaled(split[0], temperature) for split in (validation, test))
    labels = test[1]
    report: dict[str, Any] = {
        "temperature": temperature,
        "examples": len(validation[1]),
        "log_loss": classification_report.log_loss_of(labels, probabilities),
        "calibration_error": classification.expected_calibration_error(probabilities, labels),
    }
    if error is not None:
        report["rejection"] = _rejection(fitted, validation[1], probabilities, labels, error)
    return report


def _rejection(fitted: Array, known: Array, probabilities: Array, labels: Array, error: float) -> dict[str, Any]:
    """From which confidence answers are given, and how many of the test split's are and are wrong."""
    found = calibration.rejection(fitted.max(axis=1), fitted.argmax(axis=1) == known, error)
    if found is None:
        return {"error": error, "threshold": None}
    given = probabilities.max(axis=1) >= found.threshold
    wrong = int((probabilities.argmax(axis=1) != labels)[given].sum())
    return {
        "error": error,
        "threshold": found.threshold,
        "bound": found.bound,
        "answered": float(given.mean()),
        "wrong": wrong / max(1, int(given.sum())),
        "wrong_interval": list(classification.wilson_interval(wrong, max(1, int(given.sum())))),
    }


def lines(log_loss: float, report: Mapping[str, Any]) -> list[str]:
    """What the part `calibrated` of a report says, in words, beside the log loss before."""
    said = []
    if report["temperature"] != 1:
        said.append(
            f"calibrated by a temperature of {report['temperature']:.3f}: calibration error "
            f"{report['calibration_error']:.3f}, log loss {log_loss:.4f} → {report['log_loss']:.4f}"
        )
    if "rejection" in report:
        said.append(_rejection_line(report["rejection"], report["examples"]))
    return said


def _rejection_line(rejection: Mapping[str, Any], examples: int) -> str:
    if rejection["threshold"] is None:
        return (
            f"no confidence shows an error of at most {rejection['error']:.2%} on {examples:,} examples of the "
            "validation split: every answer is accepted"
        )
    low, high = rejection["wrong_interval"]
    return (
        f"answers of a confidence of {rejection['threshold']:.4f} or more are accepted, {rejection['answered']:.2%} of "
        f"the test split's: {rejection['wrong']:.2%} of them are wrong ({low:.2%} to {high:.2%}), of at most "
        f"{rejection['error']:.2%}"
    )


def load_calibrated(run: Run) -> keras.Model:
    """The model that the stage train wrote, its logits divided by the temperature that evaluate fitted."""
    model = classifier.load_trained(run)
    temperature = _fitted(run).get("temperature", 1.0)
    if temperature == 1.0:
        return model
    logits = keras.layers.Rescaling(1 / temperature, dtype="float32", name="temperature")(model.output)
    return keras.Model(model.input, logits, name=model.name)


def acceptance_threshold(run: Run) -> float | None:
    """The confidence from which answers are accepted, calibrated; None where every answer is."""
    rejection = _fitted(run).get("rejection")
    return rejection and rejection["threshold"]


def _fitted(run: Run) -> Mapping[str, Any]:
    report = run_files.read_json(run.finished("evaluate") / "report.json")
    fitted: Mapping[str, Any] = report.get("calibrated", {})
    return fitted
