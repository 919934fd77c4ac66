"""What the probabilities of images with any number of labels are worth: average precision, F1, thresholds, intervals.

Every function takes `probabilities`, real [N, C] in [0, 1], and `truth`, bool [N, C]: which labels each example has.
Precision and F1 of a class that is neither there nor answered are 0 by convention; means over classes leave out those
that no example has.
"""

from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

Array = np.ndarray[Any, np.dtype[Any]]

DRAWS = 1000  # of the bootstrap
NUMBERS = 2**22  # that a part of it holds at once


class F1(NamedTuple):
    """Harmonic means of precision and recall, in [0, 1]."""

    micro: Any  # over all pairs of an example and a class
    macro: Any  # the mean over the classes that are there


def average_precisions(probabilities: Array, truth: Array) -> Array:
    """The mean precision at the examples that have each label, float64 [C]; NaN for one that none has.

    Precision at an example is that of all whose probability is at least its own.
    """
    return np.array(
        [
            average_precision_score(had, scores) if had.any() else np.nan
            for had, scores in zip(truth.T, probabilities.T, strict=True)
        ]
    )


def best_thresholds(probabilities: Array, truth: Array) -> Array:
    """For each class the threshold of the largest F1, float64 [C]: halfway to the next probability below.

    Of equals it is the one nearest ½; that of a label that no example has, or all have, is ½.
    """
    thresholds = np.full(truth.shape[1], 0.5)
    for number, (had, scores) in enumerate(zip(truth.T, probabilities.T, strict=True)):
        if not had.any() or had.all():
            continue
        precision, recall, levels = precision_recall_curve(had, scores)
        precision, recall = precision[:-1], recall[:-1]  # the last point has no threshold
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        between = (levels + np.concatenate([[0.0], levels[:-1]])) / 2
        best = between[f1 >= f1.max() - 1e-12]
        thresholds[number] = best[np.argmin(np.abs(best - 0.5))]
    return thresholds


def f1(answers: Array, truth: Array, weights: Array | None = None) -> F1:
    """The F1 of answers, bool [N, C], by how often each example counts: [N] or, of several counts at once, [B, N]."""
    weights = np.ones(len(truth)) if weights is None else np.asarray(weights, np.float64)
    right, answered, had = (weights @ values.astype(np.float64) for values in (answers & truth, answers, truth))
    sums = answered + had
    each = np.divide(2 * right, sums, out=np.zeros_like(right), where=sums > 0)
    there = had > 0
    macro = np.where(there, each, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    micro = 2 * right.sum(axis=-1) / np.maximum(sums.sum(axis=-1), 1e-12)
    return F1(micro, macro)


def intervals(
    probabilities: Array, truth: Array, thresholds: Array, *, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Intervals by the bootstrap over examples (Efron's percentiles, `DRAWS` draws).

    Returns:
        Of `mean_average_precision`; of `micro_f1` and `macro_f1` at the thresholds, [C]; and of `micro_f1_gain` and
        `macro_f1_gain`, what these are more than at ½, on the same draws.
    """
    generator, total = np.random.default_rng(seed), len(truth)
    answers, plain = probabilities >= thresholds, probabilities >= 0.5
    figures: dict[str, list[Array]] = {}
    step = max(1, NUMBERS // total)
    for start in range(0, DRAWS, step):
        count = min(step, DRAWS - start)
        weights = generator.multinomial(total, np.full(total, 1 / total), size=count).astype(np.float64)
        chosen, halves = f1(answers, truth, weights), f1(plain, truth, weights)
        drawn = {
            "mean_average_precision": _mean_average_precisions(probabilities, truth, weights),
            "micro_f1": chosen.micro,
            "macro_f1": chosen.macro,
            "micro_f1_gain": chosen.micro - halves.micro,
            "macro_f1_gain": chosen.macro - halves.macro,
        }
        for name, values in drawn.items():
            figures.setdefault(name, []).append(values)
    tail = (1 - confidence) / 2
    quantiles = {name: np.quantile(np.concatenate(values), [tail, 1 - tail]) for name, values in figures.items()}
    return {name: (float(low), float(high)) for name, (low, high) in quantiles.items()}


def average_precision_gain(
    first: Array, second: Array, truth: Array, *, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """What the second probabilities have more of mean average precision than the first, of the same examples.

    Returns:
        `gain`, and `gain_interval` by the paired bootstrap: both are measured on the same draws of examples.
    """
    generator, total, drawn = np.random.default_rng(seed), len(truth), []
    step = max(1, NUMBERS // total)
    for start in range(0, DRAWS, step):
        count = min(step, DRAWS - start)
        weights = generator.multinomial(total, np.full(total, 1 / total), size=count).astype(np.float64)
        before, after = (_mean_average_precisions(values, truth, weights) for values in (first, second))
        drawn.append(after - before)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    means = [float(np.nanmean(average_precisions(values, truth))) for values in (first, second)]
    return {"gain": means[1] - means[0], "gain_interval": [float(low), float(high)]}


def _mean_average_precisions(probabilities: Array, truth: Array, weights: Array) -> Array:
    """The mean average precision when each example counts as often as `weights`, [B, N], say: [B]."""
    total, there = np.zeros(len(weights)), np.zeros(len(weights))
    for had, scores in zip(truth.T, probabilities.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        last = np.flatnonzero(np.diff(scores[order], append=-1.0))  # of those with one probability
        ends = last[np.searchsorted(last, np.arange(len(order)))]
        positive = weights[:, order] * had[order]
        right, all_ = positive.cumsum(axis=1)[:, ends], weights[:, order].cumsum(axis=1)[:, ends]
        count = positive.sum(axis=1)
        precision = np.divide(right, all_, out=np.zeros_like(right), where=all_ > 0)
        total += np.divide((positive * precision).sum(axis=1), count, out=np.zeros_like(count), where=count > 0)
        there += count > 0
    return total / np.maximum(there, 1)
