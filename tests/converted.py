"""What a run of any task must hold after `cnn export --format`."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.export.runtimes import FORMATS
from tests.conftest import cnn


def need(*names, precision="float32"):
    """Skip the test where a package is missing that writes one of these formats in a precision, or runs it."""
    for name in names or FORMATS:
        for package in missing(name, precision):
            pytest.skip(f"{package} is not installed")


def missing(name, precision="float32"):
    """The packages that are not installed of those that write a format in a precision and run it."""
    kind = FORMATS[name]
    packages = (*kind.writes, *(kind.quantizes if precision == "int8" else ()), *kind.runs)
    return [package for package in packages if not importlib.util.find_spec(package)]


def assert_converted(recipe: Path, run: Path, *, metric: str, difference: float = 1e-4) -> None:
    """Export a trained run in every format, and look at what was proved."""
    need()
    assert cnn("export", recipe, "--format", ",".join(FORMATS), "--runs", run.parents[1]) == 0
    figure = json.loads((run / "evaluate" / "report.json").read_text())[metric]
    for name in FORMATS:
        proof = json.loads((run / "formats" / f"{name}-float32" / "network.json").read_text())["proof"]
        assert proof["metric"] == metric
        assert (proof["original"], proof["value"]) == pytest.approx((figure, figure), abs=1e-4)
        low, high = proof["interval"]
        assert low - 1e-6 <= proof["value"] <= high + 1e-6  # of one block of frames the interval has no width
        assert proof["changed"] == 0 < proof["decisions"]
        assert 0 <= proof["difference"] < difference
