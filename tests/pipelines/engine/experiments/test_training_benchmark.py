"""`cnn bench train`: a row for each precision and batch size, and nothing of the run changed."""

import io
import json

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.experiments import training_benchmark as benchmark

SPEED = {"images_per_second": 100.0, "cpu_ms": 20.0, "waiting": 0.25, "input_cpu_ms": 5.0, "memory": 2**30, "loss": 2.0}


def opened(exported, *settings):
    return stages.Run(recipes.load(str(exported.recipe), settings), Console(quiet=True), exported.root / "runs")


def test_batch_sizes_are_half_once_and_twice_the_recipes():
    assert benchmark.batch_sizes("classify/digits-lenet5", (), 32) == [16, 32, 64]


def test_a_batch_size_that_the_recipe_cannot_have_is_left_out():
    recipe = recipes.load("verify/orl-triplet")
    sizes = benchmark.batch_sizes("verify/orl-triplet", (), recipe.train.batch_size)
    assert recipe.train.batch_size in sizes
    assert all(size % recipe.train.each == 0 for size in sizes)


def test_the_table_has_a_row_for_each_measurement_and_says_what_failed():
    told = io.StringIO()
    rows = [
        {"precision": "float32", "batch_size": 16, **SPEED},
        {"precision": "bfloat16", "batch_size": 16, **SPEED, "images_per_second": 1234.5},
        {"precision": "bfloat16", "batch_size": 32, "failed": "out of memory"},
    ]
    benchmark.show(rows, Console(file=told, width=120))
    *_, first, second, third, last = told.getvalue().splitlines()
    assert first.split()[:5] == ["float32", "16", "100.0", "20.00", "25%"]
    assert second.split()[-2:] == ["1,024", "MB"]
    assert "out of memory" in third
    assert "bfloat16 at batch 16" in last


def test_cached_features_and_pictures_that_are_painted_are_refused(exported):
    for reference, settings in (
        ("classify/stamps-transfer", ["train.transfer.mode=cached"]),
        ("stylize/astronaut-starry_night", []),
    ):
        run = stages.Run(recipes.load(reference, settings), Console(quiet=True), exported.root / "other")
        with pytest.raises(Fault):
            benchmark.measure(run, reference, settings, wanted=[("float32", 8)])


def test_a_batch_size_of_ones_own_that_the_recipe_cannot_have_is_refused(exported):
    run = opened(exported)
    with pytest.raises(Fault):
        benchmark.measure(run, str(exported.recipe), [], wanted=[("float32", 8), ("float8", 8)])


@pytest.mark.slow
def test_a_process_for_each_row_measures_a_training_and_leaves_the_run_alone(exported, capsys):
    before = {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()}
    arguments = ("--batch-size", 8, "--seconds", 0.2, "--json")
    assert exported.cnn("bench", "train", exported.recipe, *arguments) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["precision"], row["batch_size"]) for row in rows] == [("float32", 8), ("bfloat16", 8)]
    for row in rows:
        assert row["images_per_second"] > 0
        assert row["input_cpu_ms"] > 0
        assert 0 <= row["waiting"] <= 1
        assert row["memory"] > 2**27  # TensorFlow alone takes more
        assert row["loss"] > 0
    assert {path: path.stat().st_mtime_ns for path in exported.run.rglob("*") if path.is_file()} == before
