"""What is written into the journal: names, numbers and settings that MLflow takes."""

import json
import logging
import re

import numpy as np
import pytest

from pipelines.tracking.events import Recorder, clean
from pipelines.tracking.journal import Journal


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return Recorder(tmp_path, experiment="classify", name="digits")


def told(recorder):
    return [event for _, event in Journal.last(recorder.journals).events()]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("val_accuracy", "val_accuracy"),
        ("top-5 accuracy", "top-5 accuracy"),
        ("accuracy (top-5)", "accuracy _top-5"),
        ("system/gpu_0", "system/gpu_0"),
        ("recall@10%", "recall_10"),
        ("größe", "größe"),
        ("a//b", "a/b"),
        ("../../etc", "etc"),
        ("/x/", "x"),
        ("./x", "x"),
        ("()", "_"),
        ("x" * 300, "x" * 250),
    ],
)
def test_names_are_cleaned(name, cleaned):
    assert clean(name) == cleaned


def test_names_that_would_become_one_are_told_apart(recorder):
    recorder.metrics({"ap": {"cat (a)": 0.1, "cat [a]": 0.2, "cat _a": 0.3, "dog (b)": 0.4}}, step=1)
    values = told(recorder)[-1]["values"]
    assert sorted(values.values()) == [0.1, 0.2, 0.3, 0.4]
    assert values["ap.cat _a"] == 0.3  # a name that MLflow takes is kept
    assert values["ap.dog _b"] == 0.4
    recorder.metrics({"ap": {"cat [a]": 0.6, "cat (a)": 0.5, "cat _a": 0.7, "dog (b)": 0.8}}, step=2)
    assert {key: round(value + 0.4, 1) for key, value in values.items()} == told(recorder)[-1]["values"]
    long = ["x" * 250 + end for end in "ab"]
    recorder.tags(dict.fromkeys(long, "y"))
    assert len(told(recorder)[-1]["values"]) == 2
    assert max(map(len, told(recorder)[-1]["values"])) == 250


def test_settings_are_flattened_and_written_as_the_recipe_writes_them(recorder):
    recorder.params(
        {"train": {"epochs": 3, "patience": None, "xla": False}, "data": {"split": [0.8, 0.2]}, "name": "x"}
    )
    values = told(recorder)[-1]["values"]
    assert values == {
        "train.epochs": "3",
        "train.patience": "null",
        "train.xla": "false",
        "data.split": "[0.8, 0.2]",
        "name": "x",
    }


def test_long_settings_are_cut_to_what_mlflow_holds(recorder):
    recorder.params({"classes": [f"class {number}" for number in range(1000)]})
    assert len(told(recorder)[-1]["values"]["classes"]) == 6000


def test_metrics_of_any_number_type_are_told_and_not_finite_ones_kept(recorder):
    recorder.metrics(
        {"a": np.float32(0.5), "b": 3, "c": np.array(2.0), "d": float("nan"), "e": -np.inf}, step=np.int64(7)
    )
    event = told(recorder)[-1]
    assert event["values"] == {"a": 0.5, "b": 3.0, "c": 2.0, "d": "nan", "e": "-inf"}
    assert event["step"] == 7
    journal = Journal.last(recorder.journals).path.read_text()
    assert not re.search(r"\b(NaN|Infinity)\b", journal)  # neither is JSON


def test_what_is_no_number_is_left_out_with_a_warning(recorder, caplog):
    with caplog.at_level(logging.WARNING):
        recorder.metrics({"accuracy": 0.9, "interval": [0.8, 0.95], "label": "seven"})
    assert told(recorder)[-1]["values"] == {"accuracy": 0.9}
    assert "metric interval is left out" in caplog.text
    assert "metric label is left out" in caplog.text


@pytest.mark.parametrize("call", ["params", "metrics", "tags"])
def test_empty_events_say_nothing(recorder, call):
    getattr(recorder, call)({})
    assert not recorder.journals.exists()


def test_the_first_event_begins_a_run_and_a_later_process_reopens_it(recorder, tmp_path):
    recorder.metrics({"loss": 1.0})
    Recorder(tmp_path, experiment="classify", name="digits").metrics({"loss": 0.5})
    assert [event["kind"] for event in told(recorder)] == ["start", "metrics", "resume", "metrics"]


def test_an_event_after_the_end_opens_the_run_again(recorder):
    recorder.metrics({"loss": 1.0})
    recorder.end("FAILED")
    recorder.metrics({"loss": 0.5})
    assert [event["kind"] for event in told(recorder)] == ["start", "metrics", "end", "resume", "metrics"]


def test_a_new_start_is_a_new_journal_and_the_old_one_stays(recorder):
    recorder.start()
    recorder.metrics({"loss": 1.0})
    recorder.start()
    first, second = Journal.all(recorder.journals)
    assert [event["kind"] for _, event in first.events()] == ["start", "metrics", "end"]
    assert [event["kind"] for _, event in second.events()] == ["start"]
    identities = {next(journal.events())[1]["journal"] for journal in (first, second)}
    assert len(identities) == 2


def test_paths_in_the_run_folder_are_kept_relative_to_it(recorder, tmp_path):
    recorder.artifact(tmp_path / "evaluate/confusion.png", folder="evaluate")
    recorder.artifact(tmp_path.parent / "elsewhere.png")
    inside, outside = told(recorder)[-2:]
    assert inside["path"] == "evaluate/confusion.png"
    assert outside["path"] == str(tmp_path.parent / "elsewhere.png")


def test_a_full_disk_costs_an_event_not_the_training(recorder, monkeypatch, caplog):
    def full(*args, **fields):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    recorder.start()
    assert "tracking lost an event (start)" in caplog.text


def test_every_line_is_json(recorder):
    recorder.params({"path": recorder.folder, "angle": np.float64(0.5)})
    for line in Journal.last(recorder.journals).path.read_text().splitlines():
        json.loads(line)
