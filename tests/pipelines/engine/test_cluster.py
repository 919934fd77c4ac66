"""A command on a Ray cluster gives what it gives without, also when a worker is killed. Ray runs on loopback alone."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnn_keras.errors import Fault
from pipelines.cli.main import main
from pipelines.data.run_files import read_json
from pipelines.engine.cluster import connection
from tests.conftest import write_digits

ROOT = Path(__file__).parents[3]
# A source whose first reader, and a network whose training, kills its process once where the environment says so.
OWN = """\
import os
import signal
from functools import partial
from pathlib import Path

import keras

from cnn_keras.data.sources import classification
from pipelines.engine.training import trainer


def die_once(mark):
    if os.environ.get("KILL") == mark and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def read(load):
    die_once("reader")
    return load()


def digits(path):
    items = classification.items("folder", path=path)
    return [item._replace(read=partial(read, item.read)) for item in items]


def small(*, input_shape, classes):
    image = keras.Input(input_shape)
    x = keras.layers.Flatten(name="flat")(keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(image))
    return keras.Model(image, keras.layers.Dense(classes, name="logits", dtype="float32")(x), name="small")


def deadly(history, folder, write=trainer.write_history):
    write(history, folder)
    if len(history) == 2:
        die_once("host")


trainer.write_history = deadly
"""
RECIPE = """\
task: classify
data: {source: ./own.py:digits, path: photos, size: [16, 16], channels: 1}
model: {builder: ./own.py:small}
train: {epochs: 3, batch_size: 25, learning_rate: 3e-3}
tune: {trials: 3, space: {train.batch_size: [10, 20, 25, 40]}}
"""
ISOLATED = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def isolates():
    """Whether a process may have a network of its own."""
    return bool(shutil.which("ip")) and subprocess.run([*ISOLATED, "true"], capture_output=True).returncode == 0


def command(*arguments):
    return [*(ISOLATED if isolates() else []), sys.executable, "-m", "pipelines", *map(str, arguments)]


def environment(folder, **variables):
    own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return {**os.environ, **own, **variables}


def cnn(folder, *arguments, **variables):
    """The exit code of a command."""
    return subprocess.run(
        command(*arguments), cwd=folder, check=False, timeout=600, env=environment(folder, **variables)
    ).returncode


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A recipe with code of its own, prepared without a cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    write_digits(folder / "photos", classes=2)
    (folder / "own.py").write_text(OWN)
    (folder / "small.yaml").write_text(RECIPE)
    return folder


def test_without_ray_the_extra_is_named(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["cnn", "prepare", "small.yaml", "--on", "ray"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == Fault.INPUT
    assert "cnn-keras[cluster]" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "nonsense"])
def test_an_address_that_does_not_answer_is_refused(address):
    pytest.importorskip("ray")
    with pytest.raises(Fault, match=address), connection.connected(address):
        pass


def test_hosts_of_a_cluster_are_not_those_of_the_environment(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["cnn", "train", "small.yaml", "--on", "ray", "--hosts", "2", "--local"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == Fault.INPUT


@pytest.mark.slow
def test_records_are_the_same_bytes_although_a_worker_was_killed(project):
    pytest.importorskip("ray")
    assert cnn(project, "prepare", "small.yaml", "--runs", "alone") == 0
    assert cnn(project, "prepare", "small.yaml", "--runs", "spread", "--on", "ray", KILL="reader") == 0
    assert (project / "reader").exists()
    alone, spread = (project / runs / "classify" / "small" / "prepare" for runs in ("alone", "spread"))
    names = {path.name for path in alone.iterdir()}
    assert names == {path.name for path in spread.iterdir()}
    written = [name for name in names if name.endswith((".tfrecord", ".csv")) or name == "data.json"]
    assert any(name.endswith(".tfrecord") for name in written)
    assert [(alone / name).read_bytes() for name in written] == [(spread / name).read_bytes() for name in written]


@pytest.mark.slow
def test_a_training_that_lost_a_host_ends_and_goes_on_when_it_is_started_again(project):
    pytest.importorskip("ray")
    train = ["train", "small.yaml", "--on", "ray", "--hosts", "2", "--runs", "hosts"]
    assert cnn(project, *train, KILL="host") == Fault.HOST
    assert not (project / "hosts" / "classify" / "small" / "train").exists()
    assert cnn(project, *train) == 0
    assert read_json(project / "hosts" / "classify" / "small" / "train" / "manifest.json")["resumed"]


@pytest.mark.slow
def test_trials_run_side_by_side_and_each_is_done_once_although_the_search_was_killed(project):
    pytest.importorskip("ray")
    tune = command("tune", "small.yaml", "--on", "ray", "--jobs", "2", "--runs", "search")
    folder = project / "search" / "classify" / "small" / "tune"
    with subprocess.Popen(tune, cwd=project, env=environment(project), start_new_session=True) as search:
        while search.poll() is None and not (
            len(list(folder.glob("classify/*"))) > 1 and list(folder.glob("classify/*/.train.partial/state.npz"))
        ):  # two have begun, and one of them is at work
            time.sleep(0.05)
        os.killpg(search.pid, signal.SIGKILL)
    assert search.returncode == -signal.SIGKILL
    assert subprocess.run(tune, cwd=project, env=environment(project), timeout=600).returncode == 0
    trials = json.loads((folder / "search.json").read_text())["trials"]
    assert [(trial["number"], trial["outcome"]) for trial in trials] == [(number, "finished") for number in (1, 2, 3)]
    assert len({trial["settings"]["train.batch_size"] for trial in trials}) == 3
    for trial in trials:
        with (folder / "classify" / f"trial-{trial['number']:03d}" / "train" / "history.csv").open() as file:
            assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


LISTENERS = """\
import psutil
from pipelines.engine.cluster import connection

with connection.connected("ray") as cluster:
    assert list(cluster.map(abs, range(-9, 0))) == list(range(9, 0, -1))
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    print(len(family), *{one.laddr.ip for each in family for one in each.net_connections("inet")})
print(*{each.name() for each in psutil.Process().children(recursive=True)})
"""


@pytest.mark.slow
def test_an_engine_of_its_own_uses_loopback_alone_and_leaves_no_process(tmp_path):
    pytest.importorskip("ray")
    told = subprocess.run(
        [sys.executable, "-c", LISTENERS],
        cwd=tmp_path,
        env=environment(tmp_path),
        check=True,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.splitlines()
    number, *addresses = told[0].split()
    assert int(number) > 3
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}
    assert told[1:] == [""]
