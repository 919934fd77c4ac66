"""What looking more than once gains and costs: an ensemble beside one of its members, many crops beside one.

Both answer for the same examples, so the gain is measured pair by pair: what is easy for both, or too hard for both,
says nothing about their difference. The interval is that of other test examples; it does not know of other seeds.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.learn import model_profile

Array = np.ndarray[Any, np.dtype[Any]]

DRAWS = 10_000  # test sets that are drawn from the one there is
TIMED, TIMES = 32, 5  # examples, at most, in a call whose seconds are taken, and calls of which the median counts
PARTS = {"ensemble": ("ensemble", "the average member"), "crops": ("many crops", "the whole image")}  # of a report


class Combined(NamedTuple):
    """What answers by looking more than once."""

    model: keras.Model
    answer: Callable[[Any], Any]  # of a batch
    shape: Sequence[int | None]  # of that batch
    looks: int = 1  # of the model at each example


def gain(single: Array, combined: Array, confidence: float = 0.95) -> dict[str, Any]:
    """The accuracy gained, with its interval by the paired bootstrap (Efron's percentiles).

    Args:
        single: for each of N examples the share of single answers that are right, in [0, 1].
        combined: for each whether the combined answer is right, in {0, 1}.

    Returns:
        `single_accuracy`, `accuracy`, `gain` – their difference – and `gain_interval`, all shares.
    """
    differences = np.asarray(combined, np.float64) - np.asarray(single, np.float64)
    values, counts = np.unique(differences, return_counts=True)
    total = len(differences)
    bootstrap = np.random.default_rng(0).multinomial(total, counts / total, size=DRAWS) @ values / total
    tail = (1 - confidence) / 2
    low, high = np.quantile(bootstrap, [tail, 1 - tail])
    return {
        "single_accuracy": float(np.mean(single)),
        "accuracy": float(np.mean(combined)),
        "gain": float(differences.mean()),
        "gain_interval": [float(low), float(high)],
    }


def cost(single: keras.Model, combined: Combined) -> dict[str, Any]:
    """What the two take, as pairs: `parameters`, `multiply_adds` of one example, `seconds` of one example."""
    pair = (Combined(single, partial(single, training=False), single.input.shape), combined)
    return {
        "parameters": [each.model.count_params() for each in pair],
        "multiply_adds": [
            model_profile.totals(model_profile.rows(each.model)).multiply_adds * each.looks for each in pair
        ],
        "seconds": [_seconds(each, single.input.dtype) for each in pair],
    }


def metrics(part: str, gain: dict[str, Any]) -> dict[str, float]:
    """The numbers of a part of the report as metrics: `test_ensemble_gain`, `test_ensemble_gain_low` …"""
    numbers = {key: value for key, value in gain.items() if isinstance(value, float)}
    numbers |= dict(zip(("gain_low", "gain_high"), gain["gain_interval"], strict=True))
    return {f"test_{part}_{key}": value for key, value in numbers.items()}


def gain_lines(report: dict[str, Any]) -> list[str]:
    """Lines for people: gain and cost of each part of the report; those of several labels have no accuracy."""
    return [_line(report[part], *words) for part, words in PARTS.items() if "single_accuracy" in report.get(part, {})]


def _line(gain: dict[str, Any], combined: str, single: str) -> str:
    single += f" {gain['single_accuracy']:.2%}"
    if "centre_accuracy" in gain:
        single += f", the centre alone {gain['centre_accuracy']:.2%}"
    points, low, high = (100 * value for value in (gain["gain"], *gain["gain_interval"]))
    times = {key: pair[1] / pair[0] for key, pair in gain["cost"].items()}
    return (
        f"{combined} {gain['accuracy']:.2%}, {single}: {points:+.2f} points (95 % "
        f"interval {low:+.2f} to {high:+.2f}) for {times['parameters']:.3g} × the parameters, "
        f"{times['multiply_adds']:.3g} × the multiply-adds and {times['seconds']:.2g} × the time, "
        f"{1000 * gain['cost']['seconds'][1]:.2g} ms an example"
    )


def _seconds(each: Combined, dtype: str) -> float:
    """What one of some examples takes, compiled as when it is served: the median of some calls."""
    count: int = min(TIMED, inference.batch_limit(each.model, looks=each.looks))
    examples = tf.zeros((count, *each.shape[1:]), dtype)
    ask, durations = inference.compiled(each.answer), []
    for _ in range(TIMES + 1):  # the first one compiles
        start = time.perf_counter()
        np.asarray(ask(examples))
        durations.append(time.perf_counter() - start)
    return float(np.median(durations[1:])) / count
