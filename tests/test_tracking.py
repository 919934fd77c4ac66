"""Tracking against real stores: a SQLite database, MLflow's server, and servers that are dead or hang."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cnn_keras.fault import Fault
from pipelines import registry, tracking
from pipelines.journal import Journal
from pipelines.store import create_store, sqlite_uri
from pipelines.tracking import Tracker, promote, push


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One SQLite store for the module: making it takes ten seconds."""
    store = sqlite_uri(tmp_path_factory.mktemp("project") / "mlflow/store/mlflow.db")
    create_store(store)
    return store


@pytest.fixture
def store(database, monkeypatch):
    """A client of that store, which the environment names."""
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    with tracking.reachable(database) as client:
        yield client


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """The dashboard on that store, in a process of its own; yields the process and its address."""
    code = "from pipelines.dashboard import dashboard; dashboard(port=0, say=lambda text: print(text, flush=True))"
    environment = os.environ | {"MLFLOW_TRACKING_URI": database, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path_factory.mktemp("elsewhere"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process, re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline()).group()
        process.kill()


@pytest.fixture
def dead(monkeypatch):
    """The environment names a server on a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def tracker(folder, experiment="classify"):
    return Tracker(folder, experiment=experiment, name="digits-lenet5")


def run_of(client, folder):
    """The MLflow run of the folder's last journal."""
    bookmarks = json.loads(Journal.last(folder / "tracking").path.with_suffix(".delivered.json").read_text())
    return client.get_run(bookmarks[tracking.store_uri()]["run"])


def tell_a_pipeline(tracker, folder):
    tracker.start(tags={"mlflow.source.git.commit": "0" * 40})
    tracker.params({"train": {"epochs": 2}, "seed": 0})
    tracker.dataset(name="digits", digest="sha256:" + "ab" * 32, source="scikit-learn", context="training")
    for epoch in (1, 2):
        tracker.metrics({"loss": 1 / epoch, "accuracy (top-5)": 1 - 1 / epoch}, step=epoch)
        tracker.system()
    (folder / "confusion.png").write_bytes(b"\x89PNG")
    tracker.artifact(folder / "confusion.png", folder="evaluate")


def artifacts_of(client, run, folder=None):
    return [file.path for file in client.list_artifacts(run.info.run_id, folder)]


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
    assert "gone.png is not logged: it is no longer there" in caplog.text


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
        "import os, signal, sys; from pathlib import Path; from pipelines.tracking import Tracker\n"
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


def test_a_dead_server_costs_no_time_and_what_it_missed_is_pushed(dead, tmp_path, database, monkeypatch, caplog):
    told = tracker(tmp_path / "before")
    told.start()
    started = time.monotonic()
    for epoch in range(100):
        told.metrics({"loss": 1 / (epoch + 1)}, step=epoch)
    assert time.monotonic() - started < 0.5
    assert told.finish("FINISHED") == 102
    assert caplog.text.count("the store does not take them now") == 1
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    assert push(tmp_path / "after") == (102, 0)
    assert push(tmp_path / "after") == (0, 0)
    with tracking.reachable(database) as client:
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
        assert time.monotonic() - started < 2


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


# --- The registry


def save_model(folder, bias):
    """A SavedModel that tells images by the length of their bytes."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(image_bytes):
        probabilities = tf.nn.softmax(tf.one_hot(tf.strings.length(image_bytes) % 3, 3) + bias)
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": best, "label": tf.gather(["zero", "one", "two"], best)}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": answer})


def tell_a_model(folder, name, accuracy, experiment="classify"):
    save_model(folder / "export" / name / "1", bias=[0.0, 0.5, 0.0])
    with tracker(folder, experiment) as told:
        told.model(
            folder / "export" / name / "1",
            name=name,
            metrics={"test_accuracy": accuracy, "label": float("nan")},
            requirement="test_accuracy >= 0.98",
        )


def test_a_model_is_registered_once_and_answers_like_the_saved_model(store, tmp_path):
    import mlflow
    import pandas

    tell_a_model(tmp_path, "answers", 0.99)
    Journal.last(tmp_path / "tracking").path.with_suffix(".delivered.json").unlink()
    push(tmp_path)
    (version,) = store.search_model_versions("name = 'answers'")
    assert store.get_model_version_by_alias("answers", "candidate").version == version.version
    assert {key: version.tags[key] for key in ("metric.test_accuracy", "requirement")} == {
        "metric.test_accuracy": "0.99",
        "requirement": "test_accuracy >= 0.98",
    }
    assert "metric.label" not in version.tags
    model = mlflow.pyfunc.load_model(version.source)
    assert model.metadata.signature.inputs.to_dict() == [
        {"name": "image_bytes", "type": "binary", "required": True},
    ]
    answers = model.predict(pandas.DataFrame({"image_bytes": [b"abc", b"abcd", b"ab"]}))
    assert answers["label"].tolist() == ["zero", "one", "two"]
    assert answers["class_id"].tolist() == [0, 1, 2]
    assert [pytest.approx(1.0, abs=1e-6)] * 3 == [sum(row) for row in answers["probabilities"]]


@pytest.fixture
def versions(store, request):
    """Registers versions of a model of the test's own, with an accuracy; the last one is the candidate."""
    name = request.node.name

    def register(*accuracies, requirement=None):
        for accuracy in accuracies:
            event = {"name": name, "id": str(accuracy), "requirement": requirement, "metrics": {"accuracy": accuracy}}
            run = store.create_run("0").info
            registry.register(store, run.run_id, event, lambda: store.create_logged_model(run.experiment_id))  # noqa: B023
        return name

    return register


def version_under(client, name, alias):
    """An integer from every store: the database gives it as such, the server as text."""
    return int(client.get_model_version_by_alias(name, alias).version)


def test_the_first_candidate_that_meets_the_requirement_becomes_champion(store, versions):
    name = versions(0.985)
    verdict = promote(name, requirement="accuracy >= 0.98")
    assert verdict == {"name": name, "champion": 1, "requirement": "accuracy >= 0.98", "accuracy": 0.985}
    assert version_under(store, name, "champion") == 1


def test_the_requirement_recorded_with_the_candidate_is_the_default(versions):
    name = versions(0.985, requirement="accuracy >= 0.99")
    with pytest.raises(Fault, match=r"version 1 must have accuracy >= 0\.99, got 0\.985") as refusal:
        promote(name)
    assert refusal.value.code == Fault.GATE
    assert promote(name, requirement="accuracy >= 0.9")["champion"] == 1


def test_a_better_candidate_replaces_the_champion(store, versions):
    promote(versions(0.98), requirement="accuracy > 0.9")
    name = versions(0.99)
    verdict = promote(name, requirement="accuracy > 0.9")
    assert (verdict["champion"], verdict["former champion"], verdict["former accuracy"]) == (2, 1, 0.98)
    assert version_under(store, name, "champion") == 2


def test_a_candidate_that_is_not_better_does_not_replace_the_champion(store, versions):
    promote(versions(0.99), requirement="accuracy > 0.9")
    name = versions(0.985)
    with pytest.raises(Fault, match=r"must beat the champion, version 1, in accuracy: got 0\.985 against 0\.99") as no:
        promote(name, requirement="accuracy > 0.9")
    assert no.value.code == Fault.GATE
    assert version_under(store, name, "champion") == 1


def test_promoting_the_champion_again_changes_nothing(versions):
    name = versions(0.99)
    first = promote(name, requirement="accuracy > 0.9")
    assert promote(name, requirement="accuracy > 0.9") == first


def test_an_old_event_told_late_does_not_move_the_candidate_back(store, versions):
    versions(0.97)
    name = versions(0.98)
    assert versions(0.97) == name
    assert len(store.search_model_versions(f"name = '{name}'")) == 2
    assert version_under(store, name, "candidate") == 2


def test_a_promotion_needs_a_model_a_metric_and_a_requirement(versions):
    with pytest.raises(Fault, match="NAME must be a model with a candidate, got 'nothing'"):
        promote("nothing", requirement="accuracy > 0.9")
    name = versions(0.99)
    with pytest.raises(Fault, match="--require must be given"):
        promote(name)
    with pytest.raises(Fault, match="recorded: accuracy"):
        promote(name, requirement="recall > 0.9")


# --- The server


def get(address, host=None):
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_a_server_takes_runs_models_and_pictures_into_its_own_store(server, tmp_path, monkeypatch, database):
    _, address = server
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with tracker(tmp_path, experiment="served") as told:
        tell_a_pipeline(told, tmp_path)
    tell_a_model(tmp_path, "served", 0.99, experiment="served")
    assert promote("served")["champion"] == 1
    with tracking.reachable(address) as client:
        run = run_of(client, tmp_path)
        assert run.data.params["train.epochs"] == "2"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        assert artifacts_of(client, run, "evaluate") == ["evaluate/confusion.png"]
    project = tmp_path.parent / "project0"
    assert list((project / "mlflow/store/artifacts").rglob("confusion.png"))


def test_the_dashboard_shows_pictures_of_the_local_store_wherever_it_is_started(server, store, tmp_path):
    _, address = server
    with tracker(tmp_path) as told:
        tell_a_pipeline(told, tmp_path)
    identity = run_of(store, tmp_path).info.run_id
    assert b"PNG" in get(f"{address}/get-artifact?path=evaluate/confusion.png&run_uuid={identity}")


def test_the_dashboard_answers_its_own_name_only(server):
    _, address = server
    assert get(f"{address}/version")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{address}/api/2.0/mlflow/experiments/search", host="evil.example")


def test_ctrl_c_closes_the_dashboard_and_its_server(server):
    process, address = server
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert process.stdout.read().strip() == "the dashboard is closed"
    with pytest.raises(urllib.error.URLError):
        get(f"{address}/version")
