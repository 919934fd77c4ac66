"""A painting gets better, whatever the optimiser, and one that was killed ends as if nothing had been."""

import keras
import numpy as np
import pytest

from cnn_keras.errors import Fault
from pipelines.data.schema import parse_section
from pipelines.tasks.stylize import extractor_choice, feature_extractor
from pipelines.tasks.stylize.config import Loss, Paint
from pipelines.tasks.stylize.dataset import NamedImage
from pipelines.tasks.stylize.optimization import runner
from pipelines.tasks.stylize.optimization.optimizer_state import OptimizerState
from pipelines.tasks.stylize.optimization.painting import Painter

TINY = {
    "extractor": "stacks.three_3x3",
    "untrained": True,
    "content_layers": {"relu2": 1.0},
    "style_layers": {"relu1": 1.0, "relu3": 1.0},
    "style": 30.0,
}
DRAW = np.random.default_rng(0)
CONTENT = np.linspace(0, 255, 40 * 36 * 3).reshape(40, 36, 3).astype("uint8")
STYLES = [DRAW.integers(0, 256, size).astype("uint8") for size in ((36, 44, 3), (50, 40, 3))]


@pytest.fixture(scope="module")
def objective():
    keras.utils.set_random_seed(0)
    loss = Loss(**TINY)
    return feature_extractor.objective(extractor_choice.choose_extractor(loss), loss, STYLES)


def settings(tmp_path=None, **given):
    return parse_section(Paint, {"steps": 6, "preview": 3, "loss": TINY, **given}, folder=tmp_path)


def painter(objective, **given):
    return Painter(objective, settings(**given), styles=STYLES[:1], weights=[1.0], seed=3)


def painted(found, state=None):
    rows = []
    picture = found.paint(
        CONTENT, state or OptimizerState(), on_round=lambda state: rows.append(state.rows[-1]), on_step=lambda *_: None
    )
    return picture, rows


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_j_falls_from_round_to_round_and_the_picture_keeps_its_size(objective, optimizer):
    found = painter(objective, optimizer=optimizer, scales=[1.0], steps=9)
    picture, rows = painted(found)
    totals = [row["content"] + row["style"] for row in rows]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0]
    assert [row["step"] for row in rows] == [3, 6, 9]
    assert picture.shape == CONTENT.shape
    assert picture.dtype == "uint8"


@pytest.mark.parametrize(
    ("optimizer", "rounds"), [("lbfgs", 1), ("lbfgs", 2), pytest.param("adam", 3, marks=pytest.mark.slow)]
)
def test_a_killed_painting_goes_on_from_its_last_round_to_the_same_pixels(objective, optimizer, rounds, tmp_path):
    whole, _ = painted(painter(objective, optimizer=optimizer))

    def killed(state):
        state.save(tmp_path)
        if len(state.rows) == rounds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        painter(objective, optimizer=optimizer).paint(
            CONTENT, OptimizerState(), on_round=killed, on_step=lambda *_: None
        )
    resumed, rows = painted(painter(objective, optimizer=optimizer), OptimizerState.restored(tmp_path))
    np.testing.assert_array_equal(resumed, whole)
    assert len(rows) == 4 - rounds  # two scales of two rounds each


def test_noise_is_another_for_each_picture_and_the_same_for_a_seed(objective):
    found = painter(objective, init="noise")
    first, second = (found._begun(CONTENT, number) for number in (0, 1))
    assert np.abs(first - second).mean() > 30
    np.testing.assert_array_equal(first, painter(objective, init="noise")._begun(CONTENT, 0))
    half = painter(objective, init="blend")._begun(CONTENT, 0)
    np.testing.assert_allclose(half, (first + CONTENT) / 2, rtol=0, atol=1e-3)


def test_colours_can_be_kept(objective):
    from cnn_keras.losses.style import LUMA

    kept, _ = painted(painter(objective, colour="keep", scales=[1.0], steps=3))
    inside = ((kept > 0) & (kept < 255)).all(axis=-1)  # where nothing was cut off
    colours = [(part.astype(float) @ LUMA.T)[..., 1:][inside] for part in (kept, CONTENT)]
    np.testing.assert_allclose(*colours, atol=1)


def test_styles_are_blended_by_their_weights(objective):
    both = Painter(objective, settings(), styles=STYLES, weights=[1.0, 0.0]).wanted(CONTENT)
    first = Painter(objective, settings(), styles=STYLES[:1], weights=[5.0]).wanted(CONTENT)
    np.testing.assert_allclose(both.grams["relu1"], first.grams["relu1"], rtol=1e-5)


def test_masks_of_the_styles_are_brought_to_the_size_of_the_features(objective):
    left = np.zeros((80, 72, 3), "uint8")
    left[:, :36] = 255
    found = Painter(objective, settings(), styles=STYLES, weights=[1.0, 1.0], masks=[left, 255 - left])
    wanted = found.wanted(CONTENT)
    assert wanted.masks["relu1"].shape == (2, 40, 36)
    np.testing.assert_allclose(wanted.shares, [0.5, 0.5])
    picture, _ = painted(found)
    assert picture.shape == CONTENT.shape


def test_a_painting_that_diverges_says_so(objective, monkeypatch):
    monkeypatch.setattr(
        "pipelines.tasks.stylize.optimization.painting.LBFGS.round",
        lambda self, state, targets, count, said: {"style": float("nan")},
    )
    with pytest.raises(Fault, match="diverged") as fault:
        painted(painter(objective))
    assert fault.value.code == Fault.DIVERGED


def test_scales_must_grow_to_the_whole():
    for scales in ([1.0, 0.5], [0.5]):
        with pytest.raises(Fault, match=r"scales must grow and end with 1\.0"):
            settings(scales=scales)


@pytest.mark.slow
def test_a_gallery_goes_on_with_the_picture_it_was_at(objective, tmp_path):
    from rich.console import Console

    console = Console(quiet=True)
    pictures = [NamedImage(name, CONTENT) for name in ("one", "two")]

    def stopped(number, row):
        if number == 6:  # in the second picture
            raise KeyboardInterrupt

    whole = tmp_path / "whole"
    runner.paint(painter(objective), pictures, whole, console=console)
    killed = tmp_path / "killed"
    killed.mkdir()
    with pytest.raises(KeyboardInterrupt):
        runner.paint(painter(objective), pictures, killed, console=console, on_round=stopped)
    first = (killed / runner.PAINTINGS / "00000-one.png").stat().st_mtime_ns
    rows = runner.paint(painter(objective), pictures, killed, console=console)
    assert (killed / runner.PAINTINGS / "00000-one.png").stat().st_mtime_ns == first
    assert [row["picture"] for row in rows] == [0] * 4 + [1] * 4
    for ours, theirs in zip(runner.paintings(killed), runner.paintings(whole), strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert not (killed / "state.npz").exists()
    assert len(list((killed / runner.PREVIEWS).glob("*.png"))) == 8
