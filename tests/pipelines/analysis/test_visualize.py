"""`cnn insight` on a small run: which pictures there are, of what, and what is refused."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.errors import Fault
from tests.conftest import cnn


def pixels(path):
    """A whole PNG file, RGB [H, W, 3]."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def drawn(exported, tmp_path):
    """Run the command; return the names of the pictures it wrote."""

    def draw(*arguments):
        assert exported.cnn("insight", "classify/small", "-o", tmp_path / "out", *arguments) == 0
        return {path.stem: pixels(path) for path in (tmp_path / "out").iterdir()}

    return draw


@pytest.mark.slow
def test_all_pictures_of_a_run_lie_in_its_folder(exported, capsys):
    assert exported.cnn("insight", exported.recipe) == 0
    folder = exported.run / "insight"
    wanted = ["filters", "feature_maps", "attention", "maximised-logits"]
    wanted += [f"{kind}-{layer}" for kind in ("patches", "maximised") for layer in ("c1", "c3", "c5")]
    assert sorted(path.stem for path in folder.iterdir()) == sorted(wanted)
    said = capsys.readouterr().out
    for name in wanted:
        assert min(pixels(folder / f"{name}.png").shape[:2]) > 100
        assert f"{name}.png" in said


def test_one_unit_of_one_layer(drawn):
    pictures = drawn("--layer", "c3", "--unit", "5")
    assert sorted(pictures) == ["attention", "feature_maps", "filters", "maximised-c3", "patches-c3"]
    assert pictures["patches-c3"].shape[0] < 250  # one row


@pytest.mark.slow
def test_a_layer_may_go_by_its_path_and_without_positions_has_no_patches(drawn):
    assert "patches-c1" in drawn("--layer", "lenet5_modern/c1", "--unit", "0")
    assert sorted(drawn("--layer", "f6", "--unit", "0"))[-2:] == ["maximised-f6", "patches-c1"]


@pytest.mark.slow
def test_images_of_ones_own_are_explained(exported, drawn):
    photos = sorted((exported.photos / "1").iterdir())[:2]
    both = drawn("--layer", "c1", "--unit", "0", "--image", photos[0], "--image", photos[1])["attention"]
    one = drawn("--layer", "c1", "--unit", "0", "--image", photos[0])["attention"]
    assert both.shape[0] > one.shape[0] + 100


def test_an_evaluation_draws_the_quick_ones(exported, tmp_path):
    import keras

    from cnn_keras.data.input_pipeline import Shape
    from pipelines.engine.classification import visualization

    model = keras.models.load_model(exported.run / "train" / "model.keras", compile=False)
    paths = visualization.draw(
        model,
        exported.run / "prepare",
        split="test",
        shape=Shape((28, 28), 1),
        names=["0", "1", "2", "3"],
        folder=tmp_path,
        console=Console(quiet=True),
    )
    assert [path.name for path in paths] == ["filters.png", "patches-c5.png", "attention.png"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_network_without_convolutions_has_no_pictures(exported, tmp_path):
    import keras

    from cnn_keras.data.input_pipeline import Shape
    from pipelines.engine.classification import visualization

    model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    arguments = {"split": "test", "shape": Shape((28, 28), 1), "names": ["0", "1", "2", "3"]}
    prepared = exported.run / "prepare"
    assert visualization.draw(model, prepared, folder=tmp_path, console=Console(quiet=True), **arguments) == []


def test_mistakes_come_after_right_answers_of_different_classes():
    from pipelines.engine.classification.visualization import Asked, representative

    labels = np.array([0, 0, 1, 1, 2, 2])
    answers = np.array([0, 0, 1, 0, 2, 1])
    probabilities = np.full((6, 3), 0.1)
    probabilities[np.arange(6), answers] = [0.8, 0.8, 0.8, 0.5, 0.8, 0.7]
    shown = representative(Asked(np.zeros((6, 2, 2, 1), np.uint8), list("abcdef"), labels, probabilities))
    assert shown.ids == ["a", "c", "e", "f", "d"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["classify/none"], Fault.INPUT, "RUN must be a run whose prepare is finished, found nothing in"),
        (["classify/small", "--unit", "3"], Fault.INPUT, "--unit must come with --layer, got 3 alone"),
        (["classify/small", "--layer", "c33"], Fault.INPUT, "got c33; did you mean c3"),
        (["classify/small", "--layer", "c3", "--unit", "16"], Fault.INPUT, "--unit must lie in 0 to 15"),
        (["classify/small", "--image", "none.png"], Fault.INPUT, "--image none.png: No such file"),
        (["classify/small", "--image", "broken.png"], Fault.DATA, "--image must be a readable image, got broken.png"),
    ],
)
def test_what_is_wrong_is_said(exported, arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert exported.cnn("insight", *arguments) == code
    assert message in capsys.readouterr().err


def test_a_saved_model_cannot_be_taken_apart(exported, capsys):
    assert exported.cnn("insight", exported.run / "export" / "small") == Fault.INPUT
    assert "got the SavedModel" in capsys.readouterr().err


def test_a_run_that_is_not_trained_is_refused(exported, tmp_path, capsys):
    shutil.copytree(exported.run / "prepare", tmp_path / "classify" / "small" / "prepare")
    assert cnn("insight", "classify/small", "--runs", tmp_path) == Fault.INPUT
    assert "RUN must be a run whose train is finished" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fresh_process_knows_the_layers_of_saved_models(tmp_path):
    from cnn_keras.models import build

    build("resnet.resnet20", input_shape=(16, 16, 1), classes=3).save(tmp_path / "model.keras")
    code = (
        "import sys, pathlib; from pipelines.export import savedmodel; savedmodel.load_keras(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.keras"], check=True)
