"""Stages: skipped when fresh, run with the reason when not, published whole or not at all, by one command at a time."""

import json
import types

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.engine import stages


class Silent:
    """A tracker that nobody listens to."""

    def __getattr__(self, name):
        return lambda *arguments, **keywords: 0


class Task:
    """Four verbs that count how often they are called and write one file each."""

    __name__ = "pipelines.tasks.classify"  # whose code a stage depends on

    def __init__(self):
        self.calls = []
        self.code = "sha256:1"
        self.libraries = {}
        self.failed = []
        self.killed = False

    def depends(self, stage, recipe):
        return {"code": self.code} | self.libraries if stage == "train" else {}

    def check(self, recipe):
        self.calls.append("check")

    def prepare(self, run, folder):
        self.calls.append("prepare")
        (folder / "data.json").write_text("{}")
        return {"digest": "d", "source": "s", "location": "l"}

    def train(self, run, folder, extend_to=None):
        self.calls.append("train" if extend_to is None else f"train to {extend_to}")
        state = folder / run_files.STATE
        if self.killed == "before the first epoch is over":
            raise KeyboardInterrupt
        epochs = int(state.read_text()) if state.exists() else 0
        state.write_text(str(epochs + 1))
        if self.killed:
            raise KeyboardInterrupt
        return {"digest": f"w{epochs + 1}", "epochs": epochs + 1}

    def evaluate(self, run, folder):
        self.calls.append("evaluate")
        (folder / "report.json").write_text("{}")
        return {"metrics": {"test_accuracy": 0.5}, "failed": self.failed}

    def export(self, run, folder):
        self.calls.append("export")
        version = 1 + len(list((run.folder / "export" / "m").glob("*")))
        (folder / "m" / str(version)).mkdir(parents=True)
        (folder / "m" / str(version) / "saved_model.pb").write_text("")
        return {"name": "m", "version": version}


@pytest.fixture
def task():
    return Task()


@pytest.fixture
def opened(tmp_path, task, monkeypatch):
    """A function that opens the run as a new command would, with settings changed."""
    monkeypatch.setattr("pipelines.tracking.tracker.Tracker", lambda *arguments, **keywords: Silent())

    def open_run(*overrides):
        recipe = recipes.load("classify/digits-lenet5", overrides)
        run = stages.Run(recipe, Console(quiet=True), tmp_path)
        run.task = task
        return run

    return open_run


def test_a_second_run_skips_every_stage(opened, task):
    stages.run_stages(opened(), "export")
    assert task.calls == ["check", "prepare", "train", "evaluate", "export"]
    task.calls.clear()
    stages.run_stages(opened(), "export")
    assert task.calls == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=7", ["check", "train"]),
        ("evaluate.worst=3", ["check", "evaluate"]),
        ("export.tolerance=1e-3", ["check", "export"]),
        ("data.size=[40, 40]", ["check", "prepare"]),  # the same digest: what follows still stands
    ],
)
def test_a_changed_setting_runs_what_depends_on_it(opened, task, override, expected):
    stages.run_stages(opened(), "export")
    task.calls.clear()
    stages.run_stages(opened(override), "export")
    assert task.calls == expected


def test_changed_weights_run_what_stands_on_them(opened, task):
    stages.run_stages(opened(), "export")
    task.calls.clear()
    stages.run_stages(opened(), "export", extend=2)
    assert task.calls == ["check", "train to 3", "evaluate", "export"]
    assert sorted(path.name for path in (opened().folder / "export" / "m").iterdir()) == ["1", "2"]


def test_a_missing_output_is_made_again(opened, task):
    stages.run_stages(opened(), "prepare")
    (opened().folder / "prepare" / "data.json").unlink()
    task.calls.clear()
    stages.run_stages(opened(), "prepare")
    assert task.calls == ["check", "prepare"]


def test_the_reason_names_the_setting_and_both_values(opened, tmp_path):
    run = opened()
    stages.run_stages(run, "train")
    changed = opened("train.epochs=7")
    reason = stages.stale(run.folder / "train", changed.inputs(stages.STAGES["train"]))
    assert reason == "changed: train.epochs 60 → 7"


def test_force_runs_a_fresh_stage(opened, task):
    stages.run_stages(opened(), "train")
    task.calls.clear()
    stages.run_stages(opened(), "train", force=["train"])
    assert task.calls == ["check", "train"]


def test_an_interrupted_training_goes_on_where_it_was(opened, task):
    task.killed = True
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(opened(), "train")
    task.killed = False
    assert stages.run_stages(opened(), "train")["epochs"] == 2


def test_an_interrupted_training_refuses_other_settings_and_names_them(opened, task):
    task.killed = True
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(opened(), "train")
    with pytest.raises(Fault, match=r"train.epochs 60 → 7.*--force"):
        stages.run_stages(opened("train.epochs=7"), "train")
    task.killed = False
    assert stages.run_stages(opened("train.epochs=7"), "train", force=["train"])["epochs"] == 1


def test_another_version_of_a_library_trains_anew_but_stops_neither_resuming_nor_extending(opened, task):
    task.killed, task.libraries = True, {"library.peer": "2.21.0"}
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(opened(), "train")
    task.killed, task.libraries = False, {"library.peer": "2.21.1"}
    assert stages.run_stages(opened(), "train")["epochs"] == 2
    task.libraries = {"library.peer": "2.21.2"}
    assert stages.run_stages(opened(), "train", extend=1)["epochs"] == 3
    task.libraries = {"library.peer": "2.21.3"}
    assert stages.run_stages(opened(), "train")["epochs"] == 1


