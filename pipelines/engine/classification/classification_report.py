"""The numbers that `evaluate` writes about a classifier, as plain JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, precision_recall_fscore_support

from cnn_keras.metrics import classification

Array = np.ndarray[Any, np.dtype[Any]]

TOP = 5  # the k of top-k, told for more than twice as many classes: below that it is hardly a feat


def classification_report(labels: Array, probabilities: Array, class_names: Sequence[str]) -> dict[str, Any]:
    """Measure the answers to one split.

    `labels` are integers [N] in [0, C), `probabilities` real [N, C] rows that sum to 1, `class_names` the C
    names. Shares lie in [0, 1]; `log_loss` is in nats. The macro numbers are means over the classes that have
    examples: a class without any has no recall to average. Of a class never predicted the precision is 0. Of two
    classes the second is the positive one, whose probability ranks: `auc` and `average_precision`, with intervals. Of
    3 to 10 classes each is ranked against the rest: `macro_auc`, bootstrapped, and `one_vs_rest`.

    Raises ValueError when the three do not fit together.
    """
    probabilities = np.asarray(probabilities, np.float64)
    accuracy = classification.top_accuracy(probabilities, labels)
    if len(class_names) != probabilities.shape[1]:
        raise ValueError(
            f"class_names must have one name for each of {probabilities.shape[1]} columns of probabilities, "
            f"got {len(class_names)}"
        )
    classes = _per_class(labels, probabilities.argmax(axis=1), class_names)
    report = {
        "examples": len(labels),
        "accuracy": accuracy,
        "accuracy_interval": list(classification.wilson_interval(round(accuracy * len(labels)), len(labels))),
        "log_loss": log_loss_of(labels, probabilities),
        "calibration_error": classification.expected_calibration_error(probabilities, labels),
        "classes": classes,
    }
    if len(class_names) > 2 * TOP:
        report[f"top_{TOP}_accuracy"] = classification.top_accuracy(probabilities, labels, TOP)
    for name in ("precision", "recall", "f1"):
        report[f"macro_{name}"] = float(np.mean([row[name] for row in classes if row["support"]]))
    if len(class_names) == 2 and all(row["support"] for row in classes):
        report |= _ranked(classification.ranking(probabilities, labels), class_names[1])
    if 2 < len(class_names) <= 2 * TOP:
        report |= _one_vs_rest(labels, probabilities, class_names)
    return report


def _ranked(ranking: classification.Ranking, positive: str) -> dict[str, Any]:
    """What two classes have besides: how well the probability of the second one ranks."""
    area, precision = ranking.area, ranking.average_precision
    return {
        "positive": positive,
        "auc": area,
        "auc_interval": list(classification.area_interval(area, ranking.counts)),
        "average_precision": precision,
        "average_precision_interval": list(classification.proportion_interval(precision, ranking.counts[1])),
    }


def _one_vs_rest(labels: Array, probabilities: Array, class_names: Sequence[str]) -> dict[str, Any]:
    """What few classes have besides: how well the probability of each ranks its own examples before all others."""
    rankings = classification.one_vs_rest(probabilities, labels)
    if not rankings:
        return {}
    rows = [
        {
            "name": class_names[number],
            "auc": ranking.area,
            "auc_interval": list(classification.area_interval(ranking.area, ranking.counts)),
        }
        for number, ranking in rankings.items()
    ]
    return {
        "macro_auc": float(np.mean([row["auc"] for row in rows])),
        "macro_auc_interval": list(classification.macro_area_interval(probabilities, labels)),
        "one_vs_rest": rows,
    }


def _per_class(labels: Array, answers: Array, class_names: Sequence[str]) -> list[dict[str, Any]]:
    columns = precision_recall_fscore_support(labels, answers, labels=range(len(class_names)), zero_division=0)
    return [
        {"name": name, "precision": float(p), "recall": float(r), "f1": float(f), "support": int(support)}
        for name, p, r, f, support in zip(class_names, *columns, strict=True)
    ]


def log_loss_of(labels: Array, probabilities: Array) -> float:
    """The mean of −log of the probability of the truth, in nats: of labels (N,) and probabilities (N, classes)."""
    sums = probabilities.sum(axis=1, keepdims=True)  # rounded softmax: 1 only to a few digits
    return float(log_loss(labels, probabilities / sums, labels=range(probabilities.shape[1])))
