"""Monte Carlo dropout of a classifier: what the mean of many thinned networks is worth beside the whole network.

The mathematics, and the papers, are in `cnn_keras.ops.monte_carlo_dropout`.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.metrics import classification, uncertainty
from cnn_keras.ops import monte_carlo_dropout
from pipelines.engine.classification import ensemble_gain
from pipelines.engine.classification.classification_report import log_loss_of
from pipelines.engine.classification.ensemble_gain import Array
from pipelines.export import savedmodel

FILE = "dropout_samples.csv"


def exported_answer(recipe: Any) -> savedmodel.Answer:
    """What answers in the exported graph: the whole network, or the mean of thinned ones."""
    if not recipe.export.dropout_samples:
        return savedmodel.probabilities
    return partial(monte_carlo_dropout.probabilities, count=recipe.evaluate.dropout_samples)


def exported_samples(recipe: Any) -> savedmodel.Samples | None:
    """What the exported graph says of the spread of thinned networks; None where the whole network answers."""
    if not recipe.export.dropout_samples:
        return None
    return partial(monte_carlo_dropout.sampled, count=recipe.evaluate.dropout_samples)


def looks(recipe: Any) -> int:
    """How often the exported graph asks the network about each example."""
    return recipe.evaluate.dropout_samples if recipe.export.dropout_samples else 1


def measure(
    model: keras.Model,
    count: int,
    answers: Callable[[Callable[[Any], Array]], Array],
    *,
    single: Array,
    labels: Array,
    names: Sequence[str],
    ids: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """The part `dropout_samples` of a report, and the file with the answers to each example.

    Args:
        count: of thinned networks.
        answers: asks a function of a batch about the whole split, (N, …).
        single: the probabilities of the whole network, (N, classes).
        labels: (N,).
    """

    def sampled(batch: Any) -> Any:
        own = monte_carlo_dropout.sampled(model, batch, count=count)
        return tf.concat([own.probabilities, own.mutual_information[:, None]], axis=1)

    together = answers(inference.predictor(model, sampled, looks=count))
    mean, information = together[:, :-1], together[:, -1]
    right = {"single": single.argmax(axis=1) == labels, "mean": mean.argmax(axis=1) == labels}
    unsure = {"confidence": 1 - mean.max(axis=1), "entropy": uncertainty.entropy(mean), "information": information}
    answer = partial(monte_carlo_dropout.probabilities, model, count=count)
    cost = ensemble_gain.cost(model, ensemble_gain.Combined(model, answer, model.input.shape, count))
    durable.write_text(folder / FILE, _csv(ids, labels, mean, names, unsure))
    return {
        "count": count,
        **ensemble_gain.gain(right["single"], right["mean"]),
        "log_loss": log_loss_of(labels, mean),
        "calibration_error": classification.expected_calibration_error(mean, labels),
        "error_auc": {
            "single": _area(1 - single.max(axis=1), ~right["single"]),
            **{name: _area(values, ~right["mean"]) for name, values in unsure.items()},
        },
        "seconds": cost["seconds"],
    }


def line(report: Mapping[str, Any]) -> str:
    """What a report says of it, for people."""
    part = report["dropout_samples"]
    points, low, high = (100 * value for value in (part["gain"], *part["gain_interval"]))
    areas = {name: "–" if area is None else f"{area:.4f}" for name, area in part["error_auc"].items()}
    return (
        f"{part['count']} samples with dropout: accuracy {part['accuracy']:.2%} ({points:+.2f} points, 95 % interval "
        f"{low:+.2f} to {high:+.2f}), calibration error {report['calibration_error']:.4f} → "
        f"{part['calibration_error']:.4f}, log loss {report['log_loss']:.4f} → {part['log_loss']:.4f}; wrong answers "
        f"are found with an area under the ROC of {areas['single']} → {areas['confidence']} by the confidence, "
        f"{areas['entropy']} by the entropy and {areas['information']} by the mutual information; "
        f"{part['seconds'][1] / part['seconds'][0]:.2g} × the time"
    )


def metrics(part: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of this part of the report as metrics."""
    return {f"test_dropout_{key}": part[key] for key in ("accuracy", "gain", "log_loss", "calibration_error")}


def _area(values: Array, wrong: Array) -> float | None:
    """How often a wrong answer is the more unsure one of it and a right one; None where there are no such pairs."""
    return float(roc_auc_score(wrong, values)) if 0 < wrong.sum() < len(wrong) else None


def _csv(ids: Iterable[str], labels: Array, mean: Array, names: Sequence[str], unsure: Mapping[str, Array]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "truth", "prediction", "confidence", "entropy", "mutual_information"])
    columns = (unsure["entropy"], unsure["information"])
    for name, label, row, *measures in zip(ids, labels, mean, *columns, strict=True):
        figures = (f"{value:.6f}" for value in (row.max(), *measures))
        writer.writerow([name, names[label], names[row.argmax()], *figures])
    return out.getvalue()
