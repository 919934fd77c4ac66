"""Figures against each other and against what they must reach; what is no number is never good."""

import math
from collections.abc import Sequence


def best(values: Sequence[float | None], *, lowest: bool) -> int | None:
    """The place of the best value, the first of equals; None if there is none. What is no number is never the best."""
    known = {place: value for place, value in enumerate(values) if value is not None and math.isfinite(value)}
    return min(known, key=lambda place: known[place] if lowest else -known[place], default=None)


def reaches(value: float | None, least: float) -> bool:
    """Whether a figure is there and at least so much; what is no number never is."""
    return value is not None and value >= least
