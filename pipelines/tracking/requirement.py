"""A requirement on a metric, as recipes and `cnn promote` state it: `test_accuracy >= 0.98`."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple, Self

from cnn_keras.errors import Fault


class Requirement(NamedTuple):
    """`metric` must lie at or beyond `bound`; the operator also says which way is better."""

    metric: str
    operator: str  # one of >=, >, <=, <
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "metric >= number"; the operator is >=, >, <= or <."""
        match = re.fullmatch(r"\s*([^<>=]*[^<>=\s])\s*(>=|>|<=|<)\s*(\S+)\s*", text)
        try:
            if match:
                return cls(match[1].strip(), match[2], float(match[3]))
        except ValueError:
            pass
        raise Fault(f"requirement must read like 'accuracy >= 0.98', got {text!r}")

    def holds(self, value: float) -> bool:
        """Whether a value of the metric meets the requirement; NaN never does."""
        return {
            ">=": value >= self.bound,
            ">": value > self.bound,
            "<=": value <= self.bound,
            "<": value < self.bound,
        }[self.operator]

    def prefers(self, value: float, other: float) -> bool:
        """Whether `value` is better than `other`; any number is better than NaN."""
        if math.isnan(other):
            return not math.isnan(value)
        return value > other if ">" in self.operator else value < other

    def figure(self, metrics: Mapping[str, float]) -> float:
        """The metric's value among `metrics`, or a Fault that lists what there is."""
        if self.metric not in metrics:
            known = ", ".join(sorted(metrics)) or "none"
            raise Fault(f"requirement must name a recorded metric, got {self.metric!r}; recorded: {known}")
        return metrics[self.metric]

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:g}"
