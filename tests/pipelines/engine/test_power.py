"""Power cuts and kills at every moment: a run goes on from each, and MLflow is told all of it, once."""

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from cnn_keras.data.files import durable
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.tracking.events import Recorder
from pipelines.tracking.journal import Journal
from tests.power import Disk

EPOCHS = 3


class Killed(BaseException):
    """What no handler catches, as a SIGKILL."""


class Listener(Recorder):
    """A tracker whose journal nobody delivers."""

    def system(self):
        return None


class Task:
    """Stages that leave files, the training one state for each epoch."""

    __name__ = "pipelines.tasks.classify"  # whose code a stage depends on

    def depends(self, stage, recipe):
        return {}

    def check(self, recipe):
        return None

    def prepare(self, run, folder):
        (folder / "train.tfrecord").write_bytes(b"records")
        return {"digest": "d", "source": "s", "location": "l"}

    def train(self, run, folder, extend_to=None):
        state = folder / run_files.STATE
        rows = json.loads(state.read_bytes()) if state.exists() else []
        for number, row in enumerate(rows, 1):
            run.on_epoch(number, row)
        for number in range(len(rows) + 1, EPOCHS + 1):
            rows.append({"loss": 1 / number})
            durable.write_text(state, json.dumps(rows))
            run.on_epoch(number, rows[-1])
        return {"digest": "w", "epochs": EPOCHS, "metrics": {"best_loss": rows[-1]["loss"]}}

    def evaluate(self, run, folder):
        (folder / "report.json").write_text("{}")
        return {"metrics": {"test_accuracy": 0.5}, "failed": []}

    def export(self, run, folder):
        version = 1 + len(list((run.folder / "export" / "m").glob("*")))
        (folder / "m" / str(version)).mkdir(parents=True)
        (folder / "m" / str(version) / "saved_model.pb").write_bytes(b"graph")
        return {"name": "m", "version": version}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("pipelines.tracking.tracker.Tracker", Listener)
    monkeypatch.setattr(stages, "commit", lambda: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # but where a disk listens
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


RECIPE = recipes.load("classify/digits-lenet5")


def run_whole(root):
    run = stages.Run(RECIPE, Console(quiet=True), root)
    run.task = Task()
    facts = stages.run_stages(run, "export")
    return run.folder, facts


def check(folder: Path, facts) -> None:
    """Everything is there and whole, and the last journal has every event, each epoch once."""
    assert facts["name"] == "m"
    assert json.loads((folder / "train" / run_files.STATE).read_bytes()) == [
        {"loss": 1 / n} for n in range(1, EPOCHS + 1)
    ]
    assert (folder / "export" / "m" / str(facts["version"]) / "saved_model.pb").read_bytes() == b"graph"
    events = [event for _, event in Journal.last(folder / "tracking").events()]
    assert sum(event["kind"] == "params" for event in events) >= 1
    epochs = [(event["step"], event["values"]) for event in events if event["kind"] == "metrics" and event["step"]]
    assert epochs == [(number, {"loss": 1 / number}) for number in range(1, EPOCHS + 1)]
    told = [event["values"] for event in events if event["kind"] == "metrics" and not event["step"]]
    assert told == [{"best_loss": 1 / EPOCHS}, {"test_accuracy": 0.5}]


def test_a_run_goes_on_from_a_power_cut_at_any_moment_and_loses_nothing_that_was_told(tmp_path, monkeypatch):
    root = tmp_path / "runs"
    root.mkdir()
    with monkeypatch.context() as patch:
        disk = Disk(root, patch)
        run_whole(root)
    assert len(disk.moments) > 50
    for number, moment in enumerate(disk.moments):
        left = tmp_path / f"cut-{number}"
        disk.write(moment, left)
        before = told(left / "classify" / "digits-lenet5")
        folder, facts = run_whole(left)
        check(folder, facts)
        assert before == told(folder)[: len(before)]
    disk.close()


def told(folder: Path) -> list[dict]:
    """All events of all journals."""
    return [event for journal in Journal.all(folder / "tracking") for _, event in journal.events()]


def test_a_run_goes_on_from_a_kill_at_any_moment_and_tells_the_rest(tmp_path, monkeypatch):
    for moment in itertools.count(1):
        root = tmp_path / f"killed-{moment}"
        root.mkdir()
        with monkeypatch.context() as patch:
            disk = Disk(root, patch)
            left = iter(range(moment))

            def kill(left=left):
                if next(left, None) is None:
                    raise Killed

            disk.on_push = kill
            try:
                run_whole(root)
                break  # there are fewer moments
            except Killed:
                pass
            finally:
                disk.close()
        check(*run_whole(root))
    assert moment > 50


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b'{"facts": {', b"[1]"])
@pytest.mark.parametrize("stage", ["prepare", "train", "evaluate", "export"])
def test_a_damaged_manifest_is_set_aside_and_its_stage_runs_again(tmp_path, stage, content, caplog):
    folder, _ = run_whole(tmp_path)
    (folder / stage / run_files.MANIFEST).write_bytes(content)
    run_whole(tmp_path)
    assert f"{stage}/manifest.json is damaged: it was renamed to manifest.json.damaged" in caplog.text
    assert run_files.read_json(folder / stage / run_files.MANIFEST)["stage"] == stage


def test_an_output_that_was_cut_is_named_and_its_stage_runs_again(tmp_path):
    folder, _ = run_whole(tmp_path)
    (folder / "prepare" / "train.tfrecord").write_bytes(b"rec")
    run = stages.Run(RECIPE, Console(quiet=True), tmp_path)
    with pytest.raises(stages.Fault, match=r"train\.tfrecord is damaged: 3 bytes instead of 7.*cnn prepare RECIPE"):
        run.finished("prepare")
    run_whole(tmp_path)
    assert (folder / "prepare" / "train.tfrecord").read_bytes() == b"records"


def test_damaged_settings_of_an_unfinished_stage_begin_it_anew(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Task, "evaluate", lambda *arguments: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run_whole(tmp_path)
    folder = tmp_path / "classify" / "digits-lenet5"
    (folder / ".evaluate.partial" / "inputs.json").write_bytes(b"")
    check(*run_whole(tmp_path))


def test_a_resumed_training_whose_journal_is_gone_tells_settings_and_epochs(tmp_path, monkeypatch):
    def killed(run, number, row):
        if number == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stages.Run, "on_epoch", killed)
        with pytest.raises(Killed):
            run_whole(tmp_path)
    shutil.rmtree(tmp_path / "classify" / "digits-lenet5" / "tracking")
    check(*run_whole(tmp_path))


def test_a_run_that_was_told_whole_is_not_told_again(tmp_path):
    folder, _ = run_whole(tmp_path)
    before = told(folder)
    run_whole(tmp_path)
    assert told(folder) == before


def test_a_journal_whose_beginning_is_damaged_is_set_aside_and_all_of_it_told_anew(tmp_path, caplog):
    folder, _ = run_whole(tmp_path)
    journal = folder / "tracking" / "1.jsonl"
    journal.write_bytes(b"")
    run_whole(tmp_path)
    assert "1.jsonl is damaged: it was renamed to 1.jsonl.damaged" in caplog.text


def test_a_bookmark_that_is_damaged_or_behind_the_journals_end_tells_again(tmp_path):
    journal = Journal(tmp_path / "1.jsonl")
    journal.append("start")
    journal.advance("store", delivered=10_000, run="abc")
    assert journal.bookmark("store") == {"delivered": 0, "run": "abc"}
    (tmp_path / "1.delivered.json").write_bytes(b"")
    assert journal.bookmark("store") == {"delivered": 0, "run": None}
