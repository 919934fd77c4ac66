"""`cnn evaluate RUN --on DATA`: new labelled data in the place of the test split."""

import json
import math
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.experiments import new_data
from pipelines.engine.startup import console_for
from tests import tiny_tasks
from tests.conftest import Exported, cnn


def write_new_digits(folder, *, classes=4, first=40, each=30):
    images, labels = load_digits(return_X_y=True)
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True)
        for row, image in enumerate(images[labels == label][first : first + each]):
            pixels = (image.reshape(8, 8) * 15.9).astype("uint8")
            Image.fromarray(pixels).resize((24, 24)).save(folder / str(label) / f"{row:02d}.png")


@pytest.fixture
def new(tmp_path):
    write_new_digits(tmp_path / "new digits")
    return tmp_path / "new digits"


def measured(exported: Exported, folder, capsys, *more):
    assert exported.cnn("evaluate", exported.recipe, "--on", folder, "--json", *more) == 0
    return json.loads(capsys.readouterr().out)


def test_new_data_is_measured_beside_the_test_split_which_stays_as_it_is(exported, new, capsys):
    before = (exported.run / "evaluate" / "report.json").read_bytes()
    found = measured(exported, new, capsys)
    row = found["figures"]["accuracy"]
    assert (found["examples"], found["shared"], found["problems"]) == (120, {}, {})
    report = json.loads((exported.run / "evaluate" / "report.json").read_text())
    assert row["test"] == report["accuracy"]
    assert row["difference"] == pytest.approx(row["new"] - row["test"])
    assert row["difference_interval"][0] <= row["difference"] <= row["difference_interval"][1]
    assert (exported.run / "evaluate" / "report.json").read_bytes() == before
    exported.cnn("predict", exported.run / "export" / "small", new, "--csv", new.parent / "answers.csv")
    rows = [line.split(",")[:2] for line in (new.parent / "answers.csv").read_text().splitlines()[1:]]
    right = sum(path.split("/")[-2] == answer for path, answer in rows)
    assert row["new"] == pytest.approx(right / 120)


def test_what_cannot_be_measured_is_counted_and_what_was_trained_on_is_told(exported, new, capsys):
    (new / "1" / "broken.png").write_bytes(b"no image")
    (new / "5").mkdir()
    shutil.copy(new / "0" / "00.png", new / "5" / "00.png")
    rows = (exported.run / "prepare" / "split.csv").read_text().splitlines()[1:]
    trained = [row.split(",")[0] for row in rows if ",train," in row][:3]
    for number, name in enumerate(trained):
        shutil.copy(exported.photos / name, new / name.split("/")[0] / f"copy{number}.png")
    found = measured(exported, new, capsys)
    assert found["problems"] == {"undecodable": 1, "unknown class": 1}
    assert (found["examples"], found["shared"]) == (123, {"train": 3})
    assert exported.cnn("evaluate", exported.recipe, "--on", new) == 0
    shown = capsys.readouterr().out
    assert "3 of 123 are in the run's train split" in shown
    assert "1 unknown class" in shown


@pytest.mark.parametrize("kind", ["none", "empty", "others"])
def test_data_without_an_example_of_a_known_class_is_refused(exported, tmp_path, capsys, kind):
    folder = tmp_path / "data"
    if kind != "none":
        folder.mkdir()
    if kind == "others":
        write_new_digits(tmp_path / "digits", classes=2)
        for label in "01":
            (tmp_path / "digits" / label).rename(folder / f"no {label}")
    assert exported.cnn("evaluate", exported.recipe, "--on", folder) == Fault.DATA
    assert str(folder) in capsys.readouterr().err or kind == "others"


def test_a_run_that_is_not_trained_is_refused(exported, new, tmp_path):
    assert cnn("evaluate", exported.recipe, "--on", new, "--runs", tmp_path / "runs") == 2


def test_a_network_without_its_run_is_refused(exported, new, capsys):
    saved = exported.run / "export" / "small"
    for network in (saved, saved / "1", exported.run / "train" / "model.keras"):
        assert exported.cnn("evaluate", network, "--on", new) == Fault.INPUT
        assert "network alone" in " ".join(capsys.readouterr().err.split())


def test_it_is_measured_again_only_when_the_data_changes(exported, new, capsys):
    measured(exported, new, capsys)
    assert exported.cnn("evaluate", exported.recipe, "--on", new) == 0
    assert capsys.readouterr().out.count("skipped") == 2
    Image.fromarray(np.full((24, 24), 90, np.uint8)).save(new / "2" / "grey.png")
    assert measured(exported, new, capsys)["examples"] == 121


@pytest.mark.slow
@pytest.mark.parametrize("task", [task for task in tiny_tasks.WRITERS if task not in ("stylize", "classify")])
def test_every_task_measures_its_own_data_as_its_test_split(task, tmp_path, monkeypatch):
    """Data that is all of the run's own: what was the test split is among it, with the same answers."""
    monkeypatch.chdir(tmp_path)
    recipe = tiny_tasks.write(task, tmp_path)
    overrides = ["train.epochs=1", "evaluate.require={}", "evaluate.beat=[]"]
    known = recipes.load(str(recipe))
    overrides = [
        text for text in overrides if hasattr(known.evaluate, text.split("=")[0].split(".")[1]) or "train" in text
    ]
    run = stages.Run(recipes.load(str(recipe), overrides), console_for(), tmp_path / "runs")
    stages.run_stages(run, "evaluate")
    before = stages.finished_manifest(run.folder, "evaluate")
    found = new_data.measure(f"{task}/{known.name}", known.data.path, console=console_for(), runs=tmp_path / "runs")
    splits = run.facts("prepare")["splits"]
    assert found["shared"].keys() <= splits.keys()
    assert found["shared"]["test"] >= 1
    assert all(math.isfinite(row["new"]) for row in found["figures"].values())
    assert stages.finished_manifest(run.folder, "evaluate") == before
