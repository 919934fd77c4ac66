"""`--dry-run`: sizes that agree with the trained model, and nothing written."""

import csv
import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines.engine.experiments import dry_run
from pipelines.engine.training import step_timing


@pytest.fixture(scope="module")
def found(exported):
    """What is measured, once for all."""
    from pipelines.engine import recipe as recipes
    from pipelines.engine import stages

    before = {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()}
    run = stages.Run(recipes.load(str(exported.recipe)), Console(quiet=True), exported.root / "runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(step_timing.steps.__kwdefaults__, "seconds", 0.0)
        measured = dry_run.measure(run)
    assert {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()} == before
    return measured


def test_parameters_and_multiply_adds_are_those_of_the_trained_model(exported, found):
    facts = json.loads((exported.run / "train" / "manifest.json").read_text())["facts"]
    assert found["parameters"] == facts["parameters"]
    with (exported.run / "train" / "anatomy.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert found["multiply_adds"] == sum(int(row["multiply_adds"]) for row in rows)
    activations = 16 * sum(int(row["activation_bytes"]) for row in rows)
    assert found["bytes"]["activations"] >= activations  # and the input and its normalisation


def test_memory_counts_weights_gradients_and_both_moments_of_adam(found):
    trained = 4 * found["trained"]
    assert found["bytes"]["gradients"] == trained
    assert trained <= found["bytes"]["weights"] < trained + 100
    assert 2 * trained <= found["bytes"]["optimizer"] < 2 * trained + 100
    assert found["memory"] == sum(found["bytes"].values())


def test_the_time_is_that_of_all_epochs(found):
    assert found["epochs"] == 4
    assert found["images"] == 84
    assert found["seconds"] == pytest.approx(4 * found["seconds_per_epoch"], abs=0.06)
    assert found["seconds_per_epoch"] >= 84 / found["images_per_second"]
    assert 0 <= found["input_share"] <= 1


@pytest.mark.slow
def test_the_command_prepares_and_trains_nothing(exported, tmp_path, capsys):
    from tests.conftest import cnn

    assert cnn("run", exported.recipe, "--dry-run", "--runs", tmp_path) == 0
    said = capsys.readouterr().out
    for word in ("prepare", "parameters", "multiply-adds", "memory", "images/s", "4 epochs"):
        assert word in said
    folder = tmp_path / "classify" / "small"
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= {"prepare"}


@pytest.mark.parametrize(("free", "warned"), [(2**30 - 1, True), (2**30, False)])
def test_what_is_more_than_the_machine_has_free_is_told_before_a_step(free, warned, monkeypatch):
    found = {"parameters": 10, "trained": 4, "multiply_adds": 7, "batch_size": 8, "bytes": {"weights": 2**30}}
    memory = SimpleNamespace(available=free)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    told = io.StringIO()
    dry_run.show_size(found | {"memory": 2**30}, "image", Console(file=told, width=200))
    assert "10, 4 of them trained" in told.getvalue()
    assert "about 1.0 GB at batch 8: weights 1.0 GB" in told.getvalue()
    assert ("lower train.batch_size" in told.getvalue()) == warned


def test_a_duration_is_written_for_people():
    assert [dry_run._duration(seconds) for seconds in (3.21, 42, 240, 9000)] == ["3.2 s", "42 s", "4 min", "2.5 h"]
