"""The Python door: `pipelines.run` and `pipelines.load`, and what a run can be asked."""

import doctest
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pipelines as cnn
from cnn_keras.errors import Fault
from pipelines.data.validation import progress
from pipelines.engine.startup import console_for
from pipelines.inference import finished_run, predict


@pytest.fixture
def run(exported, monkeypatch):
    monkeypatch.chdir(exported.root)
    return cnn.load("classify/small")


def test_importing_it_imports_nothing_heavy():
    code = "import pipelines, sys; print([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_its_example_is_true(exported, monkeypatch):
    monkeypatch.chdir(exported.root)
    failed, tried = doctest.testmod(cnn, optionflags=doctest.ELLIPSIS)
    assert (failed, tried) == (0, 8)


def test_it_predicts_what_the_command_line_predicts(exported, run, capsys):
    files = [exported.photos / "0" / "00.png", exported.photos / "1" / "03.png"]
    assert exported.cnn("predict", "classify/small", *files, "--json") == 0
    assert run.predict(files) == json.loads(capsys.readouterr().out)
    assert len(run.predict(str(exported.photos / "0"))) == 30


def test_arrays_and_images_are_answered_as_their_files_are(exported, run):
    path = exported.photos / "2" / "05.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
        rows = run.predict([path, image, pixels, pixels[..., None], np.stack([pixels] * 3, axis=-1)])
    assert [row["path"] for row in rows] == [str(path), None, None, None, None]
    assert all(row["classes"] == rows[0]["classes"] for row in rows)
    assert run.predict(np.stack([pixels[..., None]] * 2)) == rows[1:3]


def test_the_exported_model_is_loaded_once(exported, run, monkeypatch):
    run.predict(exported.photos / "0" / "00.png")
    monkeypatch.setattr(predict, "load", None)
    assert len(run.predict(exported.photos / "0", top=1)[0]["classes"]) == 1


def test_an_image_is_drawn_with_what_is_predicted_of_it(exported, run):
    first, second = run.draw([exported.photos / "0" / "00.png", np.zeros((40, 30), np.uint8)])
    assert first.mode == second.mode == "RGB"


class Recorder:
    """A predictor of arrays that keeps what it is asked."""

    suffixes = (".csv",)

    def __init__(self, kind):
        self.input = kind

    def shapes(self, images):
        asked = [
            source for one in finished_run._each(images, self.input) for source in finished_run._sources(one, self)
        ]
        assert all(source.dtype == np.float32 for source in asked)
        return [source.shape for source in asked]


@pytest.mark.parametrize(
    ("kind", "given", "asked"),
    [
        ("signal", (50,), [(50, 1)]),
        ("signal", (50, 2), [(50, 2)]),
        ("signal", (3, 50, 2), [(50, 2)] * 3),
        ("volume", (8, 9, 10), [(8, 9, 10, 1)]),
        ("volume", (8, 9, 10, 2), [(8, 9, 10, 2)]),
        ("volume", (3, 8, 9, 10, 2), [(8, 9, 10, 2)] * 3),
    ],
)
def test_an_array_is_what_the_model_takes(kind, given, asked):
    assert Recorder(kind).shapes(np.zeros(given)) == asked


def test_a_list_of_arrays_is_asked_about_one_by_one():
    assert Recorder("signal").shapes([np.zeros(50, np.int16), np.zeros((40, 2))]) == [(50, 1), (40, 2)]


@pytest.mark.parametrize(
    "given", [np.zeros((2, 3, 4, 5)), np.full((9, 2), np.nan), np.array(["a"]), Image.new("L", (8, 8))]
)
def test_what_is_no_signal_is_refused(given):
    with pytest.raises(Fault, match="must be signals"):
        Recorder("signal").shapes([given])


class Terminal(io.StringIO):
    """What a cell's `!` gives a command: a terminal, as far as that can tell."""

    def isatty(self):
        return True


def test_a_command_of_a_notebook_prints_line_by_line(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert console_for().is_terminal
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    console = console_for()
    with console.status("loading"), progress(console) as bar:
        bar.advance(bar.add_task("reading", total=2))
    assert sys.stdout.getvalue() == ""


def test_a_file_that_cannot_be_read_has_a_problem_and_the_others_an_answer(exported, run, tmp_path):
    (tmp_path / "broken.png").write_text("no")
    broken, whole = run.predict([tmp_path / "broken.png", exported.photos / "0" / "00.png"])
    assert broken["problem"]
    assert whole["problem"] is None


@pytest.mark.parametrize("images", [np.zeros((4, 4)), np.zeros((2, 4, 5), np.uint8), 3, [3], ["none.png"]])
def test_what_is_no_image_is_refused(run, images):
    with pytest.raises(Fault, match="must be"):
        run.predict(images)


def test_the_history_has_a_row_for_each_epoch(run):
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert {"loss", "val_loss", "val_accuracy"} <= run.history[0].keys()


def test_the_pictures_are_those_of_the_stages(run, capsys):
    run.show()
    assert str(run.folder / "train" / "curves.png") in capsys.readouterr().out.splitlines()


def test_sections_are_merged_into_the_recipe(exported, monkeypatch, tmp_path):
    from pipelines.engine import recipe as recipes

    monkeypatch.chdir(tmp_path)
    merged = recipes.load(str(exported.recipe), sections={"data": {"path": "other"}, "augment": [], "seed": 3})
    assert merged.data.path == tmp_path / "other"
    assert (merged.data.size, merged.augment, merged.seed) == ((28, 28), (), 3)
    with pytest.raises(Fault, match=r"train.epoch: unknown key; did you mean epochs\?"):
        recipes.load(str(exported.recipe), sections={"train": {"epoch": 3}})


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Fault, match="found nothing in"):
        cnn.load("classify/none", runs=tmp_path)
