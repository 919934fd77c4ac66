"""Pictures to paint: by name, by path, from a folder with bad files, from a video; windows of a network do not leak."""

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnn_keras.data import records
from cnn_keras.data.sources.samples import artworks
from cnn_keras.errors import Fault
from pipelines.data import image_io, video_io
from pipelines.data.schema import parse_section
from pipelines.tasks.stylize import config, dataset
from pipelines.tasks.stylize.config import Data
from pipelines.tasks.stylize.optimization import optical_flow

DRAW = np.random.default_rng(0)


def picture(*size):
    return DRAW.integers(0, 256, (*size, 3)).astype("uint8")


def write(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def data(tmp_path, **given):
    return parse_section(Data, {"styles": [{"name": "scream"}], "size": 64, **given}, folder=tmp_path)


def prepared(found, tmp_path, *, learns=False):
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder, dataset.prepare(found, folder, learns=learns, seed=0, console=Console(quiet=True))


def test_paintings_come_along_and_are_small():
    for name in artworks.PAINTINGS:
        path = artworks.picture(name)
        assert path.stat().st_size < 200_000
        assert min(image_io.read(path).shape[:2]) > 300
    with pytest.raises(Fault, match=r"must be one of starry_night, scream, .*china.*got 'mona_lisa'"):
        artworks.picture("mona_lisa")


def test_photographs_are_those_of_installed_packages(monkeypatch):
    assert {"china", "flower", "hopper"} <= set(artworks.photographs())  # of what cnn-keras itself needs
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Fault, match="needs the package skimage; `make samples`"):
        artworks.picture("astronaut")


def test_a_picture_is_brought_to_size_and_a_style_to_its_scale(tmp_path):
    write(picture(100, 200), tmp_path / "wide.png")
    found = data(tmp_path, content={"path": "wide.png"}, style_scale=0.5)
    folder, facts = prepared(found, tmp_path)
    (motif,) = dataset.contents(folder)
    assert (motif.name, motif.pixels.shape) == ("wide", (32, 64, 3))
    (style,) = dataset.styles(folder)
    assert (style.name, max(style.pixels.shape)) == ("scream", 32)
    assert facts["splits"] == {"test": 1}
    assert (folder / "contact_sheet.png").is_file()


def test_bad_files_of_a_folder_are_reported_and_left_out(tmp_path):
    for name in ("a", "b"):
        write(picture(40, 50), tmp_path / "in" / f"{name}.png")
    write(dataset.load(tmp_path / "in" / "a.png"), tmp_path / "in" / "deeper" / "copy.png")
    write(picture(8, 8), tmp_path / "in" / "tiny.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    folder, facts = prepared(data(tmp_path, content={"path": "in"}, max_bad=0.5), tmp_path)
    assert [motif.name for motif in dataset.contents(folder)] == ["a", "b"]
    assert facts["problems"] == {"small": 1, "undecodable": 1, "duplicate": 1}
    problems = (folder / "problems.csv").read_text()
    assert "dropped,tiny.png,a side of 8 pixels" in problems
    assert "broken.jpg" in problems


def test_a_folder_without_pictures_and_a_file_that_is_none_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Fault, match=r"data\.content must") as fault:
        prepared(data(tmp_path, content={"path": "empty"}), tmp_path)
    assert fault.value.code == Fault.DATA
    with pytest.raises(Fault, match=r"data\.styles\.0 .*none\.png"):
        prepared(data(tmp_path, content={"name": "china"}, styles=[{"path": "none.png"}]), tmp_path / "empty")


def test_content_must_be_given_and_masks_are_all_or_none(tmp_path):
    with pytest.raises(Fault, match=r"data\.content is required"):
        config.files_digest(data(tmp_path))
    with pytest.raises(Fault, match="must have a mask"):
        data(tmp_path, styles=[{"name": "scream", "mask": {"path": "m.png"}}, {"name": "starry_night"}])
    with pytest.raises(Fault, match="a name or a path"):
        data(tmp_path, content={"name": "china", "path": "x.png"})


def test_two_styles_of_one_name_are_told_apart(tmp_path):
    write(picture(40, 40), tmp_path / "a" / "my style.png")
    write(picture(40, 40), tmp_path / "b" / "my style.png")
    styles = [{"path": f"{folder}/my style.png"} for folder in "ab"]
    _, facts = prepared(data(tmp_path, content={"name": "china"}, styles=styles), tmp_path)
    assert facts["styles"] == ["my_style", "my_style_1"]


def test_windows_to_learn_from_are_of_other_pictures_than_those_that_test(tmp_path):
    for number in range(6):
        write(np.full((80, 90, 3), 40 * number, "uint8"), tmp_path / "in" / f"{number}.png")
    folder, facts = prepared(data(tmp_path, content={"path": "in"}, window=48, windows=3), tmp_path, learns=True)
    assert facts["splits"] == {"train": 12, "validation": 3, "test": 1}
    shades = {"test": {int(motif.pixels.mean()) for motif in dataset.contents(folder)}}
    for split in ("train", "validation"):
        from cnn_keras.data.image_decoding import decode

        rows = [decode(row["image"], channels=3).numpy() for row in records.read(folder, split)]
        assert {row.shape for row in rows} == {(48, 48, 3)}
        shades[split] = {round(row.mean() / 40) * 40 for row in rows}
    assert not shades["train"] & shades["validation"] | shades["train"] & shades["test"]


def test_too_few_pictures_to_learn_from_are_refused(tmp_path):
    write(picture(80, 90), tmp_path / "in" / "one.png")
    with pytest.raises(Fault, match="at least three training images, got 1"):
        prepared(data(tmp_path, content={"path": "in"}), tmp_path, learns=True)


def test_the_frames_of_a_video_are_read_and_written(tmp_path):
    frames = [np.full((48, 64, 3), 60 * number, "uint8") for number in range(4)]
    video_io.write(tmp_path / "clip.mp4", frames, rate=12.0)
    folder, facts = prepared(data(tmp_path, content={"path": "clip.mp4"}, size=48), tmp_path)
    assert (facts["kind"], facts["splits"]) == ("video", {"test": 4})
    assert facts["frames_per_second"] == pytest.approx(12, abs=0.1)
    found = dataset.contents(folder)
    assert {motif.pixels.shape for motif in found} == {(36, 48, 3)}
    np.testing.assert_allclose([motif.pixels.mean() for motif in found], [0, 60, 120, 180], atol=4)


def test_a_broken_video_is_refused(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(Fault, match="must be a readable video"):
        prepared(data(tmp_path, content={"path": "clip.mp4"}), tmp_path)


def test_a_painting_is_carried_along_with_what_moves():
    before = np.kron(DRAW.integers(0, 256, (12, 16, 1)), np.ones((8, 8, 3))).astype("uint8")
    after, painted = np.roll(before, 3, axis=1), np.roll(before[..., ::-1], 7, axis=2)
    carried = optical_flow.warp_forward(painted, before, after)[16:-16, 24:-24]
    still = painted[16:-16, 24:-24].astype(float)
    wanted = np.roll(painted, 3, axis=1)[16:-16, 24:-24].astype(float)
    assert np.abs(carried - wanted).mean() < 0.3 * np.abs(still - wanted).mean()
