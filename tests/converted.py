"""What a run of any task must hold after `cnn export --format`."""

import importlib.util
import json
from pathlib import Path

import pytest

from pipelines.export.runtimes import FORMATS
from tests.conftest import cnn


def need(*names):
    """Skip the test where a package is missing that writes or runs one of these formats."""
    for name in names or FORMATS:
        for package in (*FORMATS[name].writes, *FORMATS[name].runs):
            if not importlib.util.find_spec(package):
                pytest.skip(f"{package} is not installed")


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
