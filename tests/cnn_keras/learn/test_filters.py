"""Edge filters: steps worked by hand, scipy's operators, symmetry; and the command that draws them."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cnn_keras.errors import Fault
from cnn_keras.learn.convolution import convolution
from cnn_keras.learn.filters import HORIZONTAL, VERTICAL, edges
from tests.conftest import cnn

KINDS = tuple(VERTICAL)
NOISE = np.random.default_rng(0).integers(0, 256, (17, 23), dtype=np.uint8)
STEP = np.repeat(np.array([[10, 10, 10, 0, 0, 0]], np.uint8), 6, axis=0)  # the course's: bright left, dark right


def answer(image, weights):
    return convolution(image[np.newaxis, :, :, np.newaxis], weights[:, :, np.newaxis, np.newaxis])[0, :, :, 0]


def test_the_weights_are_those_of_the_course():
    assert VERTICAL["simple"].tolist() == [[1, 0, -1], [1, 0, -1], [1, 0, -1]]
    assert HORIZONTAL["simple"].tolist() == [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]
    assert VERTICAL["sobel"].tolist() == [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
    assert VERTICAL["scharr"].tolist() == [[3, 0, -3], [10, 0, -10], [3, 0, -3]]


def test_bright_left_and_dark_right_is_a_positive_vertical_edge_of_30():
    assert answer(STEP, VERTICAL["simple"]).tolist() == [[0, 30, 30, 0]] * 4
    assert answer(STEP[:, ::-1], VERTICAL["simple"]).tolist() == [[0, -30, -30, 0]] * 4
    assert not answer(STEP, HORIZONTAL["simple"]).any()


def test_bright_above_and_dark_below_is_a_positive_horizontal_edge():
    assert answer(STEP.T, HORIZONTAL["sobel"]).T.tolist() == [[0, 40, 40, 0]] * 4
    assert not answer(STEP.T, VERTICAL["sobel"]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_response_to_a_step_is_its_height_on_both_sides_whatever_the_sign(kind):
    for image in (STEP, STEP[:, ::-1]):
        found = edges(image, kind)
        np.testing.assert_allclose(found.vertical, [[0, 0, 10, 10, 0, 0]] * 6)
        np.testing.assert_allclose(found.horizontal, 0)
        np.testing.assert_allclose(found.magnitude, found.vertical)


def test_the_corner_of_a_square_by_hand():
    image = np.zeros((6, 6), np.uint8)
    image[:3, :3] = 100
    found = edges(image, "sobel")
    # Above and left of the corner (1 + 2) of 4 weights lie on the bright side; beyond it, 1 of 4.
    assert found.vertical[2, 2] == found.horizontal[2, 2] == 75
    assert found.magnitude[2, 2] == pytest.approx(75 * 2**0.5)
    assert found.vertical[3, 3] == 25
    assert (found.vertical[2, 3], found.horizontal[2, 3]) == (75, 25)


@pytest.mark.parametrize("kind", KINDS)
def test_responses_equal_those_of_scipy_but_for_the_sign(kind):
    image = NOISE.astype(float)
    oracles = {
        "simple": lambda axis: ndimage.prewitt(image, axis, mode="nearest") / 3,
        "sobel": lambda axis: ndimage.sobel(image, axis, mode="nearest") / 4,
        "scharr": lambda axis: (
            ndimage.correlate1d(
                ndimage.correlate1d(image, [-1, 0, 1], axis, mode="nearest"), [3, 10, 3], 1 - axis, mode="nearest"
            )
            / 16
        ),
    }
    vertical, horizontal = oracles[kind](1), oracles[kind](0)
    signed = answer(NOISE, VERTICAL[kind]) / VERTICAL[kind].clip(0).sum()
    np.testing.assert_allclose(signed, -vertical[1:-1, 1:-1], atol=1e-9)
    found = edges(NOISE, kind)
    np.testing.assert_allclose(found.vertical, np.abs(vertical), atol=1e-9)
    np.testing.assert_allclose(found.horizontal, np.abs(horizontal), atol=1e-9)
    np.testing.assert_allclose(found.magnitude, np.sqrt(vertical**2 + horizontal**2), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_turning_the_image_exchanges_the_directions(kind):
    upright, turned = edges(NOISE, kind), edges(NOISE.T, kind)
    np.testing.assert_allclose(turned.vertical, upright.horizontal.T)
    np.testing.assert_allclose(turned.magnitude, upright.magnitude.T)


def test_the_magnitude_of_scharr_depends_least_on_the_direction():
    def spread(kind):
        rows, columns = np.mgrid[-30:31, -30:31]
        greatest = []
        for angle in np.radians([0, 15, 30, 45]):
            wave = 127.5 + 120 * np.sin(0.9 * (columns * np.cos(angle) + rows * np.sin(angle)))
            greatest.append(edges(wave.astype(np.uint8), kind).magnitude[5:-5, 5:-5].max())
        return max(greatest) / min(greatest)

    assert spread("scharr") < spread("sobel") < spread("simple")


def test_colour_is_made_grey_first():
    grey = NOISE[..., np.newaxis]
    np.testing.assert_allclose(edges(np.repeat(grey, 3, axis=2)).magnitude, edges(grey).magnitude, atol=1e-9)
    red = np.stack([STEP * 10, np.zeros_like(STEP), np.zeros_like(STEP)], axis=-1)
    assert edges(red).vertical[0, 2] == pytest.approx(29.9)


def test_a_frame_is_no_edge():
    found = edges(np.full((1, 3), 200, np.uint8))
    assert found.magnitude.shape == (1, 3)
    assert not found.magnitude.any()


def test_other_kinds_and_arrays_are_refused():
    with pytest.raises(Fault, match="kind must be one of simple, sobel, scharr, got canny"):
        edges(STEP, "canny")
    for image in (STEP / 255, STEP[0], np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(Fault, match="image must be uint8"):
            edges(image)


def test_the_command_draws_four_pictures_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.kron(STEP, np.full((8, 8), 20, np.uint8))).save("step.png")
    assert cnn("edges", "step.png", "--filter", "simple") == 0
    assert "wrote step-edges.png" in capsys.readouterr().out
    with Image.open("step-edges.png") as picture:
        drawn = np.asarray(picture.convert("L"))
    photo, vertical, horizontal, magnitude = np.split(drawn[100:-100], np.arange(1, 4) * drawn.shape[1] // 4, axis=1)
    # Half of the photograph is bright; of the answers only those to the step are, and no step is horizontal.
    assert (photo == 200).mean() > 0.4
    for panel in (vertical, magnitude):
        middle = panel[:, panel.shape[1] // 2 - 3 : panel.shape[1] // 2 + 3]
        assert middle.mean() > 250
        assert (panel == 0).mean() > 0.8
    assert (horizontal == 0).mean() > 0.9


def test_the_command_shrinks_what_is_large_and_writes_where_it_is_told(tmp_path):
    Image.fromarray(np.tile(NOISE, (20, 100))).save(tmp_path / "wide.jpg")
    assert cnn("edges", tmp_path / "wide.jpg", "-o", tmp_path / "new" / "out.png") == 0
    with Image.open(tmp_path / "new" / "out.png") as picture:
        assert picture.width > 4 * 480
        assert picture.height < 480


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.png"], Fault.INPUT, "IMAGE none.png: No such file"),
        (["."], Fault.INPUT, "IMAGE .: must be a regular file, got a folder"),
        (["empty.png"], Fault.DATA, "the file is empty"),
        (["cut.png"], Fault.DATA, "IMAGE must be a readable image, got cut.png: Invalid PNG data"),
        (["step.png", "--filter", "canny"], Fault.INPUT, "--filter must be one of simple, sobel, scharr, got canny"),
        (["step.png", "-o", "out.jpg"], Fault.INPUT, "--output must end in .png, got out.jpg"),
        (["step.png", "-o", "./step.png"], Fault.INPUT, "--output must be another file than IMAGE"),
        (["step.png", "-o", "cut.png/out.png"], Fault.INPUT, "--output must be a file that can be written"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(STEP).save("step.png")
    whole = (tmp_path / "step.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:50])
    (tmp_path / "empty.png").touch()
    assert cnn("edges", *arguments) == code
    assert message in capsys.readouterr().err
    assert (tmp_path / "step.png").read_bytes() == whole