def test_other_code_stops_resuming(opened, task):
    task.killed = True
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(opened(), "train")
    task.code = "sha256:2"
    with pytest.raises(Fault, match=r"other settings: code.*--force"):
        stages.run_stages(opened(), "train")


def test_only_keeps_the_stages_before_whatever_has_changed(opened, task):
    stages.run_stages(opened(), "train")
    task.calls.clear()
    task.code = "sha256:2"
    stages.run_stages(opened(), "evaluate", only=True)
    assert task.calls == ["check", "evaluate"]
    stages.run_stages(opened(), "export", only=True)
    assert task.calls == ["check", "evaluate", "check", "export"]
    stages.run_stages(opened(), "train")
    assert task.calls[4:] == ["check", "train"]


def test_only_needs_the_stages_before(opened):
    stages.run_stages(opened(), "prepare")
    with pytest.raises(Fault, match="train must be run first"):
        stages.run_stages(opened(), "evaluate", only=True)


def test_a_training_that_was_stopped_before_its_first_epoch_was_over_starts_again_under_other_settings(opened, task):
    task.killed = "before the first epoch is over"
    with pytest.raises(KeyboardInterrupt):
        stages.run_stages(opened(), "train")
    task.killed = False
    assert stages.run_stages(opened("train.epochs=7"), "train")["epochs"] == 1


def test_extending_needs_a_finished_training_of_the_same_settings(opened):
    with pytest.raises(Fault, match="--extend requires"):
        stages.run_stages(opened(), "train", extend=2)


def test_a_failed_requirement_stops_the_pipeline_with_its_own_code_every_time(opened, task):
    task.failed = ["accuracy must be at least 0.9, got 0.5"]
    for _ in range(2):
        with pytest.raises(Fault, match=r"at least 0\.9") as fault:
            stages.run_stages(opened(), "export")
        assert fault.value.code == Fault.GATE
    assert task.calls.count("evaluate") == 1
    assert "export" not in task.calls


def test_a_half_written_stage_is_never_published(opened, task, monkeypatch):
    def broken(run, folder):
        (folder / "half").write_text("")
        raise RuntimeError("killed")

    monkeypatch.setattr(task, "prepare", broken)
    with pytest.raises(RuntimeError):
        stages.run_stages(opened(), "prepare")
    assert not (opened().folder / "prepare").exists()


def test_a_kill_between_the_manifest_and_the_rename_loses_nothing(opened, task):
    stages.run_stages(opened(), "prepare")
    folder = opened().folder
    (folder / "prepare").rename(folder / ".prepare.partial")
    task.calls.clear()
    stages.run_stages(opened(), "prepare")
    assert task.calls == []
    assert (folder / "prepare" / "data.json").is_file()


def test_a_manifest_says_what_went_in_and_came_out(opened):
    run = opened()
    stages.run_stages(run, "train")
    manifest = json.loads((run.folder / "train" / "manifest.json").read_text())
    assert manifest["inputs"]["train.epochs"] == 60
    assert manifest["outputs"][run_files.STATE] == run_files.file_digest(run.folder / "train" / run_files.STATE)
    assert manifest["versions"]["keras"]
    assert manifest["seed"] == 0


def test_a_run_is_used_by_one_command_at_a_time(opened):
    run = opened()
    with stages.locked(run.folder), pytest.raises(Fault, match="in use by another command"):
        stages.run_stages(opened(), "prepare")


def test_a_stage_not_run_yet_is_named_with_its_command(opened):
    with pytest.raises(Fault, match="cnn prepare RECIPE"):
        opened().finished("prepare")


def test_the_task_of_a_recipe_is_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.tracking.tracker.Tracker", lambda *arguments, **keywords: Silent())
    run = stages.Run(recipes.load("classify/digits-lenet5"), Console(quiet=True), tmp_path)
    assert isinstance(run.task, types.ModuleType)
    assert {"Recipe", "prepare", "train", "evaluate", "export"} <= vars(run.task).keys()


def test_code_that_changed_is_told_by_its_files_and_briefly():
    old = {"code": "sha256:1", "train.epochs": 4}
    assert stages.differences(old, old | {"code": "sha256:2"}) == ["code"]
    many = {f"code.{name}.py": "sha256:2" for name in "abcde"}
    assert stages.differences(old, {"train.epochs": 5, **many}) == [
        "the code of a.py, b.py, c.py and 2 more files",
        "train.epochs 4 → 5",
    ]


def test_the_setting_that_chose_other_code_is_named_and_not_its_files():
    old = {"code.lenet.py": "sha256:1", "code.trainer.py": "sha256:1", "model.builder": "lenet.lenet5"}
    new = {"code.small.py": "sha256:2", "code.trainer.py": "sha256:1", "model.builder": "small.py:net"}
    assert stages.differences(old, new) == ["model.builder lenet.lenet5 → small.py:net"]
    edited = new | {"code.trainer.py": "sha256:2"}
    assert stages.differences(old, edited) == [
        "the code of trainer.py",
        "model.builder lenet.lenet5 → small.py:net",
    ]
    assert stages.differences(new, new | {"code.parts.py": "sha256:3"}) == ["the code of parts.py"]


@pytest.mark.parametrize("task", recipes.built_in())
def test_every_section_of_a_recipe_is_an_input_of_some_stage(task):
    read = {section for stage in stages.STAGES.values() for section in stage.sections}
    assert recipes.schema_of(task).model_fields.keys() - {"task", "name", "tune"} <= read
