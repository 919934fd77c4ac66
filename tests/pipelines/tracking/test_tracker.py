"""Tracking against real stores: a SQLite database, and servers that are dead or hang."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from cnn_keras.errors import Fault
from pipelines.tracking import tracker as tracking_tracker
from pipelines.tracking.events import Recorder
from pipelines.tracking.journal import Journal
from pipelines.tracking.tracker import promote, push
from tests.tracked import artifacts_of, run_of, tell_a_pipeline, tracker

pytest_plugins = ["tests.live_store"]


@pytest.fixture
def dead(monkeypatch):
    """The environment names a server on a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_pipeline_is_told_whole(store, tmp_path):
    with tracker(tmp_path) as told:
        tell_a_pipeline(told, tmp_path)
    run = run_of(store, tmp_path)
    assert told.close() == 0
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "digits-lenet5"
    assert store.get_experiment(run.info.experiment_id).name == "classify"
    assert run.data.params == {"train.epochs": "2", "seed": "0"}
    assert run.data.tags["mlflow.source.git.commit"] == "0" * 40
    history = store.get_metric_history(run.info.run_id, "accuracy _top-5")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.0), (2, 0.5)]
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.inputs.dataset_inputs[0].dataset.name == "digits"
    assert artifacts_of(store, run, "evaluate") == ["evaluate/confusion.png"]


def test_a_later_stage_goes_on_with_the_run(store, tmp_path):
    with tracker(tmp_path) as train:
        train.metrics({"loss": 0.5})
    first = run_of(store, tmp_path)
    with tracker(tmp_path) as evaluate:
        evaluate.metrics({"test_accuracy": 0.99})
    second = run_of(store, tmp_path)
    assert second.info.run_id == first.info.run_id
    assert second.data.metrics == {"loss": 0.5, "test_accuracy": 0.99}
    assert second.info.status == "FINISHED"
    assert second.info.end_time >= first.info.end_time


