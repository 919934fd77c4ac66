"""`cnn drift`: alarms at other pictures, and none at those of the same kind."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.analysis.drift import compare
from pipelines.engine import recipe as recipes
from pipelines.engine import reference_statistics, stages
from pipelines.engine.answer_statistics import OF
from pipelines.engine.reference_statistics import Measured
from tests import tiny_tasks
from tests.conftest import cnn

DRIFTED = Fault.GATE


@pytest.fixture
def copied(exported, tmp_path):
    """Every picture that the run was made of, in a folder without labels."""
    for number, path in enumerate(sorted(exported.photos.rglob("*.png"))):
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / f"{number}.png").write_bytes(path.read_bytes())
    return tmp_path / "new"


def change(folder, function):
    for path in folder.glob("*.png"):
        function(Image.open(path)).save(path)


def found(exported, folder, capsys, *more):
    code = exported.cnn("drift", exported.recipe, folder, "--json", *more)
    return code, json.loads(capsys.readouterr().out)


def test_pictures_of_the_same_kind_raise_no_alarm(exported, copied, capsys):
    code, result = found(exported, copied, capsys, "--check")
    splits = json.loads((exported.run / "prepare" / "data.json").read_text())["splits"]
    assert (code, result["drift"]) == (0, False)
    assert (result["pictures"], result["reference"]) == (120, splits["validation"] + splits["test"])
    names = ["width", "height", "brightness", "contrast", "sharpness", "confidence", "classes", "features"]
    assert list(result["quantities"]) == names
    assert all(row["limit"] == pytest.approx(0.05 / 8) for row in result["quantities"].values())


def test_blurred_pictures_raise_one_by_their_sharpness(exported, copied, capsys):
    change(copied, lambda image: image.filter(ImageFilter.GaussianBlur(1.5)))
    code, result = found(exported, copied, capsys, "--check")
    assert code == DRIFTED
    assert result["quantities"]["sharpness"]["drift"]
    assert not result["quantities"]["width"]["drift"]
    assert exported.cnn("drift", exported.recipe, copied) == 0
    assert "drift:" in capsys.readouterr().out


def test_another_camera_is_told_by_its_size(exported, copied, capsys):
    change(copied, lambda image: image.resize((30, 24)))
    quantities = found(exported, copied, capsys)[1]["quantities"]
    assert quantities["width"]["drift"]
    assert (quantities["width"]["reference"], quantities["width"]["new"]) == (24, 30)
    assert not quantities["height"]["drift"]


def test_the_reference_is_measured_once_and_again_when_it_is_damaged(exported, copied, capsys):
    exported.cnn("drift", exported.recipe, copied)
    capsys.readouterr()
    exported.cnn("drift", exported.recipe, copied)
    assert "measuring" not in capsys.readouterr().out
    path = exported.run / "reference.json"
    kept = path.read_bytes()
    path.write_bytes(kept[:100])
    assert exported.cnn("drift", exported.recipe, copied) == 0
    assert json.loads(path.read_bytes()) == json.loads(kept)


def test_what_cannot_be_read_is_told_and_too_few_pictures_are_refused(exported, copied, capsys):
    (copied / "broken.png").write_bytes(b"no image")
    assert list(found(exported, copied, capsys)[1]["unreadable"]) == [str(copied / "broken.png")]
    for path in sorted(copied.glob("*.png"))[:-10]:
        path.unlink()
    assert exported.cnn("drift", exported.recipe, copied) == Fault.DATA
    assert exported.cnn("drift", exported.recipe, copied / "none") == Fault.INPUT
    assert exported.cnn("drift", exported.recipe, copied, "--false-alarm", "1.5") == Fault.INPUT
    assert cnn("drift", "classify/none", copied) == Fault.INPUT


def test_the_false_alarm_rate_is_shared_by_the_quantities():
    generator = np.random.default_rng(0)

    def drawn():
        return Measured(60, {name: generator.normal(size=60).tolist() for name in "abcd"}, [], None)

    alarms = sum(compare(drawn(), drawn(), false_alarm=0.2)["drift"] for _ in range(200))
    assert 10 <= alarms <= 57  # of 200, at most 20 %: a binomial has fewer or more in 0.1 % of cases


ANSWERS = {
    "detect": {"objects", "score"},
    "localize": {"objects", "score"},
    "regress": {"value"},
    "segment": {"confidence", "share"},
    "steer": {"angle"},
    "verify": set(),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", ANSWERS)
def test_every_task_of_pictures_has_a_reference(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_tasks.write(task, tmp_path)
    run = stages.Run(recipes.load(str(recipe), ["train.epochs=1"]), Console(quiet=True))
    stages.run_stages(run, "train")
    reference_statistics.check(run)
    measured = reference_statistics.reference(run)
    splits = run.facts("prepare")["splits"]
    assert measured.count == splits["validation"] + splits["test"]
    fewer = {"box_side"} & measured.quantities.keys()  # of pictures in which something is found
    assert all(np.isfinite(values).all() for values in measured.quantities.values())
    assert {len(measured.quantities[name]) for name in measured.quantities.keys() - fewer} == {measured.count}
    assert ANSWERS[task] <= {name.partition(OF)[0] for name in measured.quantities}
    assert len(measured.answers) == (measured.count if task in ("detect", "localize") else 0)
    bounds = reference_statistics.summary(measured, run)["histograms"]
    assert bounds.keys() == measured.quantities.keys()
    assert np.isfinite(measured.features).all()
    assert not compare(measured, measured)["drift"]


@pytest.mark.parametrize("task", ["signals", "volumes"])
def test_runs_of_no_pictures_are_refused(task, tmp_path):
    run = stages.Run(recipes.load(str(tiny_tasks.write(task, tmp_path))), Console(quiet=True), tmp_path / "runs")
    with pytest.raises(Fault, match=f"of pictures, got one of the task {task}"):
        reference_statistics.check(run)
