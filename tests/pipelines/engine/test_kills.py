"""Real kills and real power cuts of real trainings: MLflow has every value of `history.csv` in the end, once."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from pipelines.tracking import tracker
from pipelines.tracking.journal import Journal
from pipelines.tracking.store import create_store, sqlite_uri
from tests.conftest import RECIPE, write_digits
from tests.power import Mounted

pytestmark = pytest.mark.slow

# Kills itself before the n-th event of a kind is written: what it is about is on the disk by then. With `tell` before
# the n-th trial's value reaches the study.
CODE = """
import os, signal, sys
from pipelines.tracking.events import Recorder

kind, left = sys.argv.pop(1), int(sys.argv.pop(1))

def deadly(owner, name, matches):
    original = getattr(owner, name)

    def wrapped(*arguments, **keywords):
        global left
        left -= matches(*arguments)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, wrapped)

if kind == "tell":
    import optuna
    deadly(optuna.Study, "tell", lambda *arguments: True)
elif kind != "nothing":
    deadly(Recorder, "_append", lambda recorder, told: told == kind)
from pipelines.cli.main import main
main()
"""


class Project:
    """A recipe, its pictures and a store of its own in a folder; `place` holds what is written."""

    def __init__(self, root, place, changes=""):
        self.root, self.place = root, place
        write_digits(root / "photos", classes=2, each=12)
        self.recipe = root / "small.yaml"
        self.recipe.write_text(RECIPE.replace("batch_size: 16", f"batch_size: 16{changes}"))
        self.store = sqlite_uri(place / "mlflow.db")
        self.folder = place / "runs" / "classify" / "small"

    def command(self, *arguments, window=("nothing", 1)):
        return [sys.executable, "-c", CODE, *map(str, (*window, *arguments)), "--runs", str(self.place / "runs")]

    def environment(self):
        return {**os.environ, "MLFLOW_TRACKING_URI": self.store}

    def run(self, *arguments, window=("nothing", 1)):
        """The exit code of a command, which kills itself in the window."""
        command, environment = self.command(*arguments, window=window), self.environment()
        return subprocess.run(command, env=environment, cwd=self.root, capture_output=True, timeout=300).returncode

    def check(self, folder):
        """Compare what the store has with the history, value by value; return the MLflow run."""
        with (folder / "train" / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        with tracker.reachable(self.store) as client:
            bookmark = Journal.last(folder / "tracking").bookmark(self.store)
            run = client.get_run(bookmark["run"])
            for key in rows[0].keys() - {"epoch"}:
                told = Counter((one.step, one.value) for one in client.get_metric_history(run.info.run_id, key))
                assert told == Counter((int(row["epoch"]), float(row[key])) for row in rows), key
        assert run.info.status == "FINISHED"
        assert "train.learning_rate" in run.data.params
        return run


BEGINNING = [("start", 1), ("params", 1), ("artifact", 1), ("dataset", 1), ("mark", 1)]
EPOCHS = 26
# The first epoch is lost, then each next one: the one before is told first, with the use of the machine behind it.
TRAINING = [("metrics", 1), *[("metrics", 3)] * (EPOCHS - 1)]
RESULTS = [("metrics", 3), ("artifact", 1), ("mark", 1), ("metrics", 1), ("artifact", 9), ("mark", 2), ("model", 1)]
ENDING = [("mark", 1), ("end", 1)]


def test_forty_kills_in_the_windows_between_state_and_telling(tmp_path):
    project = Project(tmp_path, tmp_path)
    create_store(project.store)
    windows = [*BEGINNING, *TRAINING, *RESULTS, *ENDING]
    assert len(windows) == 40
    for window in windows:
        code = project.run("run", project.recipe, "--set", f"train.epochs={EPOCHS}", window=window)
        assert code == -signal.SIGKILL, window
        print(window, "killed")
    assert project.run("run", project.recipe, "--set", f"train.epochs={EPOCHS}") == 0
    run = project.check(project.folder)
    assert {"best_val_loss", "test_accuracy"} <= run.data.metrics.keys()
    with tracker.reachable(project.store) as client:
        assert len(client.search_model_versions("name = 'small'")) == 1
        assert len(client.search_runs([run.info.experiment_id])) == 1


def test_kills_of_an_ensemble_and_of_a_search(tmp_path):
    project = Project(tmp_path, tmp_path, ", ensemble: 2")
    create_store(project.store)
    for window in [("params", 2), ("params", 1), ("metrics", 1), ("params", 1), ("metrics", 3)]:
        assert project.run("train", project.recipe, "--set", "train.epochs=2", window=window) == -signal.SIGKILL, window
    assert project.run("train", project.recipe, "--set", "train.epochs=2") == 0
    for member in ("0", "1"):
        folder = project.folder / "members" / member
        (folder / "train").symlink_to(project.folder / "train" / f"member-{member}")
        project.check(folder)

    tune = ["train.epochs=2", "train.ensemble=null", "tune={trials: 2, space: {train.batch_size: [8, 16, 24]}}"]
    settings = [part for one in ["name=search", *tune] for part in ("--set", one)]
    for window in [("params", 1), ("tell", 1), ("metrics", 3), ("tell", 2)]:
        assert project.run("tune", project.recipe, *settings, window=window) == -signal.SIGKILL, window
    assert project.run("tune", project.recipe, *settings) == 0
    folder = project.place / "runs" / "classify" / "search" / "tune"
    found = json.loads((folder / "search.json").read_text())
    assert [trial["outcome"] for trial in found["trials"]] == ["finished", "finished"]
    assert all(trial["value"] is not None for trial in found["trials"])
    for number in (1, 2):
        project.check(folder / "classify" / f"trial-{number:03d}")


@pytest.mark.skipif(Mounted.missing() is not None, reason=str(Mounted.missing()))
def test_ten_power_cuts_on_a_real_file_system(tmp_path):
    disk = Mounted(tmp_path / "disk.img", tmp_path / "disk", megabytes=400)
    chance = random.Random(0)
    try:
        project = Project(tmp_path, disk.place)
        create_store(project.store)  # its making is cut in tests of its own
        for _ in range(10):
            with subprocess.Popen(
                project.command("run", project.recipe, "--set", "train.epochs=12"),
                env=project.environment(),
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                told, more = _events(project), chance.randint(1, 12)
                while process.poll() is None and _events(project) < told + more:
                    time.sleep(0.05)
                time.sleep(chance.random())
                disk.cut()
                process.kill()
            disk.close()
            disk.mount()
            assert not list(project.folder.rglob("*.damaged"))
        assert project.run("run", project.recipe, "--set", "train.epochs=12") == 0
        run = project.check(project.folder)
        assert {"best_val_loss", "test_accuracy"} <= run.data.metrics.keys()
    finally:
        disk.close()


def _events(project) -> int:
    """How many events the journals have."""
    return sum(1 for journal in Journal.all(project.folder / "tracking") for _ in journal.events())
