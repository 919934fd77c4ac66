"""Figures against each other and against what they must reach; what is no number is never good."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def best(values: Sequence[float | None], *, lowest: bool) -> int | None:
    """The place of the best value, the first of equals; None if there is none. What is no number is never the best."""
    known = {place: value for place, value in enumerate(values) if value is not None and math.isfinite(value)}
    return min(known, key=lambda place: known[place] if lowest else -known[place], default=None)


def failed_requirements(
    settings: Any, report: Mapping[str, Any], *, missing: Mapping[str, str] | None = None
) -> list[str]:
    """What a report does not meet of `require` and `at_most` of the section `evaluate`.

    Args:
        missing: why a metric is not in the report, by its name.
    """
    demands = [("require", "least", 1, *row) for row in settings.require.items()]
    demands += [("at_most", "most", -1, *row) for row in settings.at_most.items()]
    failures = []
    for key, word, sign, metric, bound in demands:
        value = report.get(metric)
        if value is None or not sign * value >= sign * bound:
            reason = (missing or {}).get(metric)
            got = f"{value:.4f}" if value is not None else f"nothing: {reason}" if reason else "nothing"
            failures.append(f"evaluate.{key}: {metric} must be at {word} {bound:g}, got {got}")
    return failures


def reaches(value: float | None, least: float) -> bool:
    """Whether a figure is there and at least so much; what is no number never is."""
    return value is not None and value >= least
