"""What every task's training can do: be measured without being done, be given a learning rate."""

import csv
import json

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.experiments import cross_validation, dry_run, lr_finder, tuning
from pipelines.engine.training import step_timing, task_training
from tests import tiny_tasks
from tests.pipelines.tasks.stylize.test_stylize_task import write_pictures


def opened(task, folder, *overrides):
    folder.mkdir(exist_ok=True)
    return stages.Run(
        recipes.load(str(tiny_tasks.write(task, folder)), overrides), Console(quiet=True), folder / "runs"
    )


def test_every_task_is_tried():
    assert sorted(tiny_tasks.WRITERS) == recipes.built_in()


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=() if task in ("classify", "signals") else pytest.mark.slow)
        for task in tiny_tasks.WRITERS
    ],
)
def test_a_dry_run_tells_size_and_time_and_keeps_nothing(task, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "SECONDS", 0.0)
    monkeypatch.setitem(step_timing.steps.__kwdefaults__, "seconds", 0.0)
    run = opened(task, tmp_path)
    found = dry_run.measure(run)
    assert 0 < found["trained"] <= found["parameters"]
    assert found["multiply_adds"] > 0
    assert all(size > 0 for size in found["bytes"].values())
    assert found["images"] * found["epochs"] / found["images_per_second"] < found["seconds"] < 3600
    assert {path.name for path in run.folder.iterdir() if not path.name.startswith(".")} == {"prepare"}


@pytest.mark.slow
@pytest.mark.parametrize("task", tiny_tasks.WRITERS)
def test_a_learning_rate_is_suggested_and_the_run_left_alone(task, tmp_path):
    run = opened(task, tmp_path)
    stages.run_stages(run, "prepare")
    with stages.prepared(run):
        climb = lr_finder.find(run, low=1e-6, high=1e-2, steps=30)
    assert len(climb.rates) == 30
    assert 1e-6 <= climb.steepest <= 1e-2
    assert (run.folder / "lr" / "lr.png").is_file()
    assert not (run.folder / "train").exists()


@pytest.mark.slow
@pytest.mark.parametrize("task", tiny_tasks.WRITERS)
def test_a_search_of_two_trials_ends_with_the_best_of_them(task, tmp_path):
    space = {"train.learning_rate": [1e-4, 1e-3]}
    overrides = ["train.epochs=1", "tune=" + json.dumps({"trials": 2, "space": space})]
    run = opened(task, tmp_path, *overrides)
    found = tuning.search(str(tmp_path / f"{tiny_tasks.WRITERS[task][1]}.yaml"), run, overrides=overrides)
    assert [trial["outcome"] for trial in found["trials"]] == ["finished"] * 2
    best = recipes.load(str(run.folder / "tune" / "best.yaml"))
    assert best.train.learning_rate == found["best"]["train.learning_rate"]
    assert not (run.folder / "train").exists()


def ids_held_out(folder):
    """The ids that a fold tests."""
    with (folder / "prepare" / "split.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"] for row in csv.DictReader(file) if row["split"] == "test"}


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in tiny_tasks.WRITERS if task != "stylize"])
def test_two_folds_test_every_example_once_and_are_summarized(task, tmp_path):
    run = opened(task, tmp_path, "train.epochs=1")
    found = cross_validation.cross_validate(run, 2)
    first, second = (ids_held_out(run.folder / "folds" / task / f"fold-{number}") for number in (1, 2))
    assert first
    assert second
    assert not first & second
    assert found["metrics"]
    for one in found["metrics"].values():
        assert one["mean"] == pytest.approx(sum(one["values"]) / 2, nan_ok=True)
    assert (run.folder / "folds" / "folds.csv").is_file()
    assert not (run.folder / "train").exists()


def test_a_painting_has_nothing_to_hold_out(tmp_path):
    with pytest.raises(Fault, match="held out"):
        cross_validation.check(opened("stylize", tmp_path))
    with pytest.raises(Fault, match="fold must be null"):
        opened("stylize", tmp_path / "again", "fold={number: 1, of: 2}")


def test_a_summary_is_of_the_metrics_that_all_folds_have():
    found = cross_validation.summarize([{"accuracy": 0.5, "auc": 1.0}, {"accuracy": 1.0}])
    assert found == {"accuracy": {"mean": 0.75, "deviation": 0.5**1.5, "least": 0.5, "most": 1.0, "values": [0.5, 1.0]}}


@pytest.mark.parametrize(
    ("task", "setting", "key"),
    [("verify", "train.loss=none", "train.loss"), ("stylize", None, "train.method")],
)
def test_what_trains_nothing_by_minibatches_is_refused_with_its_key(task, setting, key, tmp_path):
    if task == "stylize":
        write_pictures(tmp_path)
        recipe = recipes.load(str(tmp_path / "picture.yaml"))
    else:
        recipe = recipes.load(str(tiny_tasks.write(task, tmp_path)), [setting])
    with pytest.raises(Fault, match=key):
        task_training.check(stages.Run(recipe, Console(quiet=True), tmp_path / "runs"))
