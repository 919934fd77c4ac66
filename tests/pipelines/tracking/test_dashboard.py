"""The dashboard, MLflow's own server, in a process of its own: what it shows, whom it answers, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cnn_keras.errors import Fault
from pipelines.tracking import tracker as tracking_tracker
from pipelines.tracking.dashboard import dashboard
from pipelines.tracking.store import artifacts
from pipelines.tracking.tracker import promote
from tests.tracked import artifacts_of, run_of, tell_a_model, tell_a_pipeline, tracker

pytest_plugins = ["tests.live_store"]


@pytest.fixture(scope="module")
def server(database, tmp_path_factory):
    """The dashboard on that store, in a process of its own; yields the process and its address."""
    code = (
        "from pipelines.tracking import dashboard as d; d.dashboard(port=0, say=lambda text: print(text, flush=True))"
    )
    environment = os.environ | {"MLFLOW_TRACKING_URI": database, "PYTHONPATH": str(Path(__file__).parents[3])}
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
    with tracking_tracker.reachable(address) as client:
        run = run_of(client, tmp_path)
        assert run.data.params["train.epochs"] == "2"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        assert artifacts_of(client, run, "evaluate") == ["evaluate/confusion.png"]
    assert list(artifacts(database).rglob(f"{run.info.run_id}/**/confusion.png"))


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


def test_a_taken_port_is_the_users_to_mend(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Fault, match=f"--host and --port must be free to bind, got 127.0.0.1:{port}"):
            dashboard(port=port)


def test_of_a_server_there_is_only_the_address_to_say(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@tracking:5000")
    said = []
    dashboard(say=said.append)
    assert said == ["MLFLOW_TRACKING_URI names a server; open http://tracking:5000"]
