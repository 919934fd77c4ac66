"""The formats of a run side by side."""

import json

import pytest

from cnn_keras.errors import Fault
from pipelines.analysis import format_benchmark
from pipelines.export import runtimes
from tests.converted import need


def test_a_run_without_other_formats_is_a_fault(tmp_path):
    with pytest.raises(Fault):
        format_benchmark.measure(tmp_path)


@pytest.mark.slow
def test_every_format_has_a_row_with_its_figures_or_with_what_is_missing(exported, capfd, monkeypatch):
    need("onnx")
    assert exported.cnn("export", exported.recipe, "--format", "onnx") == 0
    capfd.readouterr()
    assert exported.cnn("bench", "export", "classify/small", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert len(rows) == 1 + sum(len(kind.precisions) for kind in runtimes.FORMATS.values())
    measured = {row["format"]: row for row in rows if "problem" not in row}
    assert set(measured) == {"savedmodel", "onnx"}
    for row in measured.values():
        assert row["bytes"] > 10_000
        for batch in (row["batch_1"], row["batch_8"]):
            assert 0 < batch["p50_ms"] <= batch["p99_ms"]
    assert measured["onnx"]["value"] == pytest.approx(measured["savedmodel"]["value"], abs=1e-6)
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    folder = exported.run / "formats" / "onnx-float32"
    assert "problem" in format_benchmark._converted(folder, runtimes.describe(folder))