def test_a_new_start_is_a_new_run(store, tmp_path):
    with tracker(tmp_path) as told:
        told.start()
        told.metrics({"loss": 1.0})
    first = run_of(store, tmp_path)
    with tracker(tmp_path) as told:
        told.start()
        told.metrics({"loss": 0.5})
    second = run_of(store, tmp_path)
    assert second.info.run_id != first.info.run_id
    assert (first.data.metrics, second.data.metrics) == ({"loss": 1.0}, {"loss": 0.5})


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (Fault, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_how_a_run_ended_is_told(store, tmp_path, error, status):
    def train():
        with tracker(tmp_path) as told:
            told.metrics({"loss": 1.0})
            raise error("stop")

    with pytest.raises(error):
        train()
    assert run_of(store, tmp_path).info.status == status


def test_a_tracker_that_is_told_nothing_leaves_nothing(store, tmp_path):
    with tracker(tmp_path) as told:
        told.metrics({})
        told.system()
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_not_finite_are_gaps_in_the_curve(store, tmp_path):
    with tracker(tmp_path) as told:
        told.metrics({"loss": float("inf")}, step=1)
        told.metrics({"loss": 0.5}, step=2)
    history = store.get_metric_history(run_of(store, tmp_path).info.run_id, "loss")
    assert [str(metric.value) for metric in history] == ["nan", "0.5"]


def test_hundreds_of_parameters_and_metrics_fit(store, tmp_path):
    with tracker(tmp_path) as told:
        told.params({f"p{number}": number for number in range(250)})
        told.metrics({f"recall/{number}": number / 1200 for number in range(1200)})
    run = run_of(store, tmp_path)
    assert len(run.data.params) == 250
    assert len(run.data.metrics) == 1200


def test_a_parameter_that_changes_keeps_its_value_and_holds_nothing_up(store, tmp_path, caplog):
    with tracker(tmp_path) as told:
        told.params({"seed": 0})
        told.params({"seed": 1, "epochs": 3})
        told.metrics({"loss": 1.0})
    run = run_of(store, tmp_path)
    assert run.data.params == {"seed": "0", "epochs": "3"}
    assert run.data.metrics == {"loss": 1.0}
    assert "it keeps the old seed" in caplog.text


def test_an_event_that_mlflow_refuses_holds_nothing_up(store, tmp_path, caplog):
    with tracker(tmp_path) as told:
        told.start()
        told._append("tags", values={"": "a tag needs a name"})
        told._append("unreadable")
        told.metrics({"loss": 1.0})
    assert run_of(store, tmp_path).data.metrics == {"loss": 1.0}
    assert "MLflow refused tags" in caplog.text


def test_an_artifact_that_is_gone_holds_nothing_up(store, tmp_path, caplog):
    with tracker(tmp_path) as told:
        told.artifact(tmp_path / "gone.png")
        told.metrics({"loss": 1.0})
    assert run_of(store, tmp_path).data.metrics == {"loss": 1.0}
    assert "gone.png is not logged" in caplog.text


def test_a_folder_is_an_artifact_too(store, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/worst.png").write_bytes(b"\x89PNG")
    with tracker(tmp_path) as told:
        told.artifact(tmp_path / "pictures", folder="evaluate")
    assert artifacts_of(store, run_of(store, tmp_path), "evaluate/pictures") == ["evaluate/pictures/worst.png"]


def test_an_open_run_is_joined_and_its_end_left_to_whoever_opened_it(store, tmp_path, monkeypatch):
    outer = store.create_run("0", run_name="sweep")
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    with tracker(tmp_path) as told:
        told.start()
        told.metrics({"loss": 1.0})
    joined = store.get_run(outer.info.run_id)
    assert joined.data.metrics == {"loss": 1.0}
    assert joined.info.status == "RUNNING"


def test_telling_everything_twice_changes_nothing(store, tmp_path):
    with tracker(tmp_path) as told:
        tell_a_pipeline(told, tmp_path)
    run = run_of(store, tmp_path)
    Journal.last(tmp_path / "tracking").path.with_suffix(".delivered.json").unlink()
    delivered, pending = push(tmp_path)
    again = run_of(store, tmp_path)
    assert (delivered, pending) == (9, 0)
    assert again.info.run_id == run.info.run_id
    assert len(store.get_metric_history(run.info.run_id, "loss")) == 2
    assert len(again.inputs.dataset_inputs) == 1
    assert again.data.to_dictionary() == run.data.to_dictionary()


def test_a_killed_process_loses_nothing_it_told(store, tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from pipelines.tracking.tracker import Tracker\n"
        "tracker = Tracker(Path(sys.argv[1]), experiment='classify', name='killed')\n"
        "for step in range(50): tracker.metrics({'loss': 1 / (step + 1)}, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    delivered, pending = push(tmp_path)
    history = store.get_metric_history(run_of(store, tmp_path).info.run_id, "loss")
    assert delivered > 0
    assert pending == 0
    assert [metric.step for metric in history] == list(range(50))


def test_who_takes_over_a_run_tells_the_store_what_it_missed(store, tmp_path):
    untold = Recorder(tmp_path, experiment="classify", name="killed")
    untold.metrics({"loss": 0.5}, step=1)
    untold.end("FINISHED")
    with tracker(tmp_path) as heir:
        heir.adopt()
    run = run_of(store, tmp_path)
    assert run.data.metrics == {"loss": 0.5}
    assert run.info.status == "FINISHED"
    assert Journal.last(tmp_path / "tracking").pending(heir.store) == 0


def test_a_dead_server_holds_nothing_up_and_what_it_missed_is_pushed(dead, tmp_path, database, monkeypatch, caplog):
    told = tracker(tmp_path / "before")
    told.start()
    for epoch in range(100):
        told.metrics({"loss": 1 / (epoch + 1)}, step=epoch)
    assert told.finish("FINISHED") == 102
    assert caplog.text.count("tracking events are kept") == 1
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert push(tmp_path / "after") == (102, 0)
    assert push(tmp_path / "after") == (0, 0)
    with tracking_tracker.reachable(database) as client:
        run = run_of(client, tmp_path / "after")
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 100


def test_a_server_that_hangs_is_left_when_the_time_is_up(tmp_path, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        told = tracker(tmp_path)
        told.start()
        started = time.monotonic()
        told.metrics({"loss": 1.0})
        assert told.close(timeout=0.5) == 2
        assert time.monotonic() - started < 60  # MLflow itself would try for minutes


def test_pushing_to_a_dead_server_is_the_users_to_mend(dead, tmp_path):
    tracker(tmp_path).start()
    with pytest.raises(Fault, match=r"MLFLOW_TRACKING_URI must be a store that answers, got http://127"):
        push(tmp_path)
    with pytest.raises(Fault, match="MLFLOW_TRACKING_URI must be a store that answers"):
        promote("digits-lenet5", requirement="accuracy >= 0.9")


def test_pushing_what_was_never_tracked_is_refused(store, tmp_path):
    with pytest.raises(Fault, match="RUN must be the folder of a tracked run"):
        push(tmp_path)


def test_an_old_file_store_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    with pytest.raises(Fault, match="mlflow migrate-filestore"):
        tracker(tmp_path)
